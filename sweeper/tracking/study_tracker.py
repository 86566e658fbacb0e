"""Opens the tracker of a study in a home. The ledger is the truth: the outbox must be one that came from it."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from sweeper.checkpoints.locate import store_of
from sweeper.errors import UserError
from sweeper.ledger.ledger import Ledger
from sweeper.tracking.outbox import read_records
from sweeper.tracking.store.client import artifact_root, tracking_uri
from sweeper.tracking.tracker import Tracker


def open_tracker(home: Path, ledger: Ledger, on_run: Callable[[str, str], None] | None = None) -> Tracker:
    """The tracker of a study; it delivers once started.

    The ledger knows the outbox before MLflow does: a home that adopts the study, or has lost the first lines of the
    outbox, then makes no second experiment.

    Args:
        home: the study home.
        ledger: of the study, whose lock is held.
        on_run: told each trial's MLflow run ID.
    """
    tracker = Tracker(
        ledger.study_dir,
        tracking_uri(home),
        artifact_root(home),
        ledger.study,
        on_run=on_run,
        paused=True,
        store=store_of(ledger),
        stream=ledger.attributes.stream,
    )
    if ledger.attributes.stream != tracker.stream:
        ledger.attributes.stream = tracker.stream
    return tracker


def keep_run_ids(ledger: Ledger, run_ids: Mapping[str, str]) -> None:
    """Write which MLflow run each trial has, as `on_run` of its tracker told: another one where MLflow had lost it."""
    known = [trial.id for trial in ledger.all_trials() if trial.id in run_ids]
    ledger.set_mlflow_run_ids({trial_id: run_ids[trial_id] for trial_id in known})


def refuse_other_ledger(ledger: Ledger) -> None:
    """Refuse a ledger that lacks what was sent to MLflow: it was lost, or replaced by an older copy.

    What runs now would get the numbers of trials that MLflow has, with other values.

    Raises:
        UserError: says what is missing, and what to do.
    """
    if first := next(missing_from_ledger(ledger), None):
        raise UserError(
            f"the ledger of `{ledger.study}` does not have {first}, which was sent to MLflow",
            where=str(ledger.study_dir),
            help="was it lost, or replaced by an older copy? Restore it, or start another study beside it with --new",
        )


def missing_from_ledger(ledger: Ledger) -> Iterator[str]:
    """What the outbox has of trials and evaluations, and the ledger has not, in words."""
    known = {trial.id: {report.step: report.timestamp_ms for report in trial.reports} for trial in ledger.all_trials()}
    for record in read_records(ledger.study_dir):  # unchecked: checking each costs ten times as much
        match record:
            case {"op": "start", "trial": str(trial), "ms": int()} if trial not in known:
                yield f"the trial {trial}"
            case {"op": "report", "trial": str(trial), "step": int(step), "ms": int(ms), "metrics": dict()}:
                if known.get(trial, {}).get(step) != ms:
                    yield f"the evaluation {step} of {trial}"
            case _:
                pass
