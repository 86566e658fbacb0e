"""Trials of the scripted trainer, each odd in its own way (stopped, noisy, on data that changed), run again."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from places import TESTS
from recording import artifact, changed, record_trial, with_config

from sweeper.errors import EXIT_DIFFERS, EXIT_OK, UserError
from sweeper.reproducibility.reproduce import reproduce
from sweeper.tracking import Tracker, tracking_uri, trial_yaml

TRAINER = "scripted_trainer:train"
Capture = pytest.CaptureFixture[str]
RecordTrial = Callable[..., None]


@pytest.fixture(autouse=True)
def _trainer_of_the_rerun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))


@pytest.fixture
def record(home: Path) -> RecordTrial:
    def run(config: dict[str, Any], steps: int | None = None, tamper: Any = None) -> None:
        record_trial(home, TRAINER, config, steps, tamper)

    return run


def test_a_stopped_trial_is_rerun_only_as_far_as_it_got(home: Path, record: RecordTrial, capfd: Capture) -> None:
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
def test_noise_that_no_seed_controls_has_no_recorded_cause(
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


def test_changed_data_is_named_as_the_cause(home: Path, record: RecordTrial, tmp_path: Path, capfd: Capture) -> None:
    data = tmp_path / "data.bin"
    data.write_bytes(b"12")
    record({"data_file": str(data)})
    data.write_bytes(b"123")
    assert reproduce("toy-0001", home) == EXIT_DIFFERS
    out = capfd.readouterr().out
    assert "likely cause: data: data (6b51d431df5d -> a665a4592042)\nverdict: DIFFERS from epoch 1" in out


def test_a_rerun_that_fails_differs(home: Path, record: RecordTrial, tmp_path: Path, capfd: Capture) -> None:
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


def test_a_trial_without_reports_is_refused(home: Path, record: RecordTrial) -> None:
    record({}, steps=1)
    tracker = Tracker(home / "studies" / "toy", tracking_uri(home), home / "artifacts", "toy")
    tracker.start_trial("toy-0002", {}, {}, {"trial.yaml": trial_yaml("toy-0002", TRAINER, {}, {})})
    assert tracker.flush(60) == 0
    tracker.close()
    with pytest.raises(UserError, match="`toy-0002` reported nothing"):
        reproduce("toy-0002", home)
