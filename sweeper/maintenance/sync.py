"""`sweeper sync`: bring MLflow up to date with a study's ledger, without a driver."""

import math
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sweeper.analysis.explain import describe
from sweeper.errors import EXIT_NOT_RECORDED, EXIT_OK, EXIT_TRIAL_FAILED
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.studies import find_study, open_ledger
from sweeper.ledger.study_lock import study_lock
from sweeper.maintenance.inventory import lacking
from sweeper.redaction import redact
from sweeper.tracking import tracking_uri
from sweeper.tracking.callback import MLflowCallback
from sweeper.tracking.outbox import REJECTS
from sweeper.tracking.standing import standing_of
from sweeper.tracking.store.place import refuse_copy_of_home
from sweeper.tracking.study_tracker import keep_run_ids, open_tracker, refuse_other_ledger

STALLED_S = 20.0


@dataclass(frozen=True)
class Synced:
    """What a sync did.

    Attributes:
        study: its name.
        store: the MLflow store, without secrets.
        delivered: records that were sent now: evaluations, checkpoints, starts and ends.
        left: records that are still waiting.
        refused: records that MLflow will never accept; they are in the study's `outbox.rejected.jsonl`.
        problem: why some wait, or None.
        notices: what people must know about the store.
        lacking: what the study still lacks, a sentence each.
    """

    study: str
    store: str
    delivered: int
    left: int
    refused: int
    problem: str | None
    notices: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()

    def sentence(self) -> str:
        """What happened, for people."""
        if self.left:
            said = f"{self.left} records wait for MLflow: {self.problem}"
            said = f"{self.delivered} records delivered, {said}" if self.delivered else said
        else:
            done = f"{self.delivered} records delivered" if self.delivered else "nothing to do"
            said = done if self.refused or self.lacking else f"{done}, MLflow is up to date"
        refused = f"; {self.refused} records were refused for good, see {REJECTS} of the study" if self.refused else ""
        lines = [*self.notices, f"{self.study}: {said} ({self.store}){refused}"]
        return "\n".join([*lines, *(f"{self.study}: {each}" for each in self.lacking)])

    @property
    def code(self) -> int:
        """The exit code: 1 while records wait or something is lacking, 5 where some were refused for good."""
        if self.left or self.lacking:
            return EXIT_TRIAL_FAILED
        return EXIT_NOT_RECORDED if self.refused else EXIT_OK


def sync_study(home: Path, study: str) -> Synced:
    """Deliver everything in the ledger that MLflow does not have yet, and wait until it is there.

    Raises:
        UserError: there is no such study, or a driver runs it and delivers itself.
    """
    study_dir, spec = find_study(home, study)
    with study_lock(study_dir), closing(open_ledger(study_dir, spec)) as ledger:
        refuse_other_ledger(ledger)
        refuse_copy_of_home(home, ledger.study_dir)
        run_ids: dict[str, str] = {}
        has_lost_files = "artifacts" in _kinds_lacking(home, ledger)
        tracker = open_tracker(home, ledger, run_ids.__setitem__)
        with closing(tracker):
            if standing_of(study_dir).refused or has_lost_files:
                tracker.deliver_all_again()  # in the order in which they happened: a start after the end is not one
                (study_dir / REJECTS).unlink(missing_ok=True)
            recorder = MLflowCallback(tracker, spec, ledger, describe=partial(describe, ledger, spec))
            recorder.hand_over_all()
            recorder.interrupt_study()
            waiting = tracker.waiting
            tracker.verify()
            tracker.deliver()
            left = tracker.flush(math.inf, STALLED_S)
            problem = tracker.problem
        keep_run_ids(ledger, run_ids)
        found = [gap.what for gap in lacking(home, ledger, ask_mlflow=not left) if gap.kind in ("mlflow", "artifacts")]
    return Synced(
        study=study,
        store=redact(tracking_uri(home)),
        delivered=max(waiting, tracker.restored) - left,
        left=left,
        refused=standing_of(study_dir).refused,
        problem=problem if left else None,
        notices=tracker.notices,
        lacking=tuple(found),
    )


def _kinds_lacking(home: Path, ledger: Ledger) -> set[str]:
    return {gap.kind for gap in lacking(home, ledger, ask_mlflow=True)}
