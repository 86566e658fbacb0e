"""One line of a diagnosis."""

from collections.abc import Callable
from dataclasses import dataclass

from mano_trainers.report import CheckStatus


@dataclass(frozen=True)
class Finding:
    """Something that `sweeper doctor` has looked at.

    Attributes:
        check: `group.what`, always the same for the same check.
        status: PASS; WARN: work is lost or space wasted if nothing is done; FAIL: results cannot be trusted, or a run
            cannot start.
        what: what was found.
        help: how to fix it; empty for PASS.
        fix: fixes it and says what it did; None if a person must.
    """

    check: str
    status: CheckStatus
    what: str
    help: str = ""
    fix: Callable[[], str] | None = None
