"""One driver per study: by an flock in its folder and, if its ledger is in PostgreSQL, by a lock there (`advisory`),
that holds where two drivers do not see the same folder. A ledger in SQLite is a file of this machine: the flock
suffices."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sweeper.errors import StudyTaken, UserError
from sweeper.files import remove_half_written
from sweeper.home import refuse_foreign_links, refuse_special_files, refuse_unfit_disk
from sweeper.ledger.storage.location import database_holder, is_on_a_server


def running_driver(study_dir: Path) -> str | None:
    """Who holds the study, as `pid N on HOST`; None if nobody does."""
    try:
        with open(study_dir / "lock") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return file.read().strip() or "unknown"
    except OSError:  # there is none, or the file system has no locks
        pass
    return database_holder(study_dir)


def is_driven(study_dir: Path) -> bool:
    """Whether another process runs the study; if this one is the driver, it is ending when it asks."""
    return running_driver(study_dir) not in (None, this_process())


@contextmanager
def study_lock(study_dir: Path, url: str | None = None) -> Iterator[None]:
    """Hold the study for one driver; the lock dies with the process. What a killed one was writing is deleted.

    Args:
        study_dir: the folder of the study.
        url: of its ledger, if the study may be new; its lock is taken when the ledger is opened.

    Raises:
        UserError: another driver holds it (says its pid and host), the home cannot be written, or a link leads out.
    """
    refuse_foreign_links(study_dir)
    refuse_special_files(study_dir)
    try:
        study_dir.mkdir(parents=True, exist_ok=True)
        refuse_unfit_disk(study_dir, locks=not is_on_a_server(study_dir, url))
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
            running_driver = file.read().strip() or "unknown"
            raise StudyTaken(study_dir.name, running_driver) from None
        except OSError:  # the file system has no locks, and the ledger's server does
            pass
        else:
            remove_half_written(study_dir)
        file.truncate(0)
        file.write(this_process())
        file.flush()
        yield


def this_process() -> str:
    """How the lock names this process."""
    return f"pid {os.getpid()} on {os.uname().nodename}"
