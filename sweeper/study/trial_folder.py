"""The folder of a trial's own files, and what the driver writes there."""

import contextlib
from pathlib import Path
from typing import Final

from sweeper.entrypoint.trial.log import LOG
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.trial import TrialRecord
from sweeper.redaction import redact

ERROR_FILE: Final = "error.txt"
"""The traceback of a trainer that raised."""


def folder_of(record: TrialRecord) -> Path:
    """The folder, relative to that of the study."""
    return Path("trials") / record.folder


def relative_to_study(ledger: Ledger, path: Path | None) -> str | None:
    """A path as the ledger has it: relative to the study's folder if it is within."""
    if path is None:
        return None
    absolute, root = path.resolve(), ledger.study_dir.resolve()
    return str(absolute.relative_to(root)) if absolute.is_relative_to(root) else str(absolute)


def keep_traceback(ledger: Ledger, record: TrialRecord, text: str) -> str:
    """Write what the trainer raised, without secrets; returns where, as the ledger has it."""
    folder = ledger.study_dir / folder_of(record)
    with contextlib.suppress(OSError):  # the trainer has put something else there
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ERROR_FILE).write_text(redact(text))
    return str(relative_to_study(ledger, folder / ERROR_FILE))


def keep_output(ledger: Ledger, trial_id: str, output: str) -> None:
    """Append to a trial's log what it has written on a machine that does not see the study's folder."""
    if output:
        folder = ledger.study_dir / folder_of(ledger.trial(trial_id))
        with contextlib.suppress(OSError), (folder / LOG).open("a") as log:
            log.write(output)
