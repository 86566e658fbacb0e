"""One driver a study."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sweeper.errors import UserError


def holder(study_dir: Path) -> str | None:
    """Who holds the study, as `pid N on HOST`; None if nobody does."""
    try:
        with open(study_dir / "lock") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return file.read().strip() or "unknown"
    except FileNotFoundError:
        pass
    return None


@contextmanager
def study_lock(study_dir: Path) -> Iterator[None]:
    """Hold the study for one driver; the lock dies with the process.

    Raises:
        UserError: another driver holds it (says its pid and host), or the home cannot be written.
    """
    try:
        study_dir.mkdir(parents=True, exist_ok=True)
        opened = open(study_dir / "lock", "a+")  # noqa: SIM115 - closed by the with below
    except OSError as error:
        raise UserError(
            f"cannot write in the study home: {error.strerror}", where=str(study_dir), help="name another with --home"
        ) from error
    with opened as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise UserError(
                f"the study `{study_dir.name}` is being run by another driver ({holder})",
                help="wait for it, stop it with Ctrl-C, or run under another name with --new",
            ) from None
        file.truncate(0)
        file.write(f"pid {os.getpid()} on {os.uname().nodename}")
        file.flush()
        yield
