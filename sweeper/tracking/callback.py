"""What MLflow is told about a study, in a layout that its UI shows well. Everything goes through the tracker's outbox.

The parent run is the study: spec, report, table of trials, plots, values of the controls. Each trial is a run below it,
named by its ID: what varies as parameters, its state as tags, its metrics, checkpoints and pictures.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from sweeper.checkpoints.retention import is_at_rung, rung_at, rung_steps
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.trial import WAITING, Report, TrialRecord, TrialState
from sweeper.noise.model import noise_of
from sweeper.noise.words import interval_of, percent
from sweeper.redaction import redact
from sweeper.spec.resolve import SweepSpec
from sweeper.study.callback import StudyCallback
from sweeper.study.controls import final_word
from sweeper.study.decisions import recorded_config
from sweeper.study.pareto import winner_of
from sweeper.tracking.delivery.operations import Status
from sweeper.tracking.schema import (
    PROVENANCE_FILE,
    STUDY_PROVENANCE,
    TAG_NOTE,
    TRIAL_FILE,
    trial_provenance,
    trial_yaml,
)
from sweeper.tracking.tags import WINNER, note_of, shown_metrics, study_tags, trial_tags
from sweeper.tracking.tracker import Tracker
from sweeper.tracking.trial_files import TrialFiles
from sweeper.tracking.ui.candidates_view import candidates_view

INTERRUPTED: Final = "interrupted; the next run of the study resumes it"
MLFLOW_STATUS: Final[Mapping[TrialState, Status]] = {
    TrialState.COMPLETE: "FINISHED",
    TrialState.PRUNED: "FINISHED",
    TrialState.COLLAPSED: "FINISHED",
    TrialState.STOPPED: "FINISHED",
    TrialState.FAILED: "FAILED",
    TrialState.INFEASIBLE: "FINISHED",  # nothing has failed: it was never started
}


class WorkerUsage(Protocol):
    """What trials use of their machines, see `executor.monitor`."""

    def address(self, trial_id: str) -> str | None:
        """Where the trial's worker is in the network; None without one."""

    def take(self, trial_id: str) -> dict[str, float]:
        """System metrics since the last call."""


class RenderedStudy(Protocol):
    """What the study's run shows, see `report.artifacts`."""

    @property
    def description(self) -> str: ...

    @property
    def texts(self) -> Mapping[str, str]: ...

    @property
    def page(self) -> Path: ...


class MLflowCallback(StudyCallback):
    """Sends what happens in the study to the tracker's outbox.

    Args:
        tracker: of the study.
        spec: of the study.
        ledger: of the study.
        provenance: of this run of the study; `data` contains the fingerprints of what it trains on. Not needed to hand
            over what is in the ledger.
        workers: say what trials use of their machines.
        describe: makes the description of a trial's run; default: its state and reason.
    """

    def __init__(
        self,
        tracker: Tracker,
        spec: SweepSpec,
        ledger: Ledger,
        provenance: Mapping[str, Any] | None = None,
        workers: WorkerUsage | None = None,
        describe: Callable[[TrialRecord], str] = note_of,
    ) -> None:
        self._tracker = tracker
        self._spec = spec
        self._ledger = ledger
        self._provenance = provenance or {}
        self._provenance_text = json.dumps(self._provenance, indent=2)
        self._provenance_file = f"provenance/{hashlib.sha256(self._provenance_text.encode()).hexdigest()[:16]}.json"
        self._datasets: Mapping[str, str] = self._provenance.get("data", {})
        self._files = TrialFiles(tracker, spec, ledger)
        self._workers = workers
        self._describe = describe

    def start_study(self, preflight_summary: str) -> None:
        """Open the study's run, and hand over what a killed driver may not have handed over."""
        self._tracker.start_study(
            study_tags(self._spec) | {"sweeper.preflight": preflight_summary},
            {
                "spec.yaml": redact(self._spec.text),
                PROVENANCE_FILE: self._provenance_text,
                self._provenance_file: self._provenance_text,  # stays when the study is resumed with other code
            },
            self._datasets,
        )
        self._tracker.tag_experiment(candidates_view(self._spec, time.time_ns() // 1_000_000))
        self.hand_over_all()

    def hand_over_all(self) -> None:
        """Everything in the ledger; what was already in the outbox is not sent twice."""
        for trial in self._ledger.all_trials():
            if not self._tracker.has_started(trial.id):
                self._restore(trial)
            rungs = set(rung_steps(self._spec, trial))
            for report in trial.reports:
                self._hand_over(trial, report, at_rung=report.step in rungs)
            if trial.state.is_finished:
                self._settle(trial, ended_ms=trial.last.timestamp_ms if trial.last else None)

    def trial_started(self, record: TrialRecord, config: Mapping[str, Any], resumed_from: int) -> None:
        self._tracker.start_trial(
            record.id,
            record.params,
            trial_tags(self._spec, record),
            self._trial_artifacts(record, config, {STUDY_PROVENANCE: self._provenance_file}),
            self._datasets,
        )

    def trial_reported(self, record: TrialRecord) -> None:
        usage: Mapping[str, float] = {}
        if self._workers is not None:
            usage = self._workers.take(record.id)
            if address := self._workers.address(record.id):
                self._tracker.tag_trial(record.id, {"sweeper.machine": address})
        self._hand_over(record, record.reports[-1], at_rung=is_at_rung(self._spec, record), usage=usage)

    def trial_finished(self, record: TrialRecord) -> None:
        self._settle(record)

    def finish_study(self, rendered: RenderedStudy, *, is_done: bool) -> None:
        """Settle the study's run: its outcome as tags, and the report and the table of trials as artifacts."""
        trials, controls = self._ledger.trials(), self._ledger.controls()
        self._close_open_runs()
        winner = winner_of(trials, self._spec.objective)
        word = final_word(trials, controls, self._spec.objective)
        self._mark_winner(winner, len(trials))
        self._tag_chances(trials)
        self._tracker.finish_study(
            "FINISHED" if is_done else "KILLED",
            {
                WINNER: winner.id if winner else "",
                "sweeper.state": "COMPLETE" if is_done else "INTERRUPTED",
                "sweeper.final_word": "\n".join(word.lines),
                "sweeper.no_skill": word.no_skill,
                TAG_NOTE: rendered.description,  # the description on the run's first page
            },
            rendered.texts,
        )
        self._tracker.study_file(rendered.page)  # as a file: its megabytes do not belong in the outbox

    def _mark_winner(self, winner: TrialRecord | None, among: int) -> None:
        """Let the best trial's own run say that it is the best, and the previous best one's that it no longer is."""
        before = self._ledger.attributes.told_winner
        if winner is None:
            return
        if before and before != winner.id:
            text = f"not the best of {among} trials: {winner.id} is"  # with the number: no tag is sent twice
            self._tracker.tag_trial(before, {WINNER: text, TAG_NOTE: self._describe(self._ledger.trial(before))})
        note = f"**Winner**, the best of {among} trials. {self._describe(winner)}"
        self._tracker.tag_trial(winner.id, {WINNER: f"best of {among} trials", TAG_NOTE: note})
        if before != winner.id:
            self._ledger.attributes.told_winner = winner.id

    def _tag_chances(self, trials: Sequence[TrialRecord]) -> None:
        """Let each candidate's run say how probably it is the best, as far as the study knows."""
        noise = noise_of(self._spec, trials)
        for candidate in noise.candidates if noise else ():
            tags = {
                "sweeper.p_best": f"{percent(candidate.p_best)} after {len(trials)} trials",  # no tag is sent twice
                "sweeper.mean_over_seeds": f"{interval_of(candidate, self._spec.objective)} ({len(candidate.runs)} run"
                f"{'s' if len(candidate.runs) > 1 else ''})",
            }
            for run in candidate.runs:
                self._tracker.tag_trial(run.id, tags)

    def interrupt_study(self) -> None:
        """Leave no run that seems to be running, if a driver was killed, or the ledger does not answer: what is known
        about its trials is in memory."""
        self._close_open_runs()
        if self._tracker.ending is None:
            self._tracker.finish_study("KILLED", {"sweeper.state": "INTERRUPTED"}, {})

    def _trial_artifacts(
        self, record: TrialRecord, config: Mapping[str, Any], provenance: Mapping[str, Any]
    ) -> dict[str, str]:
        return {
            TRIAL_FILE: trial_yaml(record.id, self._spec.trainer, config, record.params),
            PROVENANCE_FILE: json.dumps(trial_provenance(provenance, config, record.params), indent=2),
        }

    def _restore(self, record: TrialRecord) -> None:
        """The start of a trial of which MLflow may or may not know, from the outbox of a home that is lost."""
        kept = self._ledger.attributes
        data = kept.data or {}
        known = {"restored": "from the ledger", "sources": kept.code or {}, "data": data}
        first = record.reports[0] if record.reports else None
        self._tracker.restore_trial(
            record.id,
            record.params,
            trial_tags(self._spec, record),
            self._trial_artifacts(record, recorded_config(self._spec, record), known),
            data,
            started_ms=first.timestamp_ms - int(first.seconds * 1000) if first else None,
        )

    def _hand_over(
        self, record: TrialRecord, report: Report, *, at_rung: bool, usage: Mapping[str, float] | None = None
    ) -> None:
        """One evaluation: its metrics and, if it wrote a checkpoint, that or its manifest, and at a rung its pictures.

        `at_rung`: whether the trial reached one with it; `usage`: what its worker took.
        """
        metrics = {**shown_metrics(self._spec, record, report), "epoch": report.epoch, **(usage or {})}
        self._tracker.report(record.id, report.step, report.timestamp_ms, metrics)
        if at_rung:
            self._tracker.tag_trial(record.id, {"sweeper.rung": f"{report.epoch:g}"})
        self._files.of_report(record, report, at_rung=at_rung)

    def _settle(self, record: TrialRecord, ended_ms: int | None = None) -> None:
        """The end of a trial, with the checkpoints that are kept of it; a control's value goes to the parent run too.

        `ended_ms`: when it was, if not now.
        """
        left_out = self._files.of_ended(record)
        rung = rung_at(self._spec, record)
        tags = {
            "sweeper.state": record.state,
            "sweeper.reason": record.reason,
            TAG_NOTE: self._describe(record),
            "sweeper.rung": None if rung is None else f"{rung:g}",
            "sweeper.files_left_out": left_out or None,
        }
        self._tracker.finish_trial(record.id, MLFLOW_STATUS[record.state], tags, ended_ms)
        objective = self._spec.objective
        value = record.value(objective.metric)
        if record.control and record.last and value is not None:
            metrics = {f"control/{record.control}/{objective.metric}": value}
            self._tracker.report(None, record.number, record.last.timestamp_ms, metrics)

    def _close_open_runs(self) -> None:
        for trial in self._ledger.all_trials():
            if not trial.state.is_finished:  # it is reopened when it continues
                state = WAITING if trial.state is TrialState.RUNNING else trial.state
                tags = {"sweeper.state": state, "sweeper.reason": INTERRUPTED}
                self._tracker.finish_trial(trial.id, "KILLED", tags)
