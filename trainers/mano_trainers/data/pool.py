"""Pools of processes that render or decode. Imported by them, so it stays light."""

import os
import signal
import threading
from multiprocessing import parent_process


def start_worker() -> None:
    """Prepare a process of a pool: Ctrl-C is its parent's to handle, and it ends with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed parent says no goodbye, and an idle worker would wait for work for ever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
