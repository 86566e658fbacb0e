"""The durable truth about a study: which trials exist, what they reported, how each ended and why.

A ledger is an Optuna study in an append-only, fsynced journal file, so `optuna-dashboard` opens it and a killed
driver loses nothing. Everything is written here before it is acted on. This is the only module that imports optuna.
"""

import fcntl
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import IO, Any

import optuna
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.storages.journal._file import BaseJournalFileLock

from sweeper.errors import UserError
from sweeper.samplers import sampler_of
from sweeper.search_space import CategoricalDimension, Dimension, FloatDimension, IntDimension, ParamValue
from sweeper.spec import SweepSpec

optuna.logging.set_verbosity(optuna.logging.ERROR)


class TrialState(StrEnum):
    """How a trial stands. COLLAPSED (guard) is not PRUNED (rank) is not FAILED (error)."""

    RUNNING = "RUNNING"
    COMPLETE = "COMPLETE"
    PRUNED = "PRUNED"
    COLLAPSED = "COLLAPSED"
    STOPPED = "STOPPED"
    FAILED = "FAILED"

    @property
    def is_finished(self) -> bool:
        return self is not TrialState.RUNNING


@dataclass(frozen=True)
class Report:
    """One evaluation of a trial, as the ledger keeps it. `checkpoint` is relative to the study's folder."""

    step: int
    epoch: float
    metrics: Mapping[str, float]
    checkpoint: str | None
    timestamp_ms: int


@dataclass(frozen=True)
class TrialRecord:
    """One trial: what was tried, what it reported, how it ended."""

    id: str
    number: int
    params: Mapping[str, ParamValue]
    state: TrialState = TrialState.RUNNING
    reason: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    reports: tuple[Report, ...] = ()
    mlflow_run_id: str | None = None
    role: str = "candidate"

    @property
    def last(self) -> Report | None:
        return self.reports[-1] if self.reports else None


class _FlockLock(BaseJournalFileLock):
    """Lock of the journal that dies with its process; Optuna's own outlives a kill -9 by 30 s."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None

    def acquire(self) -> bool:
        self._file = open(self._path, "ab")  # noqa: SIM115 - held until release
        fcntl.flock(self._file, fcntl.LOCK_EX)
        return True

    def release(self) -> None:
        assert self._file is not None
        self._file.close()


class Ledger:
    """The trials of one study.

    Opened for writing by the one driver that holds the study's lock (see `study_lock`), for reading by anyone.
    Every method that changes something has written it to disk when it returns.
    """

    def __init__(self, study_dir: Path, study: str, *, mode: str = "min", create: bool = False) -> None:
        path = study_dir / "ledger.journal"
        if create:
            _drop_half_written_line(path)
        elif not path.exists():
            raise UserError(
                f"no study `{study}` in {study_dir.parent}", help="`sweeper list` shows the studies there are"
            )
        self.study_dir = study_dir
        self.study = study
        storage = JournalStorage(JournalFileBackend(str(path), lock_obj=_FlockLock(study_dir / "ledger.lock")))
        if create:
            self._optuna = optuna.create_study(
                study_name=study,
                storage=storage,
                direction="minimize" if mode == "min" else "maximize",
                load_if_exists=True,
            )
        else:
            try:
                self._optuna = optuna.load_study(study_name=study, storage=storage)
            except KeyError:
                raise UserError(f"the study `{study}` was never started", help="`sweeper run` starts it") from None
        self._handles: dict[int, optuna.trial.Trial] = {}
        self._records = {frozen.number: self._record(frozen) for frozen in self._optuna.get_trials(deepcopy=False)}
        if create:
            self._settle_half_finished()

    # -- reading

    def trials(self) -> list[TrialRecord]:
        """All trials, by number."""
        return [self._records[number] for number in sorted(self._records)]

    def trial(self, number: int) -> TrialRecord:
        return self._records[number]

    @property
    def attributes(self) -> dict[str, Any]:
        """What the study stored about itself with `set_attribute`."""
        return dict(self._optuna.user_attrs)

    # -- writing

    def set_attribute(self, key: str, value: Any) -> None:
        """Store a JSON value about the study."""
        self._optuna.set_user_attr(key, value)

    def ask(self, spec: SweepSpec) -> TrialRecord:
        """Sample a new trial. The sampler is built afresh from (seed, trial number) and what the ledger holds, so a
        resumed study proposes what the unbroken one would have."""
        number = len(self._records)
        self._optuna.sampler = sampler_of(spec, number)
        handle = self._optuna.ask()
        assert handle.number == number, "a second writer is in this ledger"
        return self._propose(handle, spec)

    def unfinished(self, spec: SweepSpec) -> list[TrialRecord]:
        """Trials a driver left running, to be handed out again. One that was cut off while it was being sampled is
        sampled to the end first: same seed and history, so the same values."""
        for record in self.trials():
            if not record.state.is_finished and set(record.params) != set(spec.search_space):
                self._optuna.sampler = sampler_of(spec, record.number)
                self._propose(self._handle(record.number), spec)
        return [record for record in self.trials() if not record.state.is_finished]

    def report(self, number: int, report: Report, objective: float | None) -> bool:
        """Store one evaluation; False when this step was stored before (redone after a restart)."""
        record = self._records[number]
        if any(known.step == report.step for known in record.reports):
            return False
        handle = self._handle(number)
        handle.set_user_attr(f"report:{report.step:05d}", _encode_report(report))
        if objective is not None and math.isfinite(objective):
            handle.report(objective, report.step)
        self._records[number] = replace(record, reports=(*record.reports, report))
        return True

    def finish(
        self, number: int, state: TrialState, reason: str, evidence: Mapping[str, Any], objective: float | None
    ) -> TrialRecord:
        """Give a trial its one terminal state. COMPLETE counts for the sampler with its objective, PRUNED with what
        it reached, COLLAPSED as infeasible, STOPPED and FAILED not at all."""
        assert state.is_finished, state
        record = self._records[number]
        assert not record.state.is_finished, f"{record.id} is {record.state} already"
        ending = {"state": state.value, "reason": reason, "evidence": dict(evidence), "objective": objective}
        self._handle(number).set_user_attr("ending", ending | {"time_s": time.time()})
        self._tell(number, state, objective)
        self._records[number] = replace(record, state=state, reason=reason, evidence=evidence)
        return self._records[number]

    def set_mlflow_run_id(self, number: int, run_id: str) -> None:
        if self._records[number].mlflow_run_id != run_id:
            self._set_trial_attr(number, "mlflow_run_id", run_id)
            self._records[number] = replace(self._records[number], mlflow_run_id=run_id)

    # -- inside

    def _propose(self, handle: optuna.trial.Trial, spec: SweepSpec) -> TrialRecord:
        params = {path: _suggest(handle, path, dimension) for path, dimension in spec.search_space.items()}
        record = TrialRecord(id=f"{self.study}-{handle.number:04d}", number=handle.number, params=params)
        self._handles[handle.number] = handle
        self._records[handle.number] = record
        return record

    def _handle(self, number: int) -> optuna.trial.Trial:
        if number not in self._handles:
            self._handles[number] = optuna.trial.Trial(self._optuna, self._optuna_id(number))
        return self._handles[number]

    def _optuna_id(self, number: int) -> int:
        storage = self._optuna._storage
        return storage.get_trial_id_from_study_id_trial_number(self._optuna._study_id, number)

    def _set_trial_attr(self, number: int, key: str, value: Any) -> None:
        # A finished trial's attributes are frozen in Optuna, and the run ID may become known only after the end.
        if self._records[number].state.is_finished:
            self._optuna.set_user_attr(f"trial:{number}:{key}", value)
        else:
            self._handle(number).set_user_attr(key, value)

    def _tell(self, number: int, state: TrialState, objective: float | None) -> None:
        told = optuna.trial.TrialState
        match state:
            case TrialState.COMPLETE if objective is not None and math.isfinite(objective):
                self._optuna.tell(number, objective)
            case TrialState.PRUNED:
                self._optuna.tell(number, state=told.PRUNED)
            case TrialState.COLLAPSED:
                self._handle(number).set_constraint("collapsed", 1.0)
                self._optuna.tell(number, state=told.PRUNED)
            case _:
                self._optuna.tell(number, state=told.FAIL)

    def _settle_half_finished(self) -> None:
        """A kill between the ending's two writes leaves a trial that knows its end but was not told to Optuna."""
        for frozen in self._optuna.get_trials(deepcopy=False):
            if not frozen.state.is_finished() and (ending := frozen.user_attrs.get("ending")):
                self._tell(frozen.number, TrialState(ending["state"]), ending["objective"])

    def _record(self, frozen: optuna.trial.FrozenTrial) -> TrialRecord:
        attrs = frozen.user_attrs
        ending = attrs.get("ending", {})
        reports = tuple(_decode_report(attrs[key]) for key in sorted(attrs) if key.startswith("report:"))
        return TrialRecord(
            id=f"{self.study}-{frozen.number:04d}",
            number=frozen.number,
            params=dict(frozen.params),
            state=TrialState(ending.get("state", "RUNNING")),
            reason=ending.get("reason", ""),
            evidence=ending.get("evidence", {}),
            reports=reports,
            mlflow_run_id=attrs.get("mlflow_run_id")
            or self._optuna.user_attrs.get(f"trial:{frozen.number}:mlflow_run_id"),
        )


def _drop_half_written_line(path: Path) -> None:
    """A crash can leave the last line half written; appending after it would corrupt both lines."""
    if not path.exists():
        return
    with open(path, "rb+") as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole != len(content):
            file.truncate(whole)


def _suggest(handle: optuna.trial.Trial, path: str, dimension: Dimension) -> ParamValue:
    match dimension:
        case FloatDimension():
            return handle.suggest_float(path, dimension.low, dimension.high, log=dimension.log, step=dimension.step)
        case IntDimension():
            return handle.suggest_int(path, dimension.low, dimension.high, log=dimension.log, step=dimension.step)
        case CategoricalDimension():
            chosen = handle.suggest_categorical(path, dimension.choices)
            assert chosen is not None  # a Choice is never null
            return chosen


def _encode_report(report: Report) -> dict[str, Any]:
    # JSON has no NaN; a dashboard that reads the journal would choke on Python's spelling of it.
    metrics = {k: v if math.isfinite(v) else str(v) for k, v in report.metrics.items()}
    return {
        "step": report.step,
        "epoch": report.epoch,
        "metrics": metrics,
        "checkpoint": report.checkpoint,
        "timestamp_ms": report.timestamp_ms,
    }


def _decode_report(data: Mapping[str, Any]) -> Report:
    return Report(**{**data, "metrics": {k: float(v) for k, v in data["metrics"].items()}})
