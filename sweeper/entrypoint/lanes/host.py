"""Where lanes are trained: one process for several trials of a trainer that supports it (`offer`).

The driver starts it (`executor.lane_hosts`) with a listening socket. The worker of each trial connects there, and
exchanges the same messages as with a trial's own process (`entrypoint.trial.process`): its order, then "next" for each
report. The end of the connection ends only that lane.

Trials train in rounds, each to its own next evaluation; those that arrive in the meantime join the next round. A round
waits for trials whose workers are late, but not for long: the others continue without them, and they return later from
their last checkpoints. If a round fails and nothing shows which lane is at fault, its lanes resume from their last
checkpoints, half as many together, until the one that fails is alone and has the error as its result, or all have room.
"""

import faulthandler
import gc
import os
import random
import select
import signal
import socket
import sys
import time
import traceback
from typing import Final

import numpy as np

from mano_trainers.report import EpochReport, Lane
from sweeper.entrypoint.lanes.offer import lanes_function
from sweeper.entrypoint.lanes.seat import Seat
from sweeper.entrypoint.trial.messages import Ended
from sweeper.entrypoint.trial.process import PR_SET_PDEATHSIG, prctl
from sweeper.errors import UserError

LATE_S: Final = 10.0
"""How long a round waits for trials that have not asked for it; the first round waits as long for trials to arrive."""
JOIN_SHARE: Final = 0.1
"""As a share of the last round: how long the next one waits for trials to replace those that have ended."""


def serve(trainer: str, listener: int, lanes: int) -> None:
    """Train whoever connects, up to `lanes` at once, until the driver ends this process or itself."""
    os.umask(0o077)
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the driver to handle
    faulthandler.enable()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    random.seed(0)  # as a trial's own process
    np.random.seed(0)
    host = LaneHost(trainer, socket.socket(fileno=listener), lanes)
    while True:
        host.train()


class LaneHost:
    """Connects the rounds of a trainer with the workers of its trials.

    Args:
        trainer: `package.module:function`.
        listener: where workers connect.
        lanes: how many trials train at once.
    """

    def __init__(self, trainer: str, listener: socket.socket, lanes: int) -> None:
        self._trainer, self._listener, self._lanes = trainer, listener, lanes
        self._most = lanes
        self._seats: list[Seat] = []
        self._round: list[Seat] = []
        self._has_begun = False
        self._began_s = time.monotonic()

    def train(self) -> None:
        """Rounds until one fails."""
        try:
            for lane, outcome in lanes_function(self._trainer)(self.next_round):
                self._deliver(lane, outcome)
            raise UserError(f"the lanes of trainer `{self._trainer}` ended before its trials did")
        except BaseException as error:  # whatever a trainer raises is the result of a trial
            self._blame(error)
        gc.collect()  # what the error kept alive: GPU memory, above all

    def next_round(self) -> list[Lane]:
        """The trials that train next; waits until there are some."""
        round_s = time.monotonic() - self._began_s
        asked_s: float | None = None
        wait_s: float | None = 0.0  # some may have asked already
        while True:
            self._listen(wait_s)
            seated = [seat for seat in self._seats if seat.lane is not None]
            self._has_begun &= bool(seated)
            asking = self._asking()
            if not asking:
                asked_s = wait_s = None
                continue
            now_s = time.monotonic()
            asked_s = now_s if asked_s is None else asked_s
            is_whole = self._has_begun and len(asking) == len(seated)
            wait_s = asked_s + (min(LATE_S, JOIN_SHARE * round_s) if is_whole else LATE_S) - now_s
            if len(asking) >= self._most or wait_s <= 0:
                break
        self._began_s = time.monotonic()
        self._has_begun = True
        self._round = sorted(asking, key=lambda seat: seat.rounds)[: self._most]
        for seat in self._seats:
            if seat not in self._round:
                seat.begin_anew()  # the trainer forgets it
        return [seat.lane for seat in self._round if seat.lane is not None]

    def _asking(self) -> list[Seat]:
        """Trials that are ready to train; those with nothing more to do are told so."""
        for seat in self._seats:
            if seat.asks and seat.verdict is not None:
                seat.say(seat.verdict)
        return [seat for seat in self._seats if seat.asks and seat.lane is not None]

    def _listen(self, timeout_s: float | None) -> None:
        heard = [self._listener, *(seat.connection for seat in self._seats)]
        ready = select.select(heard, [], [], timeout_s)[0]
        for seat in [seat for seat in self._seats if seat.connection in ready]:
            if not seat.hear(self._trainer):
                self._seats.remove(seat)
                seat.connection.close()
        if self._listener in ready:
            self._seats.append(Seat(self._listener.accept()[0]))

    def _deliver(self, lane: Lane, outcome: EpochReport | BaseException | None) -> None:
        """What has become of a lane in this round."""
        seat = next(seat for seat in self._round if seat.lane is lane)
        if isinstance(outcome, EpochReport):
            seat.give(outcome)
        elif outcome is None:
            seat.lane, seat.verdict = None, Ended()
            seat.say(seat.verdict)
        else:
            traceback.print_exception(outcome)
            seat.fail(outcome)

    def _blame(self, error: BaseException) -> None:
        """A round has failed: find out whose fault it is."""
        traceback.print_exception(error)
        if not self._round:  # before the first one: the trainer cannot be imported, for example
            self.next_round()
        suspects = [seat for seat in self._round if seat.asks]
        if len(suspects) == 1:
            suspects[0].fail(error)
            self._most = self._lanes
        elif suspects:
            self._most = max(1, len(suspects) // 2)
            print(f"sweeper: {len(suspects)} lanes failed together: from now on {self._most} at once", file=sys.stderr)
        for seat in self._seats:
            seat.begin_anew()
        self._round = []
