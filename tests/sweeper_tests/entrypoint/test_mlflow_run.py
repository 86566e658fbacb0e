"""A trainer's own MLflow calls go to the run that the driver has made for its trial."""

import subprocess
import sys
from pathlib import Path

import pytest

from sweeper.entrypoint.trial.mlflow_run import RUN_FILE, write_run_file

SCRIPT = """
import sys, pathlib
from sweeper.entrypoint.trial.mlflow_run import hand_over_run
hand_over_run("theirs:train", pathlib.Path(sys.argv[1]))
import mlflow
mlflow.set_tracking_uri("sqlite:///elsewhere.db")
mlflow.set_experiment("their own")
for part in (1, 2):
    with mlflow.start_run(run_name="theirs"):
        mlflow.log_metric("own/metric", part, step=part)
mlflow.log_param("own", "yes")
"""


@pytest.mark.slow
def test_existing_code_that_logs_to_mlflow_logs_to_the_trials_run(tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    client = MlflowClient(uri)
    run = client.create_run(client.create_experiment("study", str(tmp_path / "artifacts")), run_name="toy-0000")
    write_run_file(tmp_path, uri, run.info.run_id)
    assert (tmp_path / RUN_FILE).stat().st_mode & 0o777 == 0o600
    (tmp_path / "theirs.py").write_text("def train(config, workdir, resume): yield\n")
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / RUN_FILE)]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=300)

    found = client.get_run(run.info.run_id)
    assert [point.value for point in client.get_metric_history(run.info.run_id, "own/metric")] == [1.0, 2.0]
    assert found.data.params == {"own": "yes"}
    assert (found.info.run_name, found.info.status) == ("toy-0000", "RUNNING"), "the driver says how it ends"
    assert not (tmp_path / "elsewhere.db").exists()
    assert [experiment.name for experiment in client.search_experiments()] == ["study", "Default"]


def test_an_mlflow_run_that_never_appears_costs_a_while_but_no_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from sweeper.entrypoint.trial import mlflow_run

    monkeypatch.setattr(mlflow_run, "WAIT_FOR_PROGRAM_S", 0.05)
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    mlflow_run.hand_over_run("sweeper.entrypoint.program.command:train", tmp_path / RUN_FILE)
    assert "the trial's MLflow run does not exist" in capsys.readouterr().err
