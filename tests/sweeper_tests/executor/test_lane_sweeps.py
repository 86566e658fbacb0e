"""Sweeps with Ray whose trials train as lanes: they end like those with a process for each trial."""

import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
from checker import Results, check, results
from faulty import FreshHome, begin, sweep, wait_until
from forked import Command

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SPEC = """
name: scripted
trainer: lanes_trainer:train
variants:
  best: {scale: 0.5}
  other: {scale: 0.7}
  poor: {scale: 9.0}
  broken: {crash_at: 2}
objective: {metric: val/pa_mpjpe_mm, mode: min}
controls: []
scheduler: {name: none}
guards: [{name: poor, kind: threshold, metric: val/pa_mpjpe_mm, above: 50, for_evaluations: 2}]
resources: {lanes: 4, concurrent: 4}
"""
LONG = """
name: scripted
trainer: lanes_trainer:train
base: {epochs: 8, sleep_s: 0.2}
variants:
  first: {scale: 0.5}
  second: {scale: 0.7}
  dying: {die_at: 7}
objective: {metric: val/pa_mpjpe_mm, mode: min}
controls: []
scheduler: {name: none}
guards: []
resources: {lanes: 3, concurrent: 3}
"""
TRAINED = """
name: scripted
base:
  data: {embedded_count: 40, image_size: 32, val_fraction: 0.2}
  model: {backbone: vit_tiny}
  optim: {epochs: 2, batch_size: 8}
  eval: {mesh_images: 4}
search_space:
  loss.lambda_joint: {choices: [1.0, 5.0]}
sampler: {name: grid}
replicate_seed: per_trial
objective: {metric: val/pa_mpjpe_mm, mode: min}
controls: [zero]
scheduler: {name: none}
guards: []
resources: {lanes: 2, concurrent: 3}
"""
OWN = ("pid", "lanes")
"""Metrics of the toy trainer that say how it was trained."""


def of_lanes(trial: dict[str, Any]) -> list[float]:
    """How many lanes trained in each round of a trial."""
    return [float(values["lanes"]) for values in trial["curve"]]


def without(found: Results) -> Results:
    """What was found, except for how it was trained."""
    return {
        name: trial | {"curve": [{key: values[key] for key in values if key not in OWN} for values in trial["curve"]]}
        for name, trial in found.items()
    }


def test_lanes_end_like_processes_and_a_failure_affects_only_its_lane(fresh_home: FreshHome) -> None:
    alone, home = fresh_home(SPEC), fresh_home(SPEC)
    assert sweep(alone, "run", "--set", "resources.lanes=1").returncode == 1
    result = sweep(home, "run", ray=True)
    assert result.returncode == 1, result.stderr
    found = check(home)
    assert without(found) == without(check(alone))
    assert [trial["state"] for trial in found.values()] == ["COMPLETE", "COMPLETE", "COLLAPSED", "FAILED"]
    assert max(of_lanes(found["scripted-0000"])) > 1


def test_lanes_continue_after_a_kill_and_after_the_loss_of_their_process(fresh_home: FreshHome) -> None:
    home = fresh_home(LONG)
    process = begin(home, ray=True)
    wait_until(lambda: reports_of(home) >= 6)
    hosts = lane_processes(process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    psutil.wait_procs(hosts, timeout=30)
    assert [host for host in hosts if host.is_running()] == []
    before = results(home)
    result = sweep(home, "run", ray=True)
    assert result.returncode == 0, result.stderr
    found = check(home, before=before)
    assert {trial["state"] for trial in found.values()} == {"COMPLETE"}
    assert [len(trial["curve"]) for trial in found.values()] == [8, 8, 8]
    lanes = of_lanes(found["scripted-0000"])
    assert max(lanes[2:6]) > 1
    assert lanes[6:] == [1.0, 1.0], "the process of the lanes was lost, and each went on in its own"


def reports_of(home: Path) -> int:
    journal = home / "studies" / "scripted" / "ledger.journal"
    return journal.read_text().count('"report:') if journal.exists() else 0


def lane_processes(driver: Command) -> list[psutil.Process]:
    found = [
        child
        for child in psutil.Process(driver.pid).children(recursive=True)
        if "entrypoint.lanes.host" in " ".join(child.cmdline())
    ]
    assert len(found) == 1
    return found


def test_lanes_give_the_same_results_and_a_trial_trained_in_them_is_reproduced_alone(fresh_home: FreshHome) -> None:
    alone, home = fresh_home(TRAINED), fresh_home(TRAINED)
    skip = ("--skip-preflight", "the data are tiny")
    assert sweep(alone, "run", "--set", "resources.lanes=1", *skip).returncode in (0, 3)
    result = sweep(home, "run", *skip, ray=True)
    assert result.returncode in (0, 3), result.stderr
    expected, found = results(alone), results(home)
    assert found.keys() == expected.keys()
    for name, trial in found.items():
        assert (trial["state"], trial["params"]) == (expected[name]["state"], expected[name]["params"])
        for ours, theirs in zip(trial["curve"], expected[name]["curve"], strict=True):
            for metric in theirs.keys() - {"train/images_per_s"}:
                assert float(ours[metric]) == pytest.approx(float(theirs[metric]), rel=1e-3, abs=1e-3), (name, metric)
    again = sweep(home, "reproduce", "scripted-0001", ray=True)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "verdict: BIT-EXACT" in again.stdout or "it trained as one of several lanes" in again.stdout
