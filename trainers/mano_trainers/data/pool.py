"""Pools of processes that render or decode. Imported by them, so it stays light."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from typing import Final

from mano_trainers.errors import DataError

STARTED_BY: Final = "TRAINERS_POOL_OF"
"""Set while there is a pool: the process that owns it."""


@contextmanager
def started_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of this many fresh processes. At the end it waits for their work: nothing is written after that.

    Raises:
        DataError: one of them ended on its own.
    """
    os.environ[STARTED_BY] = str(os.getpid())
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _start_worker)
    try:
        yield pool
    except BrokenProcessPool as error:
        what = "a process that renders or decodes images ended before its work was done: see above, or it was killed"
        raise DataError(what) from error
    finally:
        pool.shutdown(cancel_futures=True)
        os.environ.pop(STARTED_BY, None)


def refuse_own_pool() -> None:
    """A process of a pool reruns the script that started it. If that script makes the pool's data there as well, it
    would wait for ever for the process that waits for it.

    Raises:
        DataError: this is such a process.
    """
    is_of_pool = "--multiprocessing-fork" in sys.orig_argv  # `parent_process()` knows it only after the script has run
    if is_of_pool and os.environ.get(STARTED_BY) == str(os.getppid()):
        guard = 'put the call under `if __name__ == "__main__":`'
        raise DataError(f"this script starts training again in each process that makes its data: {guard}")


def _start_worker() -> None:
    """Prepare a process of a pool: its parent handles Ctrl-C, and it ends with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed parent does not say goodbye, and an idle worker would wait for work for ever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
