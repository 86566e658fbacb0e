"""Who is told what happens in a study."""

from collections.abc import Mapping
from typing import Any

from sweeper.ledger.trial import TrialRecord


class StudyCallback:
    """Told by the study what happens, once it is in the ledger; a subclass overrides what it needs."""

    def trial_started(self, record: TrialRecord, config: Mapping[str, Any], resumed_from: int) -> None:
        """A trial is handed out with its resolved config; `resumed_from`: the evaluation it resumes from, or 0."""

    def trial_reported(self, record: TrialRecord) -> None:
        """The last of the trial's reports is new."""

    def trial_finished(self, record: TrialRecord) -> None:
        """The trial has its terminal state."""

    def notice(self, text: str) -> None:
        """Something the user should know."""
