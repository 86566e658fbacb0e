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
"""Set while there is a pool: the process that has it."""


@contextmanager
def started_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """So many fresh processes. At the end it waits for what they do: nothing is written after that.

    Raises:
        DataError: one of them ended by itself.
    """
    os.environ[STARTED_BY] = str(os.getpid())
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _start_worker)
    try:
        yield pool
    except BrokenProcessPool as error:
        what = "a process that renders or decodes images ended before its work did: it says why above, or was killed"
        raise DataError(what) from error
    finally:
        pool.shutdown(cancel_futures=True)
        os.environ.pop(STARTED_BY, None)


def refuse_own_pool() -> None:
    """A process of a pool runs the script again that has started it. If that makes the pool's data there, too, it would
    wait for ever for the process that waits for it.

    Raises:
        DataError: this is such a process.
    """
    is_of_pool = "--multiprocessing-fork" in sys.orig_argv  # `parent_process()` knows it only after the script has run
    if is_of_pool and os.environ.get(STARTED_BY) == str(os.getppid()):
        guard = 'put the call under `if __name__ == "__main__":`'
        raise DataError(f"this script trains again in each process that makes its data: {guard}")


def _start_worker() -> None:
    """Prepare a process of a pool: Ctrl-C is its parent's to handle, and it ends with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed parent says no goodbye, and an idle worker would wait for work for ever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
