"""A trial's place among the lanes of a process: what its worker has said there, and what it is told."""

import json
import socket
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from mano_trainers.report import EpochReport, Lane
from sweeper.entrypoint.config_model import with_model
from sweeper.entrypoint.error_text import described, traced
from sweeper.entrypoint.place import defined_at
from sweeper.entrypoint.reports import checked_reports
from sweeper.entrypoint.resolve import load_trainer
from sweeper.entrypoint.trial.checkpoint_copy import as_reported
from sweeper.entrypoint.trial.messages import Answer, Gone, Raised, Reported, TrialOrder, order_from_json, to_json
from sweeper.redaction import redact

READ_BYTES: Final = 1 << 16


@dataclass(eq=False)
class Seat:
    """One connection.

    Attributes:
        lane: what is trained; None before the order, and if there is nothing to train.
        asks: whether the worker waits for an answer.
        rounds: how many the trial has had here.
        verdict: what the worker is told when it asks next, instead of training.
    """

    connection: socket.socket
    lane: Lane | None = None
    asks: bool = False
    rounds: int = 0
    verdict: Answer | None = None
    _pending: bytes = b""
    _resume: Path | None = None
    _given: deque[EpochReport] = field(default_factory=deque)
    _checked: Iterator[EpochReport] = field(default_factory=lambda: iter(()))

    def hear(self, trainer: str) -> bool:
        """Read what the worker has said; False: it is gone."""
        try:
            data = self.connection.recv(READ_BYTES)
        except OSError:
            data = b""
        *lines, self._pending = (self._pending + data).split(b"\n")
        for line in lines:
            if isinstance(json.loads(line), dict):
                self._sit(trainer, order_from_json(line))
            else:
                self.asks = True
        return bool(data)

    def give(self, report: EpochReport) -> None:
        """Answer with a report of the lane."""
        self._given.append(report)
        try:
            found = next(self._checked)
        except Exception as error:
            self.fail(error)
            return
        self._resume = found.checkpoint
        checkpoint = None if found.checkpoint is None else str(found.checkpoint)
        self.rounds += 1
        self.say(Reported(found.step, found.epoch, found.metrics, checkpoint, found.total_epochs))

    def fail(self, error: BaseException) -> None:
        """Answer with an error, which ends the lane."""
        self.verdict, self.lane = raised(error), None
        self.say(self.verdict)

    def say(self, answer: Answer) -> None:
        """Answer the worker. One that is gone is noticed at the next read."""
        self.asks = False
        with suppress(OSError):
            self.connection.sendall(to_json(answer).encode() + b"\n")

    def begin_anew(self) -> None:
        """What was trained is lost: resume from the last checkpoint."""
        if self.lane is None:
            return
        if self.rounds and self._resume is None:
            self.lane, self.verdict = None, Gone("lost its progress when lanes beside it failed")
        else:
            self.lane = Lane(self.lane.config, self.lane.workdir, as_reported(self._resume))

    def _sit(self, trainer: str, order: TrialOrder) -> None:
        workdir = Path(order.workdir)
        try:
            function = load_trainer(trainer)
            config: Any = with_model(function, order.config)
            workdir.mkdir(parents=True, exist_ok=True)
        except BaseException as error:  # a module of the user may raise anything
            self.verdict = raised(error)
            return
        self._resume = Path(order.resume) if order.resume else None
        self.lane = Lane(config, workdir, as_reported(self._resume))
        self._checked = checked_reports(
            trainer, self._reports(), workdir, place=defined_at(function), resumed=self._resume is not None
        )

    def _reports(self) -> Iterator[EpochReport]:
        while True:
            yield self._given.popleft()


def raised(error: BaseException) -> Raised:
    """An error as a trial's result; redacted here, in the environment whose secrets it may contain."""
    return Raised(redact(described(error)), redact(traced(error)))
