"""The signals that end a run, and when they may not."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

STOPPING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def signals_held() -> Iterator[None]:
    """Signals that arrive in the meantime are handled afterwards, where an exception in the middle, as from a second
    Ctrl-C, would do harm. While Ray is shut down, it would leave Ray's objects to be freed by the interpreter's end.
    While modules are imported, it may get lost, and leave Python's import lock taken for ever: the next thread that
    imports something would wait."""
    if threading.current_thread() is not threading.main_thread():  # no handler of Python's runs here
        yield
        return
    came: list[int] = []
    before = {number: handler for number in STOPPING if (handler := signal.getsignal(number)) is not None}
    for number in before:
        signal.signal(number, lambda number, _frame: came.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for late in came:
            signal.raise_signal(late)
