"""Trials of the scripted trainer, recorded through the Tracker and run again."""

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweeper import provenance
from sweeper.errors import EXIT_DIFFERS, EXIT_OK, UserError
from sweeper.reproduce import reproduce
from sweeper.seam import prepare, start_training
from sweeper.tracking import Tracker, tracking_uri, trial_yaml
from sweeper.tracking.locate import open_client

TRAINER = "scripted_trainer:train"

RecordTrial = Callable[..., None]


@pytest.fixture(autouse=True)
def _trainer_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(__file__).parent
    monkeypatch.syspath_prepend(folder)  # for this process
    monkeypatch.setenv("PYTHONPATH", str(folder))  # for the rerun's
    importlib.invalidate_caches()


@pytest.fixture
def record(home: Path, tmp_path: Path) -> RecordTrial:
    """Trains the scripted trainer up to `steps`, and records that as trial ``toy-0001``, tampered with on request."""

    def run(
        config: dict[str, Any],
        steps: int | None = None,
        tamper: Callable[[int, dict[str, float]], None] = lambda step, metrics: None,
        recorded_config: dict[str, Any] | None = None,
        recorded_provenance: dict[str, Any] | None = None,
    ) -> None:
        study_dir = home / "studies" / "toy"
        study_dir.mkdir(parents=True)
        tracker = Tracker(study_dir, tracking_uri(home), home / "artifacts", "toy")
        tracker.start_study({}, {})
        found = {**provenance.collect(), "data": prepare(TRAINER, config), **(recorded_provenance or {})}
        text = trial_yaml("toy-0001", TRAINER, recorded_config or config, {})
        artifacts = {"trial.yaml": text, "provenance.json": json.dumps(found)}
        tracker.start_trial("toy-0001", {}, {"sweeper.role": "candidate"}, artifacts)
        for report in start_training(TRAINER, config, tmp_path / "work", None):
            metrics = {**report.metrics, "epoch": report.epoch}
            tamper(report.step, metrics)
            tracker.report("toy-0001", report.step, 1_000 * report.step, metrics)
            assert report.checkpoint is not None
            tracker.checkpoint("toy-0001", report.checkpoint, f"checkpoints/{report.checkpoint.name}")
            if report.step == steps:
                break
        tracker.finish_trial("toy-0001", "FINISHED", {"sweeper.state": "COMPLETE"})
        assert tracker.flush(60) == 0
        tracker.close()

    return run


def verdict_runs(home: Path) -> list[Any]:
    client = open_client(tracking_uri(home))
    experiment = client.get_experiment_by_name("toy")
    runs: list[Any] = client.search_runs([experiment.experiment_id], "tags.`sweeper.reproduces` = 'toy-0001'")
    return runs


def test_the_same_again_is_bit_exact(home: Path, record: RecordTrial, capfd: pytest.CaptureFixture[str]) -> None:
    record({"seed": 3, "scale": 0.1 + 0.2})
    assert reproduce("toy", home) == EXIT_OK
    out = capfd.readouterr().out
    assert out.endswith("verdict: BIT-EXACT\n")
    assert "24 values of 4 evaluations compared" in out  # 5 metrics and the epoch; not the seconds
    assert "weights: 4 of 4 checkpoints bit for bit equal" in out
    assert "DIFFERS" not in out
    assert not list(home.glob("reproduce-*"))

    (run,) = verdict_runs(home)
    assert run.data.tags["sweeper.verdict"] == "BIT-EXACT"
    assert run.info.status == "FINISHED"
    original = open_client(tracking_uri(home)).get_run(run.data.tags["mlflow.parentRunId"])
    assert run.data.metrics["val/pa_mpjpe_mm"] == original.data.metrics["val/pa_mpjpe_mm"]


def test_a_trial_that_was_stopped_is_rerun_only_as_far(
    home: Path, record: RecordTrial, capfd: pytest.CaptureFixture[str]
) -> None:
    record({"crash_at": 3}, steps=2)
    assert reproduce("toy-0001", home) == EXIT_OK
    captured = capfd.readouterr()
    assert "12 values of 2 evaluations compared" in captured.out
    assert captured.err.count("rerun: evaluation") == 2


def test_until_an_epoch(home: Path, record: RecordTrial, capfd: pytest.CaptureFixture[str]) -> None:
    record({"epochs": 6})
    assert reproduce("toy-0001", home, until=2) == EXIT_OK
    assert "values of 2 evaluations compared\nverdict: BIT-EXACT" in capfd.readouterr().out.replace("\n\n", "\n")


def test_a_loss_that_became_nan_is_reproduced(home: Path, record: RecordTrial) -> None:
    record({"nan_at": 2})
    assert reproduce("toy-0001", home) == EXIT_OK


def test_noise_within_tolerance(home: Path, record: RecordTrial, capfd: pytest.CaptureFixture[str]) -> None:
    record({"noise": True, "noise_mm": 1e-3})
    assert reproduce("toy-0001", home) == EXIT_OK
    assert "verdict: WITHIN TOLERANCE (largest relative deviation" in capfd.readouterr().out


def test_noise_beyond_tolerance(home: Path, record: RecordTrial, capfd: pytest.CaptureFixture[str]) -> None:
    record({"noise": True, "noise_mm": 50.0})
    assert reproduce("toy-0001", home) == EXIT_DIFFERS
    assert "verdict: DIFFERS from epoch 1 (train/loss)" in capfd.readouterr().out


def test_the_first_epoch_that_differs_is_named(
    home: Path, record: RecordTrial, capfd: pytest.CaptureFixture[str]
) -> None:
    def tamper(step: int, metrics: dict[str, float]) -> None:
        if step >= 3:
            metrics["val/skill"] += 0.5

    record({}, tamper=tamper)
    assert reproduce("toy-0001", home) == EXIT_DIFFERS
    assert "verdict: DIFFERS from epoch 3 (val/skill)" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("config", "recorded", "verdict"),
    [
        ({"seed": 1}, {"seed": 2}, "DIFFERS from epoch 1"),
        ({"scale": 0.3}, {"scale": 0.1 + 0.2}, "WITHIN TOLERANCE"),  # the last bit of one parameter
    ],
)
def test_a_changed_config_shows(
    home: Path,
    record: RecordTrial,
    capfd: pytest.CaptureFixture[str],
    config: dict[str, Any],
    recorded: dict[str, Any],
    verdict: str,
) -> None:
    record(config, recorded_config=recorded)
    reproduce("toy-0001", home)
    assert f"verdict: {verdict}" in capfd.readouterr().out


def test_changed_data_are_named_as_the_cause(
    home: Path, record: RecordTrial, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data.bin"
    data.write_bytes(b"12")
    record({"data_file": str(data)})
    data.write_bytes(b"123")
    assert reproduce("toy-0001", home) == EXIT_DIFFERS
    out = capfd.readouterr().out
    assert "likely cause: data: data (6b51d431df5d -> a665a4592042)\nverdict: DIFFERS from epoch 1" in out


def test_another_package_version_is_drift_but_no_difference(
    home: Path, record: RecordTrial, capfd: pytest.CaptureFixture[str]
) -> None:
    packages = {**provenance.collect()["packages"], "numpy": "0.1"}
    record({}, recorded_provenance={"packages": packages})
    assert reproduce("toy-0001", home) == EXIT_OK
    out = capfd.readouterr().out
    assert "DIFFERS  numpy 0.1 -> " in out
    assert "verdict: BIT-EXACT" in out


def test_weights_that_differ_are_not_bit_exact(
    home: Path, record: RecordTrial, capfd: pytest.CaptureFixture[str]
) -> None:
    record({})
    (manifest,) = (home / "artifacts").rglob("epoch_004/manifest.json")
    content = json.loads(manifest.read_text())
    content["files"]["weights.safetensors"]["sha256"] = "0" * 64
    manifest.write_text(json.dumps(content))
    assert reproduce("toy-0001", home) == EXIT_OK
    out = capfd.readouterr().out
    assert "verdict: WITHIN TOLERANCE (every metric is equal, the weights differ from step 4)" in out


def test_a_rerun_that_breaks_down_differs(home: Path, record: RecordTrial, capfd: pytest.CaptureFixture[str]) -> None:
    record({}, recorded_config={"crash_at": 3})
    assert reproduce("toy-0001", home) == EXIT_DIFFERS
    out = capfd.readouterr().out
    assert "verdict: DIFFERS from epoch 3 (the rerun did not get there)" in out
    assert "the script says crash at epoch 3" in out


def test_a_trainer_that_does_not_start(home: Path, record: RecordTrial) -> None:
    record({}, recorded_config={"no_such_field": 1})
    with pytest.raises(UserError, match="the training of `toy-0001` does not start") as caught:
        reproduce("toy-0001", home)
    assert "no_such_field" in caught.value.render()


def test_a_trial_without_reports(home: Path, record: RecordTrial) -> None:
    record({}, steps=1)
    tracker = Tracker(home / "studies" / "toy", tracking_uri(home), home / "artifacts", "toy")
    tracker.start_trial("toy-0002", {}, {}, {"trial.yaml": trial_yaml("toy-0002", TRAINER, {}, {})})
    assert tracker.flush(60) == 0
    tracker.close()
    with pytest.raises(UserError, match="`toy-0002` reported nothing"):
        reproduce("toy-0002", home)
