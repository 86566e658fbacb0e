"""Errors a person can act on, and the exit codes of the command line. Imports nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

EXIT_OK: Final = 0
EXIT_TRIAL_FAILED: Final = 1
EXIT_BAD_INPUT: Final = 2
EXIT_NO_SKILL: Final = 3
EXIT_DIFFERS: Final = 4
EXIT_NOT_RECORDED: Final = 5
EXIT_SIGNAL: Final = 128  # plus the number of the signal
EXIT_INTERRUPTED: Final = 130


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        what: what is wrong, in one sentence without a full stop.
        where: the place: ``file:line:col key``, a path, or the option of the command line.
        help: how to fix it.
    """

    what: str
    where: str | None = None
    help: str | None = None

    def render(self) -> str:
        """The problem as the command line prints it: ``error:``, ``-->`` and ``help:`` lines."""
        lines = [f"error: {self.what}"]
        if self.where is not None:
            lines.append(f"  --> {self.where}")
        if self.help is not None:
            lines.append(f"help: {self.help}")
        return "\n".join(lines)


class UserError(Exception):
    """Something the user can fix: bad input, a missing file, a study that is in use. No traceback is shown.

    Args:
        what: what is wrong, in one sentence without a full stop.
        where: the place, if there is one.
        help: how to fix it.
    """

    def __init__(self, what: str, where: str | None = None, help: str | None = None) -> None:
        super().__init__(what)
        self.problems: tuple[Problem, ...] = (Problem(what, where, help),)

    def render(self) -> str:
        """All problems as the command line prints them, a blank line between two."""
        return "\n\n".join(problem.render() for problem in self.problems)


class LedgerLost(UserError):
    """The ledger can no longer be reached: nothing further can be stored or read."""


class StudyTaken(LedgerLost):
    """Another driver has the study.

    Args:
        study: its name.
        holder: `pid N on HOST`.
    """

    def __init__(self, study: str, holder: str) -> None:
        super().__init__(
            f"the study `{study}` is being run by another driver ({holder})",
            help="wait for it, stop it with Ctrl-C, or run under another name with --new",
        )


class SpecError(UserError):
    """Everything that is wrong with one spec file and its ``--set`` overrides, in the order of the file."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(problem.what for problem in problems))
        self.problems = tuple(problems)
