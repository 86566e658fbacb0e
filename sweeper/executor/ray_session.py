"""The only entry to a Ray session: where it starts and ends in this process."""

import gc
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

HELD: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def connect(**arguments: Any) -> None:
    """`ray.init` with these arguments, without the workers' output and Ray's own chatter: stdout is ours."""
    import ray
    from ray._private import worker

    worker._worker_logs_enabled = False  # the last lines of a raylet that died would be printed there
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
        with _signals_held():
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
def _signals_held() -> Iterator[None]:
    """Signals that arrive in the meantime are handled afterwards: an exception in the middle, such as from a second
    Ctrl-C, would leave Ray half shut down, and its objects to be freed while the interpreter ends it."""
    if threading.current_thread() is not threading.main_thread():  # no handler of Python's runs here
        yield
        return
    came: list[int] = []
    before = {number: handler for number in HELD if (handler := signal.getsignal(number)) is not None}
    for number in before:
        signal.signal(number, lambda number, _frame: came.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for late in came:
            signal.raise_signal(late)


@contextmanager
def session(connect_to: Callable[[], None]) -> Iterator[None]:
    """Ray runs within the block and ends with it, even if `connect_to` failed halfway."""
    try:
        connect_to()
        yield
    finally:
        disconnect()
