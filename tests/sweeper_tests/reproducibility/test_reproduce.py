"""Trials of the scripted trainer, recorded through the Tracker and run again."""

import hashlib
import importlib
import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from places import ROOT, TESTS
from recording import artifact, changed, record_trial, with_config
from safetensors.numpy import save

from sweeper.cli.main import main
from sweeper.errors import EXIT_BAD_INPUT, EXIT_DIFFERS, EXIT_OK, UserError
from sweeper.reproducibility.reproduce import reproduce
from sweeper.tracking import Tracker, tracking_uri, trial_yaml
from sweeper.tracking.schema import TAG_SUM
from sweeper.tracking.store.client import open_client

TRAINER = "scripted_trainer:train"
SCALE = 0.1 + 0.2
Capture = pytest.CaptureFixture[str]
RecordTrial = Callable[..., None]


@pytest.fixture(autouse=True, scope="module")
def _trainer_importable() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        folder = TESTS
        patch.syspath_prepend(folder)  # for this process
        patch.setenv("PYTHONPATH", str(folder))  # for the rerun's
        importlib.invalidate_caches()
        yield


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, template_db: Path) -> Path:
    """A home where only MLflow's store is left of the study: ``toy-0001``, four epochs and checkpoints."""
    home = tmp_path_factory.mktemp("reproduce") / "home"
    home.mkdir()
    shutil.copy(template_db, home / "mlflow.db")
    record_trial(home, TRAINER, {"seed": 3, "scale": SCALE})
    for gone in ("studies", "data"):
        shutil.rmtree(home / gone, ignore_errors=True)
    return home


@pytest.fixture
def record(home: Path) -> RecordTrial:
    def run(config: dict[str, Any], steps: int | None = None, tamper: Any = None) -> None:
        record_trial(home, TRAINER, config, steps, tamper)

    return run


def verdict_runs(home: Path) -> list[Any]:
    """Newest first."""
    client = open_client(tracking_uri(home))
    experiment = client.get_experiment_by_name("toy")
    runs: list[Any] = client.search_runs([experiment.experiment_id], "tags.`sweeper.reproduces` = 'toy-0001'")
    return runs


def test_the_same_again_is_bit_exact(study: Path, capfd: Capture) -> None:
    assert main(["reproduce", "toy", "--home", str(study)]) == EXIT_OK
    out = capfd.readouterr().out
    assert out.endswith("verdict: BIT-EXACT\n")
    assert "24 values of 4 evaluations compared" in out  # 5 metrics and the epoch; not the seconds
    assert "weights: 4 of 4 checkpoints bit for bit equal" in out
    assert "DIFFERS" not in out
    assert not list(study.glob("reproduce-*"))
    assert not (study / "studies").exists()

    run = verdict_runs(study)[0]
    assert run.data.tags["sweeper.verdict"] == "BIT-EXACT"
    assert run.info.status == "FINISHED"
    original = open_client(tracking_uri(study)).get_run(run.data.tags["mlflow.parentRunId"])
    assert run.data.metrics["reproduced/val/pa_mpjpe_mm"] == original.data.metrics["val/pa_mpjpe_mm"]


def test_until_an_epoch(study: Path, capfd: Capture) -> None:
    assert main(["reproduce", "toy-0001", "--until", "2", "--json", "--home", str(study)]) == EXIT_OK
    told = json.loads(capfd.readouterr().out)
    assert told["compared"] == {"values": 12, "evaluations": 2}
    assert (told["verdict"], told["weights_equal"]) == ("BIT-EXACT", {"1": True, "2": True})


def test_from_a_checkpoint(study: Path, capfd: Capture) -> None:
    assert main(["reproduce", "toy-0001", "--from-checkpoint", "3", "--home", str(study)]) == EXIT_OK
    captured = capfd.readouterr()
    assert "6 values of 1 evaluations compared" in captured.out  # the fourth
    assert "weights: 1 of 1 checkpoints bit for bit equal" in captured.out
    assert captured.err == "  rerun: evaluation 4 of 4\n"


@pytest.mark.parametrize(
    ("key", "value", "verdict", "cause"),
    [
        ("seed", 4, "DIFFERS from epoch 1 (train/loss)", "config (seed 3 -> 4)"),
        ("scale", 0.3, "WITHIN TOLERANCE (largest", "config (scale 0.30000000000000004 -> 0.3)"),  # its last bit
        ("threads", 2, "BIT-EXACT", ""),  # of this trainer
    ],
)
def test_another_config_shows(study: Path, capfd: Capture, key: str, value: float, verdict: str, cause: str) -> None:
    with changed(artifact(study, "trial.yaml"), with_config(key, value)):
        reproduce("toy-0001", study)
    out = capfd.readouterr().out
    assert f"verdict: {verdict}" in out
    assert f"likely cause: {cause}\n" in out if cause else "it made no difference that these differ: config\n" in out
    run = verdict_runs(study)[0]
    assert run.data.tags.get("sweeper.likely_cause", "") == cause


def test_another_package_version_is_drift_but_no_difference(study: Path, capfd: Capture) -> None:
    def older(content: bytes) -> bytes:
        record = json.loads(content)
        record["packages"]["numpy"] = "0.1"
        return json.dumps(record).encode()

    with changed(artifact(study, "provenance.json"), older):
        assert reproduce("toy-0001", study) == EXIT_OK
    out = capfd.readouterr().out
    assert "DIFFERS  numpy 0.1 -> " in out
    assert "it made no difference that these differ: packages\nverdict: BIT-EXACT" in out


def test_other_weights_under_equal_metrics_differ(study: Path, capfd: Capture) -> None:
    other = save({"walk": np.array([1000.0])})

    def of_other(content: bytes) -> bytes:
        manifest = json.loads(content)
        manifest["files"]["weights.safetensors"]["sha256"] = hashlib.sha256(other).hexdigest()
        return json.dumps(manifest).encode()

    folder = artifact(study, "epoch_004")
    with changed(folder / "manifest.json", of_other), changed(folder / "weights.safetensors", lambda _: other):
        assert reproduce("toy-0001", study) == EXIT_OK  # the manifest is not the recorded one: no proof of anything
    assert "damaged in MLflow: its manifest is not the one that was recorded" in capfd.readouterr().out
    client = open_client(tracking_uri(study))
    run_id = verdict_runs(study)[0].data.tags["mlflow.parentRunId"]
    recorded = client.get_run(run_id).data.tags[f"{TAG_SUM}epoch_004"]
    with changed(folder / "manifest.json", of_other), changed(folder / "weights.safetensors", lambda _: other):
        told = hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
        client.set_tag(run_id, f"{TAG_SUM}epoch_004", told)
        assert reproduce("toy-0001", study) == EXIT_DIFFERS
    client.set_tag(run_id, f"{TAG_SUM}epoch_004", recorded)
    out = capfd.readouterr().out
    assert "verdict: DIFFERS from epoch 4 (every metric is equal, the weights walk)" in out
    assert "weights: from step 4; there walk differs by up to 1e+03" in out


def flipped(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize(
    ("name", "change", "options", "message"),
    [
        ("trial.yaml", lambda _: b"{", [], "trial.yaml of `toy-0001` in MLflow is damaged"),
        ("epoch_003/weights.safetensors", flipped, ["--from-checkpoint", "3"], "does not match the manifest"),
        (
            "epoch_003/manifest.json",
            lambda text: text + b" ",
            ["--from-checkpoint", "3"],
            "not the one that was recorded",
        ),
        ("trial.yaml", lambda text: text, ["--from-checkpoint", "7"], "no checkpoint of epoch 7 of `toy-0001`"),
        ("trial.yaml", lambda text: text, ["--from-checkpoint", "4"], "reported nothing after epoch 4"),
    ],
)
def test_a_record_that_cannot_be_used(
    study: Path, capfd: Capture, name: str, change: Callable[[bytes], bytes], options: list[str], message: str
) -> None:
    with changed(artifact(study, name), change):
        assert main(["reproduce", "toy-0001", *options, "--home", str(study)]) == EXIT_BAD_INPUT
    err = capfd.readouterr().err
    assert err.startswith("error: ")
    assert message in err
    assert "Traceback" not in err


def test_a_checkpoint_of_which_only_the_sums_were_kept(study: Path, capfd: Capture) -> None:
    weights = artifact(study, "epoch_002/weights.safetensors")
    away = weights.rename(study / "away")
    try:
        options = ["--from-checkpoint", "2", "--home", str(study)]
        assert main(["reproduce", "toy-0001", *options]) == EXIT_BAD_INPUT
    finally:
        away.rename(weights)
    assert "of the checkpoint epoch_002 of `toy-0001` MLflow keeps the sums alone\nhelp: " in capfd.readouterr().err


@pytest.mark.slow
def test_sigterm_leaves_nothing_behind(study: Path) -> None:
    with changed(artifact(study, "trial.yaml"), with_config("sleep_s", 60.0)):
        command = [sys.executable, "-m", "sweeper", "reproduce", "toy-0001", "--home", str(study)]
        paths = os.pathsep.join([str(ROOT), str(TESTS)])
        run = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": paths}, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while not (found := list(study.glob("reproduce-*/log.txt"))) or not psutil.Process(run.pid).children():
            assert run.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        children = psutil.Process(run.pid).children()  # the training, and git perhaps
        run.terminate()
        assert run.wait(240) == 143
    assert psutil.wait_procs(children, timeout=60)[1] == []
    assert not found[0].parent.exists()


def test_artifacts_that_are_missing(study: Path, capfd: Capture) -> None:
    (study / "artifacts").rename(study / "moved")
    try:
        assert main(["reproduce", "toy-0001", "--home", str(study)]) == EXIT_BAD_INPUT
    finally:
        (study / "moved").rename(study / "artifacts")
    err = capfd.readouterr().err
    assert "error: `toy-0001` has no trial.yaml in MLflow" in err
    assert f"They belong in {study}/artifacts/toy/" in err


@pytest.mark.parametrize("selector", ["../../etc/passwd", "/toy-0001", "toy-0001\\x"])
def test_a_path_is_no_id(study: Path, capfd: Capture, selector: str) -> None:
    assert main(["reproduce", selector, "--home", str(study)]) == EXIT_BAD_INPUT
    err = capfd.readouterr().err
    assert "is a path\nhelp: a trial is named by its ID" in err


def test_a_trial_that_was_stopped_is_rerun_only_as_far(home: Path, record: RecordTrial, capfd: Capture) -> None:
    record({"crash_at": 3}, steps=2)
    assert reproduce("toy-0001", home) == EXIT_OK
    captured = capfd.readouterr()
    assert "12 values of 2 evaluations compared" in captured.out
    assert captured.err.count("rerun: evaluation") == 2


def test_a_loss_that_became_nan_is_reproduced(home: Path, record: RecordTrial) -> None:
    record({"nan_at": 2})
    assert reproduce("toy-0001", home) == EXIT_OK


@pytest.mark.parametrize(
    ("noise_mm", "code", "verdict"),
    [
        (1e-3, EXIT_OK, "WITHIN TOLERANCE (largest relative deviation"),
        (50.0, EXIT_DIFFERS, "DIFFERS from epoch 1 (train/loss)"),
    ],
)
def test_noise_that_no_seed_controls(
    home: Path, record: RecordTrial, capfd: Capture, noise_mm: float, code: int, verdict: str
) -> None:
    record({"noise": True, "noise_mm": noise_mm})
    assert reproduce("toy-0001", home) == code
    out = capfd.readouterr().out
    assert "likely cause: nothing that is recorded differs" in out
    assert f"verdict: {verdict}" in out


def test_the_first_epoch_that_differs_is_named(home: Path, record: RecordTrial, capfd: Capture) -> None:
    def tamper(step: int, metrics: dict[str, float]) -> None:
        if step >= 3:
            metrics["val/skill"] += 0.5
        if step >= 2:
            metrics["val/skill"] = math.nextafter(metrics["val/skill"], math.inf)

    record({}, tamper=tamper)
    assert reproduce("toy-0001", home) == EXIT_DIFFERS
    out = capfd.readouterr().out
    assert "bit for bit equal up to epoch 1\n" in out
    assert "verdict: DIFFERS from epoch 3 (val/skill)" in out


def test_changed_data_are_named_as_the_cause(home: Path, record: RecordTrial, tmp_path: Path, capfd: Capture) -> None:
    data = tmp_path / "data.bin"
    data.write_bytes(b"12")
    record({"data_file": str(data)})
    data.write_bytes(b"123")
    assert reproduce("toy-0001", home) == EXIT_DIFFERS
    out = capfd.readouterr().out
    assert "likely cause: data: data (6b51d431df5d -> a665a4592042)\nverdict: DIFFERS from epoch 1" in out


def test_a_rerun_that_breaks_down_differs(home: Path, record: RecordTrial, tmp_path: Path, capfd: Capture) -> None:
    trap = tmp_path / "trap"
    record({"crash_if": str(trap)})
    trap.touch()
    with pytest.raises(UserError, match="the training of `toy-0001` does not start") as caught:
        reproduce("toy-0001", home)
    assert "the script says crash until it is fixed" in caught.value.render()
    with changed(artifact(home, "trial.yaml"), with_config("crash_at", 3)):
        trap.unlink()
        assert reproduce("toy-0001", home) == EXIT_DIFFERS
    out = capfd.readouterr().out
    assert "verdict: THE RERUN DID NOT FINISH (it ended before epoch 3)" in out
    assert "the script says crash at epoch 3" in out


def test_a_trial_without_reports(home: Path, record: RecordTrial) -> None:
    record({}, steps=1)
    tracker = Tracker(home / "studies" / "toy", tracking_uri(home), home / "artifacts", "toy")
    tracker.start_trial("toy-0002", {}, {}, {"trial.yaml": trial_yaml("toy-0002", TRAINER, {}, {})})
    assert tracker.flush(60) == 0
    tracker.close()
    with pytest.raises(UserError, match="`toy-0002` reported nothing"):
        reproduce("toy-0002", home)
