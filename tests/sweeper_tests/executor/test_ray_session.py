"""Ray's session is opened and closed in one place, and no garbage is collected while it closes."""

import gc
import re
import signal
import threading
import time
from pathlib import Path

import pytest
import ray

import sweeper
from sweeper.executor.ray_session import connect, disconnect, session


class Handle:
    """Part of a reference cycle, like one of Ray's references in a traceback."""

    freed_during_shutdown = False

    def __init__(self) -> None:
        self.itself = self

    def __del__(self) -> None:
        Handle.freed_during_shutdown |= SHUTTING_DOWN.is_set()


SHUTTING_DOWN = threading.Event()


def test_no_garbage_is_collected_in_any_thread_while_ray_shuts_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray kills the process when one of its objects is freed then."""
    threshold = gc.get_threshold()
    gc.set_threshold(10)

    def busy() -> None:
        while not over.is_set():
            [[] for _ in range(100)]

    def shutdown() -> None:
        SHUTTING_DOWN.set()
        Handle()
        over.wait(0.2)
        SHUTTING_DOWN.clear()

    over = threading.Event()
    monkeypatch.setattr(ray, "shutdown", shutdown)
    thread = threading.Thread(target=busy)
    Handle()
    thread.start()
    try:
        disconnect()
    finally:
        over.set()
        thread.join()
        gc.set_threshold(*threshold)
    assert not Handle.freed_during_shutdown
    assert gc.isenabled()


def test_the_shutdown_waits_for_a_collection_that_another_thread_has_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    began, order = threading.Event(), []

    class Slow:
        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            began.set()
            time.sleep(0.3)
            order.append("freed")

    monkeypatch.setattr(ray, "shutdown", lambda: order.append("shutdown"))
    gc.disable()
    Slow()
    thread = threading.Thread(target=gc.collect)
    thread.start()
    assert began.wait(240)
    gc.enable()
    disconnect()
    thread.join()
    assert order == ["freed", "shutdown"]


def test_a_session_that_failed_to_start_is_shut_down(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[bool] = []
    monkeypatch.setattr(ray, "shutdown", lambda: ended.append(gc.isenabled()))

    def fail() -> None:
        raise RuntimeError("no room")

    with pytest.raises(RuntimeError, match="no room"), session(fail):
        pass
    assert ended == [False]


def test_a_signal_does_not_interrupt_the_shutdown_and_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half shut down, Ray would be ended by the interpreter on exit, when its objects are freed."""
    ended: list[str] = []

    def shutdown() -> None:
        signal.raise_signal(signal.SIGINT)
        ended.append("whole")

    monkeypatch.setattr(ray, "shutdown", shutdown)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), session(lambda: None):
        pass
    assert ended == ["whole"]
    assert gc.isenabled()
    assert signal.getsignal(signal.SIGINT) is before


def test_ray_is_started_and_ended_nowhere_else() -> None:
    calls = [
        path.name
        for path in Path(str(sweeper.__file__)).parent.rglob("*.py")
        if re.search(r"ray\.(init|shutdown)\(", path.read_text())
    ]
    assert calls == ["ray_session.py"]


def test_ray_gets_no_handler_of_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own would end the process wherever it is, with a code that says nothing."""
    stopped: list[int] = []

    def init(**_: object) -> None:
        ray._private.utils.set_sigterm_handler(lambda *_: pytest.fail("this is Ray's"))
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(ray, "init", init)
    before = signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    try:
        connect()
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert stopped == [signal.SIGTERM] * 2
