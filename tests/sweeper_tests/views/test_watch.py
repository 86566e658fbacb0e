"""`sweeper watch`: what it says of a study, and that it follows a driver in another process until that ends."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console
from studies import make_spec

from sweeper.ledger.ledger import Ledger
from sweeper.ledger.study_lock import study_lock
from sweeper.ledger.trial import Report, TrialRecord, TrialState
from sweeper.views.watch import Standing, eta_s, events, line, rungs_reached, screen, standing

OBJECTIVE = "val/pa_mpjpe_mm"
START_S = 1_700_000_000.0


def report(epoch: int, value: float, at_s: float = START_S) -> Report:
    metrics = {OBJECTIVE: value, "train/images_per_s": 100.0}
    return Report(epoch, float(epoch), metrics, None, int(at_s * 1000), seconds=2.0, total_epochs=8.0)


def trial(number: int, state: TrialState, epochs: int, reason: str = "") -> TrialRecord:
    reports = tuple(report(epoch, 20.0 - epoch) for epoch in range(1, epochs + 1))
    return TrialRecord(f"toy-{number:04d}", number, {}, state, reason, reports=reports)


TRIALS = [
    trial(0, TrialState.COMPLETE, 8),
    trial(1, TrialState.PRUNED, 2),
    trial(2, TrialState.COLLAPSED, 2),
    trial(3, TrialState.RUNNING, 4),
]


def test_time_left_is_that_of_the_trials_that_ended() -> None:
    # 16, 4 and 4 s: 8 s on average, which the running one has used; 2 trials to come, 2 at once
    assert eta_s(TRIALS, planned=6, concurrent=2) == pytest.approx(8.0)
    assert eta_s(TRIALS[3:], planned=6, concurrent=2) is None
    assert eta_s(TRIALS[:3], planned=3, concurrent=2) == 0.0


def test_rungs_count_healthy_trials_and_those_that_went_on() -> None:
    spec = make_spec(scheduler={"name": "asha", "grace_epochs": 2, "eta": 2})
    assert rungs_reached(spec, TRIALS) == {2.0: (3, 2), 4.0: (2, 2)}
    assert rungs_reached(make_spec(scheduler={"name": "none"}), TRIALS) == {}


def test_events_are_what_is_new() -> None:
    objective = make_spec().objective
    first = events({}, TRIALS[:2], objective)
    assert [event.kind for event in first] == [
        "started",
        *["report"] * 8,
        "COMPLETE",
        "started",
        *["report"] * 2,
        "PRUNED",
    ]
    assert line(first[1]).endswith("toy-0000 epoch 1: pa_mpjpe_mm 19")
    known = {record.id: record for record in TRIALS[:2]}
    assert events(known, TRIALS[:2], objective) == []
    further = trial(3, TrialState.RUNNING, 5)
    [event] = events({TRIALS[3].id: TRIALS[3]}, [further], objective)
    assert event.text == "epoch 5: pa_mpjpe_mm 15"


def test_the_screen_has_best_controls_pace_rungs_and_events(tmp_path: Path) -> None:
    ledger = Ledger.create(tmp_path, "toy")
    spec = make_spec(trials=3)
    done, running = ledger.ask(spec).id, ledger.ask(spec).id
    now_s = time.time()
    for epoch in range(1, 5):
        ledger.report(done, report(epoch, 20.0 - epoch, now_s), 20.0 - epoch)
    ledger.finish(done, TrialState.COMPLETE, "ran all 4 epochs", {}, (16.0,))
    ledger.report(running, report(1, 19.5, now_s), 19.5)
    at = standing(ledger, spec, now_s)
    assert isinstance(at, Standing)
    assert (at.planned, at.epochs_per_minute) == (3, 1.0)
    console = Console(width=120, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(screen("toy", "pid 1 on here", at, spec, events({}, at.trials, spec.objective)[-3:]))
    text = console.export_text()
    for part in ("2 of 3 trials: 1 RUNNING, 1 COMPLETE", "best 16 (toy-0000)", "1 epochs/min, 100 images/s", "1 of 8"):
        assert part in text
    assert "driver: pid 1 on here" in text


@pytest.mark.parametrize("as_json", [False, True])
def test_it_follows_a_driver_in_another_process_until_that_ends(tmp_path: Path, as_json: bool) -> None:
    study_dir = tmp_path / "studies" / "toy"
    spec = make_spec(trials=1)
    command = [sys.executable, "-m", "sweeper", "watch", "toy", "--home", str(tmp_path), "--interval", "0.1"]
    with study_lock(study_dir):
        ledger = Ledger.create(study_dir, "toy")
        ledger.attributes.spec = spec.effective
        trial_id = ledger.ask(spec).id
        watching = subprocess.Popen(command + ["--json"] * as_json, stdout=subprocess.PIPE, text=True)
        assert watching.stdout is not None
        said = [watching.stdout.readline()]
        ledger.report(trial_id, report(1, 12.5, time.time()), 12.5)
        said.append(watching.stdout.readline())
        ledger.finish(trial_id, TrialState.COMPLETE, "ran all 1 epochs", {}, (12.5,))
        said.append(watching.stdout.readline())
        assert watching.poll() is None, "it ends when the driver does"
    rest, _ = watching.communicate(timeout=60)
    assert watching.returncode == 0
    if as_json:
        assert [json.loads(text)["kind"] for text in said] == ["started", "report", "COMPLETE"]
        assert rest == ""
    else:
        endings = ("toy-0000 started\n", "toy-0000 epoch 1: pa_mpjpe_mm 12.5\n", "COMPLETE ran all 1 epochs\n")
        assert all(text.endswith(ending) for text, ending in zip(said, endings, strict=True))
        assert "1 of 1 trials: 1 COMPLETE" in rest
