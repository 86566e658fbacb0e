"""The durable truth about a study: which trials exist, what they reported, how each ended and why.

A ledger is an Optuna study in an append-only, fsynced journal file or in a database, so `optuna-dashboard` can open it
and a killed driver loses nothing. Everything is written here before it is acted on.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import optuna

from sweeper.errors import UserError
from sweeper.ledger.attributes import StudyAttributes, late_run_key
from sweeper.ledger.optuna_studies import OptunaStudies, load, load_or_create
from sweeper.ledger.optuna_trials import ObjectiveValues, record_of, stored_values
from sweeper.ledger.ownership import claim, place_of
from sweeper.ledger.storage.location import close_storage, one_sync, open_storage, readable, recorded_url, wait_with
from sweeper.ledger.storage.value_lists import follow_lists
from sweeper.ledger.trial import Report, TrialRecord, TrialState, encode_report, id_of, report_key, with_report
from sweeper.samplers.distributions import running_trial
from sweeper.samplers.proposal import propose
from sweeper.samplers.tried import TriedConfigurations
from sweeper.search_space.conditions import existing
from sweeper.search_space.dimensions import ParamValue
from sweeper.spec.objective import Mode
from sweeper.spec.resolve import SweepSpec

__all__ = ["Ledger", "Report", "TrialRecord", "TrialState"]


class Ledger:
    """The trials of one study: its candidates, and its controls.

    Controls are kept in an Optuna study of their own (`NAME.controls`), so they change neither the numbers nor the
    proposals of candidates. Opened for writing (`create`, `adopt`) by the one driver that holds the study's lock (see
    `study_lock`), for reading (`open`) by anyone. Every method that changes something has written it when it returns.
    """

    def __init__(self, study_dir: Path, study: str, studies: OptunaStudies) -> None:
        self.study_dir = study_dir
        self.study = study
        self._optuna = studies
        self.attributes = StudyAttributes(study, studies.attributes, studies.candidates.set_user_attr)
        self.adopted_from = place_of(self.attributes.owner)
        self._candidates: dict[str, TrialRecord] = {}
        self._controls: dict[str, TrialRecord] = {}
        self.tried = TriedConfigurations()
        self.retries = self.enqueued = 0
        stored = self.attributes.stored
        for frozen in self._optuna.frozen_trials():
            record = record_of(study, frozen)
            late = stored.get(late_run_key(record))
            self._put(replace(record, mlflow_run_id=late) if late else record)
            self.retries += record.retry_of is not None and record.control is None
            self.enqueued += record.enqueued

    @classmethod
    def open(cls, study_dir: Path, study: str, *, url: str | None = None) -> Self:
        """The ledger of a study, for reading.

        Args:
            study_dir: the folder of the study.
            study: its name.
            url: of the database that its ledger is in, with the password; default: as the folder names it.

        Raises:
            UserError: there is no such study, or its ledger is damaged.
        """
        with readable(study_dir):
            return cls(study_dir, study, load(study, open_storage(study_dir, url, create=False)))

    @classmethod
    def create(cls, study_dir: Path, study: str, *, modes: Sequence[Mode] = ("min",), url: str | None = None) -> Self:
        """The ledger of a study, for writing; made if it is not there yet.

        Args:
            study_dir, study: as of `open`.
            modes: for a new study: whether small or large values are good, for each objective.
            url: of the database for a new study's ledger; None: a file in the folder.

        Raises:
            UserError: the ledger is damaged, or belongs to another home's study.
        """
        with readable(study_dir):
            storage = open_storage(study_dir, url, create=True)
            return cls(study_dir, study, load_or_create(study, storage, modes))._for_writing(adopt=False)

    @classmethod
    def adopt(cls, study_dir: Path, study: str, url: str) -> Self:
        """The ledger of a study whose home is lost, for writing; from now on it belongs to this home.

        Raises:
            UserError: the database at the URL holds no such study.
        """
        with readable(study_dir):
            storage = open_storage(study_dir, url, create=True, adopt=True)
            return cls(study_dir, study, load(study, storage))._for_writing(adopt=True)

    def _for_writing(self, *, adopt: bool) -> Self:
        self._optuna.settle_half_finished()
        if recorded_url(self.study_dir):  # a journal moves with its home; a database may be reached from many
            try:
                claim(self.study_dir, self.attributes, adopt=adopt)
            except UserError:
                self.close()
                raise
        return self

    # -- reading

    def trials(self) -> list[TrialRecord]:
        """All candidates, by number. Controls are not among them."""
        return list(self._candidates.values())

    def all_trials(self) -> list[TrialRecord]:
        """Controls and candidates, controls first."""
        return [*self.controls(), *self.trials()]

    def controls(self) -> list[TrialRecord]:
        """All controls, in the order in which they were started."""
        return list(self._controls.values())

    @property
    def count(self) -> int:
        """How many candidates there are."""
        return len(self._candidates)

    def trial(self, trial_id: str) -> TrialRecord:
        """A candidate or a control."""
        return self._candidates.get(trial_id) or self._controls[trial_id]

    # -- writing

    def wait_with(self, note: Callable[[str], None], is_over: Callable[[], bool]) -> None:
        """When a database does not answer for a while, say so with `note`, and wait at most until `is_over`; then the
        call raises LedgerLost."""
        wait_with(self._optuna.storage, note, is_over)

    def remove(self) -> None:
        """Delete the study if its ledger is in a database; a ledger in a file is deleted with its folder."""
        if recorded_url(self.study_dir):
            self._optuna.delete()

    def close(self) -> None:
        """Let another driver write."""
        close_storage(self._optuna.storage)

    def ask(self, spec: SweepSpec) -> TrialRecord:
        """Sample a new candidate. The sampler is rebuilt from (seed, trial number) and the content of the ledger, so a
        resumed study proposes what the uninterrupted one would have."""
        with one_sync(self._optuna.storage):
            handle = self._optuna.new_trial()
            assert handle.number == self.count, "another process is writing to this ledger"
            return self._propose(handle, spec)

    def follow_lists(self, spec: SweepSpec) -> None:
        """Store the trials with the spec's lists of values, which contain every value that a trial has."""
        if follow_lists(self._optuna.candidates, spec.search_space):
            self._optuna.drop_all()

    def add_retry(self, failed: TrialRecord, spec: SweepSpec) -> TrialRecord:
        """A new candidate with the parameters of one that failed, which is not changed."""
        origin = {"retry_of": failed.id} | ({"repeat": failed.repeat} if failed.repeat else {})
        record = self._add(spec, failed.params, origin)
        self.retries += 1
        return record

    def add_repeat(self, first: TrialRecord, repeat: int, spec: SweepSpec) -> TrialRecord:
        """A new candidate with the parameters of an earlier one and its own seed: the `repeat`-th of those."""
        return self._add(spec, first.params, {"repeat": repeat})

    def add_enqueued(self, spec: SweepSpec, params: Mapping[str, ParamValue]) -> TrialRecord:
        """A new candidate with parameters that the user has chosen."""
        record = self._add(spec, params, {"enqueued": True})
        self.enqueued += 1
        return record

    def _add(self, spec: SweepSpec, params: Mapping[str, ParamValue], origin: dict[str, Any]) -> TrialRecord:
        """A new candidate with these parameters; `origin`: attributes that say where they come from."""
        number = self.count
        self._optuna.candidates.add_trial(running_trial(spec, dict(params), origin))
        return self._put(TrialRecord(id_of(self.study, number), number, dict(params), **origin))

    def add_control(self, control: str, failed: TrialRecord | None = None) -> TrialRecord:
        """Start the control of this name; a study has each once, and again for each that `failed`."""
        again = 0 if failed is None else failed.again + 1
        origin: dict[str, Any] = {"control": control}
        if failed is not None:
            origin |= {"retry_of": failed.id, "again": again}
        record = TrialRecord(id_of(self.study, 0, control, again), len(self._controls), {}, **origin)
        assert record.id not in self._controls, f"{record.id} already exists"
        self._optuna.add_control(origin)
        return self._put(record)

    def unfinished(self, spec: SweepSpec) -> list[TrialRecord]:
        """Trials a driver left running, to be handed out again, controls first. One that was interrupted while being
        sampled is first sampled to the end: same seed and history, so the same values."""
        for record in self.trials():
            if not record.state.is_finished and set(record.params) != existing(spec.search_space, record.params):
                self._propose(self._optuna.handle(record), spec)
        return [record for record in self.all_trials() if record.state is TrialState.RUNNING]

    def report(self, trial_id: str, report: Report, objective: float | None) -> bool:
        """Store one evaluation; False if this step was stored before (repeated after a restart)."""
        record = self.trial(trial_id)
        reports = with_report(record.reports, report)
        if reports is None:
            return False
        handle = self._optuna.handle(record)
        with one_sync(self._optuna.storage):
            if objective is not None and math.isfinite(objective) and not self._optuna.has_several_objectives:
                handle.report(objective, report.step)  # first: what is stored below is not read again after a kill
            handle.set_user_attr(report_key(report.step), encode_report(report))
        self._put(replace(record, reports=reports))
        return True

    def charge(self, trial_id: str, attempt: str, seconds: float) -> None:
        """Store the seconds of one attempt that no report covers; a later call for the same attempt replaces them."""
        record = self.trial(trial_id)
        self._optuna.handle(record).set_user_attr(f"charge:{attempt}", seconds)
        self._put(replace(record, charges={**record.charges, attempt: seconds}))

    def note_loss(self, trial_id: str, reason: str) -> TrialRecord:
        """Store that the trial's worker was lost, and why; the trial continues in another."""
        record = self.trial(trial_id)
        record = replace(record, losses=(*record.losses, reason))
        self._optuna.handle(record).set_user_attr("losses", record.losses)
        return self._put(record)

    def finish(
        self,
        trial_id: str,
        state: TrialState,
        reason: str,
        evidence: Mapping[str, Any],
        values: ObjectiveValues,
        charge: Mapping[str, float] | None = None,
    ) -> TrialRecord:
        """Give a trial its one terminal state. COMPLETE counts for the sampler with its values, one for each objective,
        PRUNED with what it reached, COLLAPSED and INFEASIBLE as breaking a constraint, STOPPED and FAILED not at all.
        `charge`: as `charge` does, attempt -> seconds, in the same write."""
        assert state.is_finished, state
        record = self.trial(trial_id)
        assert not record.state.is_finished, f"{record.id} is {record.state} already"
        ending: dict[str, Any] = {"state": state.value, "reason": reason, "evidence": dict(evidence)}
        ending |= {"objective": stored_values(values), "charge": dict(charge or {})}
        with one_sync(self._optuna.storage):
            self._optuna.handle(record).set_user_attr("ending", ending | {"time_s": time.time()})
            self._optuna.tell(record, state, stored_values(values))
        self._optuna.drop(trial_id)
        charges = {**record.charges, **(charge or {})}
        return self._put(replace(record, state=state, reason=reason, evidence=evidence, charges=charges))

    def pause(self, trial_id: str, reason: str, evidence: Mapping[str, Any]) -> TrialRecord:
        """Let a trial wait at a rung. To the sampler it is still running."""
        record = self._set_paused(trial_id, {"reason": reason, "evidence": dict(evidence)})
        self._optuna.drop(trial_id)  # most trials of a study may wait
        return record

    def wake(self, trial_id: str) -> TrialRecord:
        """Let a paused trial run again."""
        return self._set_paused(trial_id, None)

    def set_mlflow_run_ids(self, run_ids: Mapping[str, str]) -> None:
        """Store which MLflow run each of these trials has, with one fsync."""
        with one_sync(self._optuna.storage):
            for trial_id, run_id in run_ids.items():
                record = self.trial(trial_id)
                if record.mlflow_run_id == run_id:
                    continue
                # A finished trial's attributes are frozen in Optuna, and the ID may become known only after the end.
                if record.state.is_finished:
                    self.attributes.store(late_run_key(record), run_id)
                else:
                    self._optuna.handle(record).set_user_attr("mlflow_run_id", run_id)
                self._put(replace(record, mlflow_run_id=run_id))

    def _set_paused(self, trial_id: str, paused: dict[str, Any] | None) -> TrialRecord:
        record = self.trial(trial_id)
        assert record.state is (TrialState.RUNNING if paused else TrialState.PAUSED), record.state
        self._optuna.handle(record).set_user_attr("paused", paused)
        if paused is None:
            return self._put(replace(record, state=TrialState.RUNNING, reason="", evidence={}))
        return self._put(replace(record, state=TrialState.PAUSED, **paused))

    def _propose(self, handle: optuna.trial.Trial, spec: SweepSpec) -> TrialRecord:
        record = TrialRecord(id_of(self.study, handle.number), handle.number, propose(handle, spec, self.tried))
        self._optuna.keep(record.id, handle)
        return self._put(record)

    def _put(self, record: TrialRecord) -> TrialRecord:
        if record.control is None:
            self.tried.note(record.number, record.params)
        (self._candidates if record.control is None else self._controls)[record.id] = record
        return record
