"""`sweeper gc`: what it removes, and that what is needed stays. And the winner as a registered model."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from checker import results
from faulty import SPEC, sweep
from mlflow_helpers import uri_of

from sweeper.cli.main import main
from sweeper.errors import UserError
from sweeper.maintenance.gc import find_garbage, remove
from sweeper.tracking import find_trial, register_winner
from sweeper.tracking.store.client import open_client

pytestmark = pytest.mark.slow


def make_home(folder: Path, template_db: Path) -> Path:
    home = folder / "home"
    home.mkdir()
    shutil.copy(template_db, home / "mlflow.db")
    (folder / "spec.yaml").write_text(f"{SPEC}controls: []\nretention: last\n")
    return home


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, template_db: Path) -> Path:
    """The home of a finished study, with an incomplete checkpoint and the artifacts of a lost run in it."""
    home = make_home(tmp_path_factory.mktemp("finished"), template_db)
    done = sweep(home, "run")
    assert done.returncode == 0, done.stderr
    for lost in (home / "artifacts/scripted" / ("ab" * 16), home / "studies/scripted/trials/0001/.epoch_009.partial"):
        lost.mkdir()
        (lost / "weights.safetensors").write_bytes(b"x" * 1000)
    return home


def gc(home: Path, capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    assert main(["gc", "--home", str(home), "--json", *options]) == 0
    said: dict[str, Any] = json.loads(capsys.readouterr().out)
    return said


def weights(home: Path) -> set[str]:
    return {str(path.relative_to(home)) for path in home.rglob("weights.safetensors")}


def test_mlflow_has_only_the_weights_that_retention_keeps_but_every_checksum(finished: Path) -> None:
    trial = find_trial(uri_of(finished), "scripted:best")
    assert list(trial.manifests) == [f"epoch_00{epoch}" for epoch in (1, 2, 3, 4)]
    assert set(trial.sums) == set(trial.manifests)
    kept = {path.split("/")[-2] for path in weights(finished) if f"{trial.run_id}/" in path}
    assert kept == {"epoch_004"}


def test_a_checkpoint_that_differs_from_its_copy_is_not_removed(tmp_path: Path, finished: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(finished, home)
    held = next(each for each in find_garbage(home)[0] if "MLflow holds" in each.why)
    file = held.folder / "weights.safetensors"
    file.write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:])
    assert not remove(home, held)
    assert file.exists()


def test_gc_lists_then_removes_and_the_winner_can_still_be_reproduced(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = weights(finished)
    named = gc(finished, capsys)
    assert weights(finished) == before, "a dry run"
    reasons = {row["why"].partition(" has ended, and ")[2] or row["why"] for row in named["found"]}
    assert reasons == {
        "MLflow holds this checkpoint",
        "retention is `last`",
        "an incomplete checkpoint, left by a killed worker",
        "artifacts of a run that is not in MLflow",
    }
    removed = gc(finished, capsys, "--delete")
    assert removed["bytes"] == named["bytes"] > 2000
    assert all(path.startswith("artifacts/scripted/") for path in weights(finished))
    assert not any(f"{'ab' * 16}" in path for path in weights(finished))
    assert gc(finished, capsys)["found"] == []
    assert sweep(finished, "sync", "scripted").stdout.startswith("scripted: nothing to do")
    again = sweep(finished, "reproduce", "scripted:best")
    assert again.returncode == 0, again.stdout + again.stderr


def test_an_unfinished_study_resumes_after_gc_as_if_nothing_had_happened(
    tmp_path: Path, finished: Path, template_db: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = make_home(tmp_path, template_db)
    assert sweep(home, "run", KILL_WRITE="27:after").returncode == -9
    running = [trial for trial, found in results(home).items() if found["state"] == "RUNNING"]
    assert running, "it was killed inside a trial"
    assert sweep(home, "sync", "scripted").returncode == 0
    gc(home, capsys, "--delete")
    resumed = sweep(home, "resume", "scripted")
    assert resumed.returncode == 0, resumed.stderr
    assert results(home) == results(finished)


def test_the_winner_is_registered_once_with_its_alias(finished: Path) -> None:
    uri = uri_of(finished)
    made = [register_winner(uri, "scripted:best", "val/pa_mpjpe_mm", "min") for _ in range(2)]
    assert made[0] == made[1]
    assert (made[0].model, made[0].version, made[0].checkpoint) == ("scripted", "1", "epoch_004")
    version = open_client(uri).get_model_version_by_alias("scripted", "winner")
    trial = find_trial(uri, "scripted:best")
    assert version.run_id == trial.run_id
    assert version.tags["sweeper.manifest_sha256"] == trial.sums["epoch_004"]
    assert Path(version.source, "weights.safetensors").is_file()
    with pytest.raises(UserError, match="no whole checkpoint of `scripted-0000` with a value of val/none"):
        register_winner(uri, "scripted-0000", "val/none", "min")
