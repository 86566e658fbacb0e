"""A study whose MLflow was unreachable, and its layout there in the end."""

import csv
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from faulty import SPEC, sweep
from mlflow_helpers import points_in_ledger, points_in_mlflow, uri_of
from ports import free_port

from sweeper.cli.main import main
from sweeper.tracking import find_trial
from sweeper.tracking.store.client import open_client

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def away(tmp_path_factory: pytest.TempPathFactory, template_db: Path) -> Iterator[Path]:
    """The home of a study that ran to its end while its tracking server was unreachable."""
    home = tmp_path_factory.mktemp("away") / "home"
    home.mkdir()
    shutil.copy(template_db, home / "mlflow.db")
    (home.parent / "spec.yaml").write_text(SPEC)
    done = sweep(home, "run", MLFLOW_TRACKING_URI=f"http://127.0.0.1:{free_port()}")
    assert done.returncode == 0, done.stderr
    assert "records wait for MLflow" in done.stderr
    return home


def sync(home: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    code = main(["sync", "scripted", "--home", str(home), "--json"])
    said: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert code == (1 if said["left"] else 0)
    return said


def test_sync_delivers_what_is_left_and_says_so(away: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = sync(away, capsys)
    assert said["delivered"] > 50
    assert (said["left"], said["refused"], said["problem"]) == (0, 0, None)
    assert points_in_mlflow(uri_of(away), "scripted") == points_in_ledger(away, "scripted")
    assert main(["sync", "scripted", "--home", str(away)]) == 0
    assert capsys.readouterr().out.startswith("scripted: nothing to do, MLflow is up to date (sqlite:")


def runs(home: Path) -> tuple[Any, dict[str, Any]]:
    """The study's run, and those of its trials by ID."""
    client = open_client(uri_of(home))
    experiment = client.get_experiment_by_name("scripted")
    found = client.search_runs([experiment.experiment_id])
    children = {run.data.tags["sweeper.trial_id"]: run for run in found if "sweeper.trial_id" in run.data.tags}
    [parent] = [run for run in found if run.info.run_id not in {child.info.run_id for child in children.values()}]
    return parent, children


def artifact(home: Path, run: Any, path: str, scratch: Path) -> str:
    return Path(open_client(uri_of(home)).download_artifacts(run.info.run_id, path, str(scratch))).read_text()


def test_the_parent_run_shows_the_study(away: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sync(away, capsys)
    parent, _ = runs(away)
    assert parent.data.tags["mlflow.note.content"].startswith("# scripted\n")
    rows = list(csv.DictReader(io.StringIO(artifact(away, parent, "trials.csv", tmp_path))))
    assert [row["trial"] for row in rows[:4]] == [f"scripted-000{number}" for number in range(4)]
    ledger = points_in_ledger(away, "scripted")
    complete = next(row for row in rows if row["state"] == "COMPLETE")
    assert [complete["val/pa_mpjpe_mm"]] == ledger[complete["trial"], "val/pa_mpjpe_mm", 4]
    for report in ("report.md", "report.html"):
        assert "best trial: scripted-" in artifact(away, parent, report, tmp_path)


def test_a_trial_shows_its_parameters_its_state_and_its_data(away: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sync(away, capsys)
    _, children = runs(away)
    trials = {name: run for name, run in children.items() if run.data.tags["sweeper.role"] == "candidate"}
    assert {name: set(run.data.params) for name, run in trials.items()} == {name: {"scale"} for name in trials}
    for run in trials.values():
        assert run.data.tags["sweeper.sampler"] == "tpe"
        assert run.data.tags["sweeper.reason"]
        assert (run.data.tags["sweeper.state"], run.data.tags["sweeper.rung"]) in {
            ("COMPLETE", "2"),
            ("PRUNED", "2"),
            ("COLLAPSED", "2"),
        }
        [read] = run.inputs.dataset_inputs
        assert read.dataset.name == "data"
        assert json.loads(read.dataset.source)["sha256"].startswith(read.dataset.digest)
    assert children["scripted-oracle"].data.tags["sweeper.control"] == "oracle"
    assert "sweeper.sampler" not in children["scripted-oracle"].data.tags


def test_the_metrics_of_a_control_are_renamed_and_read_back_under_the_trainers_names(
    away: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sync(away, capsys)
    parent, children = runs(away)
    metrics = children["scripted-oracle"].data.metrics
    assert "control/val/pa_mpjpe_mm" in metrics
    assert not any(name.startswith("val/") for name in metrics), "no list that is sorted by the objective ranks it"
    recorded = find_trial(uri_of(away), "scripted-oracle").metrics
    assert {name for values in recorded.values() for name in values} >= {"val/pa_mpjpe_mm", "epoch"}
    oracle = children["scripted-oracle"].info
    link = f"[scripted-oracle](#/experiments/{oracle.experiment_id}/runs/{oracle.run_id})"
    assert link in parent.data.tags["mlflow.note.content"]
    for name, run in children.items():
        assert run.data.tags["mlflow.note.content"].removeprefix("**Winner**").count(f"{name} was ") == 1


def test_sync_of_an_unknown_study_is_refused(away: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sync", "nonesuch", "--home", str(away)]) == 2
    assert "no study `nonesuch`" in capsys.readouterr().err


def test_another_store_gets_everything(
    away: Path, template_db: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sync(away, capsys)
    shutil.copy(template_db, tmp_path / "other.db")
    other = f"sqlite:///{tmp_path}/other.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", other)
    said = sync(away, capsys)
    assert said["delivered"] > 50
    assert points_in_mlflow(other, "scripted") == points_in_ledger(away, "scripted")
