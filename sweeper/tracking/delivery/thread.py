"""The thread that delivers an outbox to MLflow, retrying until MLflow has accepted it."""

import contextlib
import json
import math
import threading
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from sweeper.redaction import redact
from sweeper.tracking.delivery.operations import Copy, Operation, RecordsLostError, RejectedError, from_json, to_json
from sweeper.tracking.delivery.run_writer import RunWriter
from sweeper.tracking.delivery.runs import Delivered
from sweeper.tracking.outbox import Outbox

READ_OPERATIONS: Final = 1000
FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 30.0
JOIN_S: Final = 2.0


class DeliveryThread:
    """Takes operations into an outbox, and delivers them in a thread of its own.

    Args:
        outbox: where operations wait.
        writer: applies them.
        rejects: a file for what MLflow will never accept, each with the reason.
    """

    def __init__(self, outbox: Outbox, writer: RunWriter, rejects: Path) -> None:
        self._outbox = outbox
        self._writer = writer
        self._rejects = rejects
        self._backlog: deque[Operation] = deque()
        self._backlog_lock = threading.Lock()
        self._to_verify: Mapping[str | None, Delivered] | None = None
        self._problem: str | None = None
        self._closed = False
        self.restored = 0
        """Operations that are delivered again, since MLflow had lost them."""
        self._more, self._retry = threading.Event(), threading.Event()
        self._delivered = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="mlflow-outbox", daemon=True)

    @property
    def problem(self) -> str | None:
        """Why nothing is delivered at the moment, in one line without secrets; None while all is well."""
        return self._problem

    @property
    def waiting(self) -> int:
        """Operations that are not delivered yet."""
        return self._outbox.left + len(self._backlog)

    @property
    def left(self) -> int:
        """As `waiting`; one more while it is not known whether MLflow has the others."""
        return self.waiting + (self._to_verify is not None)

    def start(self) -> None:
        """Start delivering."""
        self._thread.start()

    def verify(self, delivered: Mapping[str | None, Delivered]) -> None:
        """Once everything is delivered, check whether MLflow has it, and deliver everything again if not."""
        self._to_verify = delivered
        self._more.set()

    def append(self, operation: Operation) -> None:
        """Append to the outbox; what a full disk refuses waits in memory, in order."""
        with contextlib.suppress(OSError):
            self._save(operation)
        self._more.set()

    def flush(self, timeout_s: float, stalled_s: float = math.inf) -> int:
        """Wait until everything is delivered, at most `timeout_s` seconds. Returns the operations left.

        Gives up early when there is a problem and nothing was delivered for `stalled_s` seconds.
        """
        deadline = time.monotonic() + timeout_s
        with contextlib.suppress(OSError):
            self._outbox.sync()
        self._retry.set()
        with self._delivered:
            while left := self.left:
                wait_s = min(deadline - time.monotonic(), stalled_s)
                if wait_s <= 0:
                    break
                # Woken at each delivery; the thread has said what the problem is before the time is over.
                woken = self._delivered.wait(None if math.isinf(wait_s) else wait_s)
                stuck = self._problem is not None or not self._thread.is_alive()
                if not woken and self.left >= left and stuck:
                    break
        return self.left

    def close(self) -> None:
        """Stop delivering. What is left stays in the outbox."""
        if self._closed:
            return
        self._closed = True
        self._more.set()
        self._retry.set()
        with contextlib.suppress(OSError):
            self._save()
        if self._thread.ident is not None:
            self._thread.join(JOIN_S)
        if not self._thread.is_alive():  # a thread that hangs in a call still needs the file
            with contextlib.suppress(OSError):
                self._outbox.pack()
            self._outbox.close()

    def _save(self, *operations: Operation) -> None:
        with self._backlog_lock:
            self._backlog.extend(operations)
            while self._backlog:
                self._outbox.append(to_json(self._backlog[0]))
                self._backlog.popleft()

    def _run(self) -> None:
        """Deliver until closed. Nothing that goes wrong here may reach the driver, so all is caught."""
        pause_s = FIRST_PAUSE_S
        while not self._closed:
            if self.left == 0:
                self._more.wait()
                self._more.clear()
                continue
            try:
                self._deliver_and_verify()
                self._problem, pause_s = None, FIRST_PAUSE_S
            except Exception as error:
                self._problem = redact(f"{type(error).__name__}: {error}".splitlines()[0])
                self._retry.wait(pause_s)
                self._retry.clear()
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _deliver_and_verify(self) -> None:
        try:
            self._deliver_some()
            self._verify()
        except RecordsLostError:  # what the outbox still has of them is delivered again
            self._to_verify = None
            self._outbox.rewind()
            self.restored = self._outbox.left
            self._writer.start_over()

    def _verify(self) -> None:
        if self._to_verify is not None and self.waiting == 0:
            self._writer.verify(self._to_verify)
            self._to_verify = None
            with self._delivered:
                self._delivered.notify_all()

    def _deliver_some(self) -> None:
        """All values of a batch in few calls, and before its files, which may take long."""
        self._writer.connect()
        waiting = self._outbox.read(READ_OPERATIONS)
        operations: dict[int, Operation] = {}
        refused: dict[int, str] = {}
        for index, (record, _) in enumerate(waiting):
            try:
                operations[index] = from_json(record)
            except ValueError as error:
                refused[index] = str(error)
        values = {index: each for index, each in operations.items() if not isinstance(each, Copy)}
        why = self._writer.apply(list(values.values()))
        refused |= {index: why[place] for place, index in enumerate(values) if place in why}
        done = 0
        for index, (record, end) in enumerate(waiting):
            operation = operations.get(index)
            if isinstance(operation, Copy):
                try:
                    self._writer.copy(operation)
                except RejectedError as error:
                    refused[index] = str(error)
            if index in refused:
                self._reject(record, refused[index])
            if isinstance(operation, Copy) or index in refused or index + 1 == len(waiting):
                self._ack(end, index + 1 - done)
                done = index + 1
        self._save()

    def _reject(self, record: Mapping[str, Any], why: str) -> None:
        with self._rejects.open("a") as file:
            file.write(json.dumps({"why": redact(why), "operation": record}) + "\n")

    def _ack(self, end: int, count: int) -> None:
        with self._delivered:
            self._outbox.ack(end, count)
            self._delivered.notify_all()
