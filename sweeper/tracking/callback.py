"""What MLflow is told of a study, in the layout that its UI shows well. Everything goes through the tracker's outbox.

The parent run holds the study: spec, report, table of trials, plots, values of the controls. Each trial is a run
beneath it, named by its ID: what varies as parameters, how it stands as tags, its metrics, checkpoints and pictures.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from sweeper.checkpoints.locate import STORE
from sweeper.checkpoints.manifest import is_picture
from sweeper.checkpoints.retention import kept_steps, rung_at, rung_steps
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.trial import Report, TrialRecord, TrialState
from sweeper.redaction import redact
from sweeper.spec.load import SweepSpec
from sweeper.study.callback import Watcher
from sweeper.study.controls import final_word, value_of
from sweeper.study.decisions import config_of
from sweeper.study.pareto import winner_of
from sweeper.tracking import Tracker, trial_yaml
from sweeper.tracking.schema import trial_provenance

INTERRUPTED: Final = "interrupted; the next run of the study goes on with it"
MLFLOW_STATUS: Final = {
    TrialState.COMPLETE: "FINISHED",
    TrialState.PRUNED: "KILLED",
    TrialState.COLLAPSED: "KILLED",
    TrialState.STOPPED: "KILLED",
    TrialState.FAILED: "FAILED",
}


class WorkerUsage(Protocol):
    """What trials take of their machines, see `executor.monitor`."""

    def address(self, trial_id: str) -> str | None:
        """Where the trial's worker is in the network; None without one."""

    def take(self, trial_id: str) -> dict[str, float]:
        """System metrics since the last call."""


class Recorder(Watcher):
    """Sends what happens in the study to the tracker's outbox.

    Args:
        tracker: of the study.
        spec: of the study.
        ledger: of the study.
        record: its provenance; `data` holds the fingerprints of what it trains on.
        workers: tell what trials take of their machines.
    """

    def __init__(
        self, tracker: Tracker, spec: SweepSpec, ledger: Ledger, record: Mapping[str, Any], workers: WorkerUsage
    ) -> None:
        self._tracker = tracker
        self._spec = spec
        self._ledger = ledger
        self._provenance = record
        self._datasets: Mapping[str, str] = record.get("data", {})
        self._workers = workers

    def trial_started(self, record: TrialRecord, config: Mapping[str, Any], resumed_from: int) -> None:
        self._tracker.start_trial(
            record.id,
            record.params,
            _trial_tags(self._spec, record),
            {
                "trial.yaml": trial_yaml(record.id, self._spec.trainer, config, record.params),
                "provenance.json": json.dumps(trial_provenance(self._provenance, config, record.params), indent=2),
            },
            self._datasets,
        )

    def trial_reported(self, record: TrialRecord) -> None:
        rungs = rung_steps(self._spec, record)
        usage = self._workers.take(record.id)
        if address := self._workers.address(record.id):
            self._tracker.tag_trial(record.id, {"sweeper.machine": address})
        hand_over(self._tracker, self._spec, self._ledger, record, record.reports[-1], rungs, usage)

    def notice(self, text: str) -> None:
        pass  # MLflow has no place for it; the ledger keeps losses

    def trial_finished(self, record: TrialRecord) -> None:
        settle(self._tracker, self._spec, self._ledger, record)


def start_study(
    tracker: Tracker, spec: SweepSpec, ledger: Ledger, record: Mapping[str, Any], preflight_summary: str
) -> None:
    """Open the study's run, and hand over what a killed driver may not have handed over."""
    tracker.start_study(
        _study_tags(spec) | {"sweeper.preflight": preflight_summary},
        {"spec.yaml": redact(spec.text), "provenance.json": json.dumps(record, indent=2)},
        record.get("data", {}),
    )
    hand_over_all(tracker, spec, ledger)


def hand_over_all(tracker: Tracker, spec: SweepSpec, ledger: Ledger) -> None:
    """Everything in the ledger; what the outbox has had already is not sent twice."""
    for trial in (*ledger.controls(), *ledger.trials()):
        if not tracker.has_started(trial.id):
            _restore(tracker, spec, ledger, trial)
        rungs = rung_steps(spec, trial)
        for report in trial.reports:
            hand_over(tracker, spec, ledger, trial, report, rungs)
        if trial.state.is_finished:
            settle(tracker, spec, ledger, trial, ended_ms=trial.last.timestamp_ms if trial.last else None)


def _restore(tracker: Tracker, spec: SweepSpec, ledger: Ledger, record: TrialRecord) -> None:
    """The start of a trial of which MLflow may or may not know, from the outbox of a home that is lost."""
    kept = ledger.attributes
    config = config_of(spec, record)
    known = {"restored": "from the ledger", "sources": kept.get("code", {}), "data": kept.get("data", {})}
    tracker.restore_trial(
        record.id,
        record.params,
        _trial_tags(spec, record),
        {
            "trial.yaml": trial_yaml(record.id, spec.trainer, config, record.params),
            "provenance.json": json.dumps(trial_provenance(known, config, record.params), indent=2),
        },
        known["data"],
        started_ms=record.reports[0].timestamp_ms - int(record.reports[0].seconds * 1000) if record.reports else None,
    )


def _study_tags(spec: SweepSpec) -> dict[str, str]:
    return {
        "sweeper.objective": f"{spec.objective.metric}:{spec.objective.mode}",
        "sweeper.sampler": spec.sampler.name,
        "sweeper.retention": spec.retention,
        "sweeper.spec_sha256": hashlib.sha256(spec.text.encode()).hexdigest(),
    }


def _trial_tags(spec: SweepSpec, record: TrialRecord) -> dict[str, Any]:
    return {
        "sweeper.state": record.state,
        "sweeper.role": record.role,
        "sweeper.control": record.control,
        "sweeper.sampler": None if record.control else spec.sampler.name,
        "sweeper.gpus": spec.resources.gpus,  # without one, a rerun must not take one either
    }


def hand_over(
    tracker: Tracker,
    spec: SweepSpec,
    ledger: Ledger,
    record: TrialRecord,
    report: Report,
    rungs: Sequence[int],
    usage: Mapping[str, float] | None = None,
) -> None:
    """One evaluation: its metrics and, if it wrote a checkpoint, that or its manifest, and at a rung its pictures.

    `rungs`: the evaluations at which the trial reached one; `usage`: what its worker took.
    """
    metrics = {**report.metrics, "epoch": report.epoch, **(usage or {})}
    tracker.report(record.id, report.step, report.timestamp_ms, metrics)
    at_rung = report.step in rungs
    if at_rung:
        tracker.tag_trial(record.id, {"sweeper.rung": f"{report.epoch:g}"})
    if report.checkpoint is None:
        return
    folder = ledger.study_dir / report.checkpoint
    if spec.retention == "all":
        _copy_whole(tracker, record.id, folder)
    else:
        _copy_manifest(tracker, record.id, folder)
    if at_rung:
        _copy_pictures(tracker, ledger, record.id, folder)


def settle(tracker: Tracker, spec: SweepSpec, ledger: Ledger, record: TrialRecord, ended_ms: int | None = None) -> None:
    """The end of a trial, with the checkpoints that are kept of it; a control's value goes to the parent run too.

    `ended_ms`: when it was, if not now.
    """
    if record.last and record.last.checkpoint:
        _copy_pictures(tracker, ledger, record.id, ledger.study_dir / record.last.checkpoint)
    kept = kept_steps(spec, record)
    for report in record.reports:
        if report.step in kept and report.checkpoint:
            _copy_whole(tracker, record.id, ledger.study_dir / report.checkpoint)
    rung = rung_at(spec, record)
    tags = {
        "sweeper.state": record.state,
        "sweeper.reason": record.reason,
        "sweeper.rung": None if rung is None else f"{rung:g}",
    }
    tracker.finish_trial(record.id, MLFLOW_STATUS[record.state], tags, ended_ms)
    value = value_of(record, spec.objective)
    if record.control and record.last and value is not None:
        metrics = {f"control/{record.control}/{spec.objective.metric}": value}
        tracker.report(None, record.number, record.last.timestamp_ms, metrics)


class RenderedStudy(Protocol):
    """What the study's run shows, see `report.artifacts`."""

    @property
    def description(self) -> str: ...

    @property
    def texts(self) -> Mapping[str, str]: ...

    @property
    def page(self) -> Path: ...


def finish_study(tracker: Tracker, spec: SweepSpec, ledger: Ledger, rendered: RenderedStudy, *, is_done: bool) -> None:
    """Settle the study's run: its outcome as tags, and the report and the table of trials as artifacts."""
    trials, controls = ledger.trials(), ledger.controls()
    _close_open_runs(tracker, ledger)
    winner = winner_of(trials, spec.objective)
    word = final_word(trials, controls, spec.objective)
    status, state = ("FINISHED", "COMPLETE") if is_done else ("KILLED", "INTERRUPTED")
    tracker.finish_study(
        status,
        {
            "sweeper.winner": winner.id if winner else "",
            "sweeper.state": state,
            "sweeper.final_word": "\n".join(word.lines),
            "sweeper.no_skill": word.no_skill,
            "mlflow.note.content": rendered.description,  # the description on the run's first page
        },
        rendered.texts,
    )
    tracker.study_file(rendered.page)  # as a file: the outbox is no place for its megabytes


def interrupt_study(tracker: Tracker, ledger: Ledger) -> None:
    """Let no run seem to go on, where the ledger does not answer: what is known of its trials is in memory."""
    _close_open_runs(tracker, ledger)
    tracker.finish_study("KILLED", {"sweeper.state": "INTERRUPTED"}, {})


def _close_open_runs(tracker: Tracker, ledger: Ledger) -> None:
    for trial in (*ledger.controls(), *ledger.trials()):
        if not trial.state.is_finished:  # it is opened again when it goes on
            tracker.finish_trial(trial.id, "KILLED", {"sweeper.state": trial.state, "sweeper.reason": INTERRUPTED})


def _copy_whole(tracker: Tracker, trial_id: str, folder: Path) -> None:
    tracker.checkpoint(trial_id, folder, f"checkpoints/{folder.name}")


def _copy_manifest(tracker: Tracker, trial_id: str, folder: Path) -> None:
    if (folder / "manifest.json").exists():
        tracker.file(trial_id, folder / "manifest.json", f"checkpoints/{folder.name}/manifest.json")


def _copy_pictures(tracker: Tracker, ledger: Ledger, trial_id: str, folder: Path) -> None:
    if STORE in ledger.attributes:
        tracker.pictures(trial_id, folder, f"pictures/{folder.name}")
        return
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        if is_picture(path.name):
            tracker.file(trial_id, path, f"pictures/{folder.name}/{path.name}")
