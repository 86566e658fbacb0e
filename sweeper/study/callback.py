"""Who is told what happens in a study."""

from collections.abc import Mapping
from typing import Any, Protocol

from sweeper.ledger.trial import TrialRecord


class Watcher(Protocol):
    """Told by the study: the tracker, the progress display, the notifications."""

    def trial_started(self, record: TrialRecord, config: Mapping[str, Any], resumed_from: int) -> None: ...
    def trial_reported(self, record: TrialRecord) -> None: ...
    def trial_finished(self, record: TrialRecord) -> None: ...
    def notice(self, text: str) -> None: ...
