"""Trials of the scripted trainer, recorded through the Tracker and run again."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from places import ROOT, TESTS
from recording import artifact, changed, record_trial, with_config
from safetensors.numpy import save

from sweeper.cli.main import main
from sweeper.errors import EXIT_BAD_INPUT, EXIT_DIFFERS, EXIT_OK
from sweeper.reproducibility.reproduce import reproduce
from sweeper.tracking import tracking_uri
from sweeper.tracking.schema import TAG_SUM
from sweeper.tracking.store.client import open_client

TRAINER = "scripted_trainer:train"
SCALE = 0.1 + 0.2
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _trainer_of_the_rerun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, template_db: Path) -> Path:
    """A home with nothing left of the study but MLflow's store: ``toy-0001``, four epochs and checkpoints."""
    home = tmp_path_factory.mktemp("reproduce") / "home"
    home.mkdir()
    shutil.copy(template_db, home / "mlflow.db")
    record_trial(home, TRAINER, {"seed": 3, "scale": SCALE})
    for gone in ("studies", "data"):
        shutil.rmtree(home / gone, ignore_errors=True)
    return home


def verdict_runs(home: Path) -> list[Any]:
    """Newest first."""
    client = open_client(tracking_uri(home))
    experiment = client.get_experiment_by_name("toy")
    runs: list[Any] = client.search_runs([experiment.experiment_id], "tags.`sweeper.reproduces` = 'toy-0001'")
    return runs


def test_an_unchanged_rerun_is_bit_exact(study: Path, capfd: Capture) -> None:
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
        ("threads", 2, "BIT-EXACT", ""),  # for this trainer
    ],
)
def test_a_changed_config_is_reported(
    study: Path, capfd: Capture, key: str, value: float, verdict: str, cause: str
) -> None:
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


def test_different_weights_with_equal_metrics_differ(study: Path, capfd: Capture) -> None:
    other = save({"walk": np.array([1000.0])})

    def of_other(content: bytes) -> bytes:
        manifest = json.loads(content)
        manifest["files"]["weights.safetensors"]["sha256"] = hashlib.sha256(other).hexdigest()
        return json.dumps(manifest).encode()

    folder = artifact(study, "epoch_004")
    with changed(folder / "manifest.json", of_other), changed(folder / "weights.safetensors", lambda _: other):
        assert reproduce("toy-0001", study) == EXIT_OK  # the manifest is not the recorded one, so it proves nothing
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
def test_a_record_that_cannot_be_used_is_refused(
    study: Path, capfd: Capture, name: str, change: Callable[[bytes], bytes], options: list[str], message: str
) -> None:
    with changed(artifact(study, name), change):
        assert main(["reproduce", "toy-0001", *options, "--home", str(study)]) == EXIT_BAD_INPUT
    err = capfd.readouterr().err
    assert err.startswith("error: ")
    assert message in err
    assert "Traceback" not in err


def test_a_checkpoint_of_which_only_the_checksums_were_kept_is_refused(study: Path, capfd: Capture) -> None:
    weights = artifact(study, "epoch_002/weights.safetensors")
    away = weights.rename(study / "away")
    try:
        options = ["--from-checkpoint", "2", "--home", str(study)]
        assert main(["reproduce", "toy-0001", *options]) == EXIT_BAD_INPUT
    finally:
        away.rename(weights)
    assert "MLflow keeps only the checksums of the checkpoint epoch_002 of `toy-0001`\nhelp: " in capfd.readouterr().err


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
        children = psutil.Process(run.pid).children()  # the training, and perhaps git
        run.terminate()
        assert run.wait(240) == 143
    assert psutil.wait_procs(children, timeout=60)[1] == []
    assert not found[0].parent.exists()


def test_missing_artifacts_are_reported(study: Path, capfd: Capture) -> None:
    (study / "artifacts").rename(study / "moved")
    try:
        assert main(["reproduce", "toy-0001", "--home", str(study)]) == EXIT_BAD_INPUT
    finally:
        (study / "moved").rename(study / "artifacts")
    err = capfd.readouterr().err
    assert "error: `toy-0001` has no trial.yaml in MLflow" in err
    assert f"They belong in {study}/artifacts/toy/" in err


@pytest.mark.parametrize("selector", ["../../etc/passwd", "/toy-0001", "toy-0001\\x"])
def test_a_path_is_not_an_id(study: Path, capfd: Capture, selector: str) -> None:
    assert main(["reproduce", selector, "--home", str(study)]) == EXIT_BAD_INPUT
    err = capfd.readouterr().err
    assert "is a path\nhelp: a trial is named by its ID" in err
