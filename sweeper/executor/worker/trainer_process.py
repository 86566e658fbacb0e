"""The worker's side of `entrypoint.trial.process`: starts it, hands it trials, and reads their answers."""

import json
import os
import select
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from sweeper.entrypoint.trial.messages import Answer, Gone, Idle, TrialOrder, answer_from_json, to_json

CLOSE_S: Final = 60.0
"""How long a trainer may take to clean up."""
READ_BYTES: Final = 1 << 16
_BOOT: Final = (
    "import json, sys; told = json.loads(sys.argv[1]); sys.argv[:] = ['trainer']; sys.path[:] = told.pop('path'); "
    "from sweeper.entrypoint.trial.process import serve; serve(**told)"
)


class TrainerProcess:
    """A process that has the trainer's module, and runs one trial after another.

    Args:
        trainer: `package.module:function`.
        folder: the working folder, from where the module is found.
        log: gets what the module writes when it is imported.
    """

    def __init__(self, trainer: str, folder: Path, log: Path) -> None:
        commands, self._commands = os.pipe()
        answers, theirs = os.pipe()
        told = {"path": sys.path, "trainer": trainer, "commands": commands, "answers": theirs}
        environment = dict(os.environ)
        environment.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # to ask for CUDA must not spoil a fork
        environment.setdefault("PYTHONHASHSEED", "0")  # the order of a set is the same in every process
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                # -P: the working folder may hold a `json.py` of the user, which no library must find
                [sys.executable, "-P", "-c", _BOOT, json.dumps(told)],
                cwd=folder if folder.is_dir() else None,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=(commands, theirs),
                start_new_session=True,
            )
        os.close(commands)
        os.close(theirs)
        self._answers, self._pending = answers, b""
        self._busy = False

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def start(self, order: TrialOrder) -> None:
        """Hand it a trial."""
        self._say(order.to_json())
        self._busy = True

    def next(self) -> Answer:
        """Train to the next report: returns it, or the end, or what was raised; `Gone` if the process has ended."""
        self._say('"next"')
        return self._answer()

    def close(self) -> None:
        """Let the trainer clean up, and wait until it has."""
        if not self._busy:
            return
        self._say('"close"')
        if not self._is_answered(CLOSE_S):
            self._say('"kill"')
        while self._busy:
            self._answer()

    def end(self) -> None:
        """End the process."""
        self.close()
        os.close(self._commands)
        self._process.wait()
        os.close(self._answers)

    def _say(self, line: str) -> None:
        data = line.encode() + b"\n"
        with suppress(BrokenPipeError):
            while data:
                data = data[os.write(self._commands, data) :]

    def _is_answered(self, timeout_s: float) -> bool:
        return b"\n" in self._pending or bool(select.select([self._answers], [], [], timeout_s)[0])

    def _answer(self) -> Answer:
        while b"\n" not in self._pending:
            data = os.read(self._answers, READ_BYTES)
            self._pending += data or to_json(Gone("was lost")).encode() + b"\n"
        line, _, self._pending = self._pending.partition(b"\n")
        answer = answer_from_json(line)
        if isinstance(answer, Idle | Gone):
            self._busy = False
        return answer
