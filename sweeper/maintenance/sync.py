"""`sweeper sync`: bring MLflow up to date with a study's ledger, without a driver."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sweeper.checkpoints.locate import store_of
from sweeper.ledger.studies import find_study, open_ledger
from sweeper.ledger.study_lock import study_lock
from sweeper.redaction import redact
from sweeper.tracking import Tracker, artifact_root, tracking_uri
from sweeper.tracking.callback import MLflowCallback

FLUSH_S = 600.0
STALLED_S = 20.0


@dataclass(frozen=True)
class Synced:
    """What a sync did.

    Attributes:
        study: its name.
        store: the MLflow store, without secrets.
        delivered: records that were shipped now: evaluations, checkpoints, starts and ends.
        left: records that still wait.
        refused: records that MLflow will never take, over the study's life; they are in `outbox.rejected.jsonl`.
        problem: why some wait, or None.
    """

    study: str
    store: str
    delivered: int
    left: int
    refused: int
    problem: str | None

    def sentence(self) -> str:
        """What happened, for people."""
        if self.left:
            said = f"{self.left} records wait for MLflow: {self.problem}"
            said = f"{self.delivered} records delivered, {said}" if self.delivered else said
        elif self.delivered:
            said = f"{self.delivered} records delivered; MLflow is up to date"
        else:
            said = "nothing to do, MLflow is up to date"
        refused = f"; {self.refused} were refused, see outbox.rejected.jsonl" if self.refused else ""
        return f"{self.study}: {said} ({self.store}){refused}"


def sync_study(home: Path, study: str) -> Synced:
    """Hand everything in the ledger that MLflow has not had to MLflow, and wait until it is there.

    Raises:
        UserError: there is no such study, or a driver runs it and delivers itself.
    """
    study_dir, spec = find_study(home, study)
    uri = tracking_uri(home)
    with study_lock(study_dir), closing(open_ledger(study_dir, spec)) as ledger:
        run_ids: dict[str, str] = {}
        tracker = Tracker(
            study_dir, uri, artifact_root(home), study, on_run=run_ids.__setitem__, paused=True, store=store_of(ledger)
        )
        with closing(tracker):
            MLflowCallback(tracker, spec, ledger).hand_over_all()
            waiting = tracker.left
            tracker.deliver()
            left = tracker.flush(FLUSH_S, STALLED_S)
            problem = tracker.problem
        for trial in ledger.all_trials():
            if trial.id in run_ids:
                ledger.set_mlflow_run_id(trial.id, run_ids[trial.id])
        rejects = study_dir / "outbox.rejected.jsonl"
        refused = len(rejects.read_text().splitlines()) if rejects.exists() else 0
    return Synced(study, redact(uri), waiting - left, left, refused, problem if left else None)
