"""One driver a study."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sweeper.errors import UserError


@contextmanager
def study_lock(study_dir: Path) -> Iterator[None]:
    """Hold the study for one driver; the lock dies with the process.

    Raises:
        UserError: another driver holds it; says its pid and host.
    """
    study_dir.mkdir(parents=True, exist_ok=True)
    with open(study_dir / "lock", "a+") as file:
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
