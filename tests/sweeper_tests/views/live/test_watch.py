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
from sweeper.study.snapshot import epochs_per_minute, eta_s, leader, rungs_reached, saved_by_stopping_s, snapshot
from sweeper.study.stage import enter_stage
from sweeper.views.live.screen import Scene, screen
from sweeper.views.live.watch import events, line

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
    assert line(first[1]).endswith("toy-0000 epoch 1: pa_mpjpe_mm 19.00")
    known = {record.id: record for record in TRIALS[:2]}
    assert events(known, TRIALS[:2], objective) == []
    further = trial(3, TrialState.RUNNING, 5)
    [event] = events({TRIALS[3].id: TRIALS[3]}, [further], objective)
    assert event.text == "epoch 5: pa_mpjpe_mm 15.00"


def shown(scene: Scene, *what: object, width: int = 120) -> str:
    console = Console(width=width, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(screen(scene, *what, width))  # type: ignore[arg-type]
    return console.export_text()


def test_the_screen_has_best_controls_pace_rungs_and_events(tmp_path: Path) -> None:
    ledger = Ledger.create(tmp_path, "toy")
    spec = make_spec(trials=3)
    done, running = ledger.ask(spec).id, ledger.ask(spec).id
    now_s = time.time()
    for epoch in range(1, 5):
        ledger.report(done, report(epoch, 20.0 - epoch, now_s - 60 + 2 * epoch), 20.0 - epoch)
    ledger.finish(done, TrialState.COMPLETE, "ran all 4 epochs", {}, (16.0,))
    ledger.report(running, report(1, 15.5, now_s), 15.5)
    at = snapshot(ledger, spec, 3, now_s)
    recent = [line(event) for event in events({}, at.trials, spec.objective)[-3:]]
    scale = ledger.trial(running).params["scale"]
    for width in (60, 120):
        text = shown(Scene("toy", "pid 1 on here", "driver: pid 1 on here", now_s - 75, recent), at, spec, width=width)
        words = " ".join(text.split())
        for part in ("toy 1:15", "1 of 3 trials done 1 RUNNING, 1 COMPLETE", "epochs/min, 100 images/s", "1 of 8"):
            assert part in words
        assert f"best so far 15.50 mm (toy-0001, RUNNING at epoch 1) scale {scale:.3g}" in words, (
            "unfinished ones count"
        )
        assert "driver: pid 1 on here" in words
        assert max(map(len, text.splitlines())) <= width
    interrupted = shown(Scene("toy", "", "driver: none", None, []), at, spec)
    assert "1 WAITING, 1 COMPLETE" in interrupted, "nobody runs it"


def test_the_best_so_far_may_run_yet_but_has_not_collapsed() -> None:
    objective = make_spec().objective
    found = leader([trial(0, TrialState.COMPLETE, 3), trial(1, TrialState.RUNNING, 4), TRIALS[2]], objective)
    assert found is not None
    assert found.id == "toy-0001"
    collapsed = trial(2, TrialState.COLLAPSED, 7)
    assert leader([collapsed], objective) is None


def test_a_rate_is_over_the_time_in_which_trials_ran() -> None:
    def of(*ends_s: float, seconds: float = 2.0) -> TrialRecord:
        reports = tuple(
            Report(n, float(n), {}, None, int((START_S + end_s) * 1000), seconds) for n, end_s in enumerate(ends_s, 1)
        )
        return TrialRecord("toy-0000", 0, {}, reports=reports)

    assert epochs_per_minute([of(2, 4, 6)], START_S + 6) == pytest.approx(30.0), "6 s old: not a rate of five minutes"
    long_ago = of(*(2.0 * n - 10_000 for n in range(1, 20)), 2, 4)
    assert epochs_per_minute([long_ago], START_S + 4) == pytest.approx(30.0), "nor does a pause count"
    slow = of(400, 800, 1200, seconds=400)
    assert epochs_per_minute([slow], START_S + 1200) == pytest.approx(60 / 400), "an epoch longer than the window"
    assert epochs_per_minute([of(2)], START_S + 5000) == 0.0


def test_what_failed_has_saved_nothing() -> None:
    full = trial(0, TrialState.COMPLETE, 8)  # 16 s
    assert saved_by_stopping_s([full, trial(1, TrialState.PRUNED, 2)]) == pytest.approx(12.0)
    assert saved_by_stopping_s([full, trial(1, TrialState.FAILED, 2), trial(2, TrialState.STOPPED, 1)]) == 0.0


def test_a_study_that_is_prepared_says_how_far_it_is(tmp_path: Path) -> None:
    study_dir = tmp_path / "studies" / "toy"

    def asked(*verb: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "sweeper", *verb, "--home", str(tmp_path)]
        return subprocess.run(command, capture_output=True, text=True, timeout=300)

    with study_lock(study_dir):
        ledger = Ledger.create(study_dir, "toy")
        enter_stage(study_dir, "preparing the data")
        standing = asked("status", "toy")
        assert standing.returncode == 0
        assert standing.stdout.startswith(f"toy: run by pid {os.getpid()} on ")
        assert "\nbeing prepared: preparing the data, for 0:0" in standing.stdout
        told = asked("show", "toy")
        assert told.returncode == 2
        assert f"is being prepared by pid {os.getpid()} on" in told.stderr
        watching = subprocess.Popen(
            [sys.executable, "-m", "sweeper", "watch", "toy", "--home", str(tmp_path), "--interval", "0.1"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert watching.stdout is not None
        assert watching.stdout.readline().endswith("toy preparing the data\n")
        ledger.attributes.spec = make_spec().effective
    rest, _ = watching.communicate(timeout=300)
    assert "0 of 4 trials: none started" in rest
    assert "never started" not in asked("status", "toy").stdout


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
    rest, _ = watching.communicate(timeout=300)
    assert watching.returncode == 0
    if as_json:
        assert [json.loads(text)["kind"] for text in said] == ["started", "report", "COMPLETE"]
        assert rest == ""
    else:
        endings = ("toy-0000 started\n", "toy-0000 epoch 1: pa_mpjpe_mm 12.50\n", "COMPLETE ran all 1 epochs\n")
        assert all(text.endswith(ending) for text, ending in zip(said, endings, strict=True))
        assert "1 of 1 trials: 1 COMPLETE" in rest
