"""What must hold for a study home after every step of a sequence, and for what a verb said.

`checker.check` judges a study that has finished. This judges one that may be unfinished, and reads MLflow's database
directly, since a look after each step must cost nothing.
"""

import fcntl
import json
import random
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from checker import Results, results
from mlflow_helpers import Points, points_in_ledger
from wreckage import STUDY

from sweeper.checkpoints.inventory import checkpoint_entries
from sweeper.errors import UserError
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.studies import unretried_failures
from sweeper.ledger.trial import TrialRecord
from sweeper.spec.model import SpecFile
from sweeper.tracking.standing import standing_of

OBJECTIVE: Final = "val/pa_mpjpe_mm"
CONSTANT_MM: Final = 1000.0
POINTS: Final = """
    SELECT tags.value, key, step, metrics.value FROM (SELECT DISTINCT run_uuid, key, step, value FROM metrics) metrics
    JOIN (SELECT run_uuid, value FROM tags WHERE key = 'sweeper.trial_id') tags USING (run_uuid)
    JOIN runs USING (run_uuid) WHERE lifecycle_stage = 'active'
    AND key NOT LIKE 'system/%' AND key NOT LIKE '0_objective/%'
"""
RUNS: Final = """
    SELECT coalesce(tags.value, runs.name), status FROM runs
    LEFT JOIN (SELECT run_uuid, value FROM tags WHERE key = 'sweeper.trial_id') tags USING (run_uuid)
    WHERE lifecycle_stage = 'active'
    AND run_uuid NOT IN (SELECT run_uuid FROM tags WHERE key = 'sweeper.reproduces')
"""


@dataclass(frozen=True)
class Look:
    """A home between two steps. `points`: what MLflow should have; `in_mlflow`: None if its database cannot be read."""

    trials: dict[str, TrialRecord] = field(default_factory=dict)
    results: Results = field(default_factory=dict)
    planned: int = 0
    extended: int = 0
    stopped: bool = False
    points: Points = field(default_factory=dict)
    in_mlflow: Points | None = None
    runs: list[tuple[str, str]] = field(default_factory=list)
    waiting: int = 0
    refused: int = 0
    damaged: list[str] = field(default_factory=list)

    @property
    def is_over(self) -> bool:
        """Whether no trial is left running or waiting."""
        return all(trial.state.is_finished for trial in self.trials.values())

    @property
    def failed(self) -> list[TrialRecord]:
        return unretried_failures(list(self.trials.values()))

    @property
    def has_come_to_its_end(self) -> bool:
        """Whether every requested trial, of those that count, has ended."""
        planned = [trial for trial in self.trials.values() if not (trial.enqueued or trial.retry_of)]
        return self.has_all and all(trial.state.is_finished for trial in planned)

    @property
    def beside(self) -> int:
        """Trials that do not count: retries of failed ones, and those that the user has chosen."""
        candidates = [trial for trial in self.trials.values() if trial.control is None]
        return sum(trial.retry_of is not None or trial.enqueued for trial in candidates)

    @property
    def has_all(self) -> bool:
        """Whether every requested trial exists."""
        return (
            sum(trial.control is None for trial in self.trials.values()) - self.beside >= self.planned + self.extended
        )

    @property
    def lacks(self) -> list[Any]:
        """What MLflow does not have, or has with other values."""
        there = self.in_mlflow or {}
        return [key for key, values in self.points.items() if there.get(key) != values]


def look(home: Path) -> Look:
    """Look at the study `scripted`; one that does not exist yet is empty."""
    folder = home / "studies" / STUDY
    in_mlflow, runs = _read_mlflow(home)
    standing = standing_of(folder)
    seen = {"in_mlflow": in_mlflow, "runs": runs, "waiting": standing.waiting, "refused": standing.refused}
    try:
        ledger = Ledger.open(folder, STUDY)
    except UserError:
        return Look(**seen)  # type: ignore[arg-type]
    spec = ledger.attributes.spec
    return Look(
        trials={trial.id: trial for trial in ledger.all_trials()},
        results=results(home),
        planned=SpecFile.model_validate(spec).trials if spec else 0,
        extended=ledger.attributes.extended,
        stopped=ledger.attributes.stopped,
        points=points_in_ledger(home, STUDY),
        damaged=[str(each.report.checkpoint) for each in checkpoint_entries(ledger) if each.problem],
        **seen,  # type: ignore[arg-type]
    )


def _read_mlflow(home: Path) -> tuple[Points | None, list[tuple[str, str]]]:
    points: Points = {}
    try:
        with closing(sqlite3.connect(f"file:{home}/mlflow.db?mode=ro", uri=True)) as database:
            for trial, key, step, value in database.execute(POINTS):
                points.setdefault((trial, key, step), []).append(repr(value))
            return points, database.execute(RUNS).fetchall()
    except sqlite3.Error:
        return None, []


def judge_home(home: Path, before: Look, now: Look) -> None:
    """What holds after every step, whatever was done to the home."""
    for trial_id, trial in before.trials.items():
        assert trial_id in now.trials, f"{trial_id} was in the ledger, and is not any more"
        if trial.state.is_finished:
            assert now.results[trial_id] == before.results[trial_id], f"{trial_id} was finished, and is another now"
    for trial in now.trials.values():
        steps = [report.step for report in trial.reports]
        assert steps == list(range(1, len(steps) + 1)), f"{trial.id} has the evaluations {steps}"
        _judge_values(trial)
    _judge_journal(home, now)
    names = [name for name, _ in now.runs]
    assert len(names) == len(set(names)), f"runs that are twice in MLflow: {sorted(names)}"
    for key, values in (now.in_mlflow or {}).items():
        assert values == now.points.get(key), f"MLflow has {values} of {key}, and the ledger {now.points.get(key)}"
    with open(home / "studies" / STUDY / "lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises BlockingIOError while someone holds it


def _judge_values(trial: TrialRecord) -> None:
    """Every value is what the trainer's script says, whatever the trial has been through."""
    walk, seed = 0.0, int(trial.params.get("seed") or trial.repeat)
    for report in trial.reports:
        walk += random.Random(seed * 1000 + report.step).gauss(0.0, 0.05)
        curve_mm = [20.0, 15.0, 12.0, 10.0]
        right_mm = curve_mm[min(report.step, 4) - 1] * float(trial.params.get("scale") or 1.0) + walk
        if trial.control is not None:
            right_mm = 0.0 if trial.control == "oracle" else CONSTANT_MM
        assert report.metrics[OBJECTIVE] == right_mm, f"{trial.id} at {report.step}: not {right_mm}"


def _judge_journal(home: Path, now: Look) -> None:
    """Nothing is stored twice."""
    stored: list[tuple[int, str]] = []
    for line in (home / "studies" / STUDY / "ledger.journal").read_bytes().splitlines():
        if line.endswith(b"}"):
            entry = json.loads(line)
            stored += [(entry["trial_id"], key) for key in entry.get("user_attr", {}) if "trial_id" in entry]
    once = [each for each in stored if each[1] == "ending" or each[1].startswith("report:")]
    assert len(once) == len(set(once)), "an end or an evaluation is stored twice"
    assert len(once) == sum(len(trial.reports) + trial.state.is_finished for trial in now.trials.values())


def judge_words(verb: tuple[str, ...], code: int, said: str, before: Look, now: Look) -> None:
    """What a verb that ended undisturbed says, by its exit code and its last line, is true."""
    assert "Traceback" not in said or verb[0] == "reproduce", said  # it shows the trainer's
    lines = [line for line in said.splitlines() if line.strip()]
    assert lines, "it said nothing"
    last = lines[-1]
    match verb[0]:
        case _ if code == 2:
            assert "error: " in said, said
            assert now.results == before.results, "a refused verb has changed trials"
            assert (now.extended, now.stopped) == (before.extended, before.stopped)
        case "run" | "resume" | "extend" | "retry":
            _judge_run(code, said, last, now)
            if verb[0] == "extend" and (before.has_come_to_its_end or not before.extended):
                assert now.extended == before.extended + 1, f"it adds no trial:\n{said}"
        case "sync":
            assert code in (0, 1, 5), said
            assert (code == 0) == ("MLflow is up to date" in said), said
            if code == 0:
                assert now.lacks == [], f"MLflow is up to date, and lacks {now.lacks[:3]}"
                assert now.refused == now.waiting == 0
        case "doctor":
            assert code in (0, 1, 5), said
            assert (code == 0) == last.startswith("nothing is left to be fixed"), said
            if code == 0 and now.is_over:
                assert now.lacks == [], f"nothing is left to be fixed, and MLflow lacks {now.lacks[:3]}"
                assert [run for run in now.runs if run[1] == "RUNNING"] == []
            if code == 0:
                assert now.damaged == [], f"nothing is left to be fixed, and {now.damaged} are damaged"
        case "reproduce":
            assert code == 0, said
            assert last == "verdict: BIT-EXACT", said
        case _:
            assert code == 0, said


def _judge_run(code: int, said: str, last: str, now: Look) -> None:
    assert code in (0, 1, 3, 5), said
    assert now.is_over, f"exit code {code}, and not all trials have ended"
    if not now.stopped:
        is_enough = "every configuration of the search space was tried" in said or "would change nothing" in said
        assert now.has_all or is_enough, said
    assert (code == 1) == bool(now.failed), f"exit code {code}, and failed are {[each.id for each in now.failed]}"
    assert code != 5 or now.refused, said
    if now.refused or now.waiting:
        assert "`sweeper sync" in last, said
    else:
        assert now.lacks == [], f"exit code {code}, and MLflow lacks {now.lacks[:3]} of {len(now.lacks)}"
        assert [run for run in now.runs if run[1] == "RUNNING"] == []


def may_refuse(verb: tuple[str, ...], said: str, seen: Look, is_hurt: bool, trials_fail: bool) -> bool:
    """Whether there is a reason to refuse a verb, and it is the one given.

    Args:
        is_hurt: MLflow or the outbox is damaged.
        trials_fail: then a rerun fails too.
    """
    if seen.planned == 0:
        return "was never started" in said or verb[0] == "reproduce"
    match verb[0]:
        case "extend":
            return "every configuration of its search space was tried" in said or "no more points" in said
        case "retry":
            return "has failed" in said or "still has trials to run" in said
        case "pause":
            return "is not running" in said
        case "stop":  # a trial
            return verb[1] != "scripted" and ("has ended" in said or "no trial" in said)
        case "reproduce":
            untold = ("has no complete trial yet", "has no run in MLflow", "`sweeper sync scripted` sends it")
            if any(each in said for each in untold):  # not sent before the kill
                return True
            complete = [each for each in seen.trials.values() if each.state == "COMPLETE" and each.control is None]
            return is_hurt or trials_fail or not complete
        case "gc":  # it compares with MLflow before it removes anything
            return is_hurt and "MLflow" in said
    return False
