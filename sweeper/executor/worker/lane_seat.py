"""The worker's side of `entrypoint.lanes.host`: like `TrainerProcess` for a trial with its own process."""

import socket
from contextlib import suppress
from pathlib import Path

from sweeper.entrypoint.trial.log import TrialLog
from sweeper.entrypoint.trial.messages import Answer, Gone, TrialOrder, answer_from_json

READ_BYTES = 1 << 16
GONE = Gone("was lost, with all lanes in it")


class LaneSeat:
    """A place among the lanes of a process, for one trial.

    Args:
        address: the socket of the process.
        output: the file that gets what it writes, all lanes together.
        log: of the trial, which gets a copy of what is written while it trains.
    """

    is_alive = False
    """It is not used again: the next trial gets its own place."""

    def __init__(self, address: str, output: Path, log: Path) -> None:
        self._output, self._log, self._pending = output, log, b""
        self._copied_bytes = output.stat().st_size if output.exists() else 0
        self._connection = socket.socket(socket.AF_UNIX)
        with suppress(OSError):  # it is gone, as `next` will find out
            self._connection.connect(address)

    def start(self, order: TrialOrder) -> None:
        """Hand it the trial."""
        self._say(order.to_json())

    def next(self) -> Answer:
        """Train to the next report: returns it, or the end, or what was raised; `Gone` if the process has ended."""
        self._say('"next"')
        try:
            while b"\n" not in self._pending:
                data = self._connection.recv(READ_BYTES)
                if not data:
                    return GONE
                self._pending += data
        except OSError:
            return GONE
        finally:
            self._copy_output()
        line, _, self._pending = self._pending.partition(b"\n")
        return answer_from_json(line)

    def close(self) -> None:
        """Leave the place; the other lanes continue."""
        self._connection.close()

    end = close

    def _say(self, line: str) -> None:
        with suppress(OSError):
            self._connection.sendall(line.encode() + b"\n")

    def _copy_output(self) -> None:
        with suppress(OSError), self._output.open("rb") as file:
            file.seek(self._copied_bytes)
            data = file.read()
            self._copied_bytes = file.tell()
            if data:
                log = TrialLog(self._log)
                log.write(data)
                log.close()
