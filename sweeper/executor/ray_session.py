"""The only entry to a Ray session: where it starts and ends in this process."""

import gc
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from sweeper.executor.signals import STOPPING, signals_held


def connect(**arguments: Any) -> None:
    """`ray.init` with these arguments, without the workers' output and Ray's own chatter: stdout is ours. And so are
    signals."""
    import ray
    from ray._private import worker

    worker._worker_logs_enabled = False  # the last lines of a raylet that died would be printed there
    with _handlers_kept():
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **arguments)


def disconnect() -> None:
    """`ray.shutdown`, during which no Ray object is freed.

    A reference or handle that is freed while Ray shuts down ends the process immediately, with exit code 1 and no
    traceback: Ray does so on purpose. Python's cyclic garbage collector runs in whatever thread allocates, such as the
    one that delivers to MLflow, and may find one at any moment. So garbage is collected beforehand, and none until it
    is over.
    """
    import ray

    was_enabled = gc.isenabled()
    gc.disable()
    _collect()
    try:
        with signals_held():
            ray.shutdown()
    finally:
        if was_enabled:
            gc.enable()


def _collect() -> None:
    """`gc.collect`, which on its own does nothing while another thread collects, whose work would continue."""
    me, ran = threading.get_ident(), threading.Event()

    def note(phase: str, _info: dict[str, int]) -> None:
        if phase == "stop" and threading.get_ident() == me:
            ran.set()

    gc.callbacks.append(note)
    try:
        while not ran.is_set():
            gc.collect()
            ran.wait(0.001)
    finally:
        gc.callbacks.remove(note)


@contextmanager
def _handlers_kept() -> Iterator[None]:
    """Within, Ray sets no handler of SIGTERM: its own ends the process, with exit code 1 or 15, wherever it is. And
    what Ray's C++ part puts before the handlers, which prints a stack trace, is gone afterwards."""
    from ray._private import utils

    in_main_thread = threading.current_thread() is threading.main_thread()
    before = {number: handler for number in STOPPING if (handler := signal.getsignal(number)) is not None}
    with patch.object(utils, "set_sigterm_handler", lambda handler: None):
        try:
            yield
        finally:
            for number, handler in before.items() if in_main_thread else ():
                signal.signal(number, handler)


@contextmanager
def session(connect_to: Callable[[], None]) -> Iterator[None]:
    """Ray runs within the block and ends with it, even if `connect_to` failed halfway."""
    try:
        connect_to()
        yield
    finally:
        disconnect()
