"""A refused verb changes nothing, and repeating a killed one has the effect of a single run."""

import json
import os
import shutil
from pathlib import Path

import pytest
from checker import check, results
from faulty import SPEC
from forked import Driver

from sweeper.errors import UserError
from sweeper.ledger.ledger import Ledger
from sweeper.preflight import run as preflight

pytestmark = pytest.mark.slow
KILLS = ("1:before", "1:after", "2:before", "2:after", "3:after", "5:after", "9:before")


@pytest.fixture
def home(tmp_path: Path, template_db: Path) -> Path:
    """A study of two trials that both failed, for a reason that is now gone."""
    (tmp_path / "spec.yaml").write_text(SPEC)
    made = tmp_path / "home"
    made.mkdir()
    shutil.copy(template_db, made / "mlflow.db")
    broken = tmp_path / "broken"
    broken.touch()
    code, said = Driver(made, "run", "--trials", "2", "--set", f"base.crash_if={broken}", "--set", "controls=[]").end()
    assert code == 1, said
    broken.unlink()
    return made


def refuse_preflight() -> None:
    def finish(*_: object, **__: object) -> None:
        raise UserError("the trainer could not prepare its data")

    preflight.finish = finish  # type: ignore[assignment]


def ledger_of(home: Path) -> Ledger:
    return Ledger.open(home / "studies" / "scripted", "scripted")


def journal(home: Path) -> str:
    """What is recorded about trials, and about how many there should be."""
    ledger = ledger_of(home)
    return json.dumps([str(ledger.all_trials()), ledger.attributes.extended, ledger.attributes.stopped])


@pytest.mark.parametrize("verb", [("extend", "scripted", "--trials", "1"), ("retry", "scripted", "--failed")])
def test_a_refused_verb_changes_nothing_and_takes_effect_once_when_accepted(home: Path, verb: tuple[str, ...]) -> None:
    before = journal(home)
    for _ in range(2):
        code, said = Driver(home, *verb, before=refuse_preflight).end()
        assert code == 2, said
        assert journal(home) == before
    code, said = Driver(home, *verb).end()
    added = 1 if verb[0] == "extend" else 2
    assert len(results(home)) == 2 + added, said
    assert code == (1 if verb[0] == "extend" else 0), "the two that had failed"


def test_a_refused_resume_leaves_a_stopped_study_stopped(home: Path) -> None:
    code, said = Driver(home, "stop", "scripted").end()
    assert code == 0, said
    assert ledger_of(home).attributes.stopped
    code, said = Driver(home, "extend", "scripted", "--trials", "1", before=refuse_preflight).end()
    assert code == 2, said
    assert ledger_of(home).attributes.stopped


@pytest.mark.parametrize("kill", KILLS)
def test_a_killed_extend_run_again_adds_its_trials_once(home: Path, kill: str) -> None:
    verb = ("extend", "scripted", "--trials", "2")
    code, _ = Driver(home, *verb, KILL_WRITE=kill).end()
    assert code == -9
    code, said = Driver(home, *verb).end()
    assert code == 1, said
    assert len(results(home)) == 4
    assert ledger_of(home).attributes.extended == 2
    code, said = Driver(home, *verb).end()
    assert len(results(home)) == 6, "it has finished, so this is another extension"


@pytest.mark.parametrize("kill", KILLS)
def test_a_killed_retry_run_again_tries_each_failed_trial_once(home: Path, kill: str) -> None:
    verb = ("retry", "scripted", "--failed")
    code, _ = Driver(home, *verb, KILL_WRITE=kill).end()
    assert code == -9
    code, said = Driver(home, *verb).end()
    assert code == 0, said
    found = check(home)
    assert sorted(trial["state"] for trial in found.values()) == ["COMPLETE", "COMPLETE", "FAILED", "FAILED"]
    code, said = Driver(home, *verb).end()
    assert code == 2, said
    assert "no trial of the study `scripted` has failed" in said


def test_a_request_left_by_a_killed_process_does_not_stop_the_next_driver(home: Path) -> None:
    request = home / "studies" / "scripted" / "request"
    for left in ("stop", '{"request": "pause", "by": "pid 7 on there", "at": "2026-01-02 03:04:05"}'):
        request.write_text(left)
        os.utime(request, (1.0, 1.0))
        code, said = Driver(home, "extend", "scripted", "--trials", "1").end()
        assert code == 1, said
        assert "for an earlier driver, was dropped" in said
    assert len(results(home)) == 4
    assert not ledger_of(home).attributes.stopped
