"""`python -m sweeper.entrypoint.call`, the process that preflight talks to, here or on a machine of a cluster."""

import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final

from sweeper.errors import UserError
from sweeper.executor.monitor import Child
from sweeper.spec.sections import Resources

ROOM_S: Final = 10.0
PRINTED_S: Final = 2.0


def start_seam(
    arguments: Sequence[str],
    resources: Resources,
    environment: dict[str, str],
    stderr: int | None = None,
    folder: str | None = None,
) -> Child:
    """Start it on this machine, with this environment and the GPUs that a trial gets; in the folder, if it is here."""
    if resources.gpus == 0:
        environment["CUDA_VISIBLE_DEVICES"] = ""  # like the trials
    return subprocess.Popen(
        # -P: the working folder may hold a `random.py` of the user, which no library must find
        [sys.executable, "-P", "-m", "sweeper.entrypoint.call", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        env=environment,
        cwd=folder if folder and os.path.isdir(folder) else None,
    )


class _SeamHost:
    """A process that runs `sweeper.entrypoint.call` beside this actor."""

    def __init__(self, arguments: Sequence[str], resources: Resources, folder: str) -> None:
        self._child = start_seam(arguments, resources, dict(os.environ), subprocess.PIPE, folder)
        self._printed: deque[str] = deque()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._child.stderr:
            self._printed.append(line)

    def write(self, text: str) -> None:
        self._child.stdin.write(text)
        self._child.stdin.flush()

    def readline(self) -> tuple[str, str]:
        """The next answer, and what was printed before."""
        line = str(self._child.stdout.readline())
        return line, self._take_printed()

    def wait(self) -> tuple[int, str]:
        self._child.stdin.close()
        code = self._child.wait()
        self._reader.join(PRINTED_S)  # a child of its own may hold the pipe for longer
        return code, self._take_printed()

    def _take_printed(self) -> str:
        return "".join(self._printed.popleft() for _ in range(len(self._printed)))


class RemoteChild:
    """Like `subprocess.Popen`, for a process on another machine, as far as needed."""

    def __init__(self, arguments: Sequence[str], resources: Resources) -> None:
        import ray

        host = ray.remote(num_cpus=resources.cpus, num_gpus=resources.gpus)(_SeamHost)
        self._host = host.remote(arguments, resources, os.getcwd())  # where the trials will be
        if not ray.wait([self._host.__ray_ready__.remote()], timeout=ROOM_S)[0]:
            what = f"{resources.cpus} cores and {resources.gpus:g} GPUs"
            print(f"no machine of the cluster has {what} free for the checks: waiting for one", file=sys.stderr)
        self.stdin = self.stdout = self
        self.stderr = None  # what is printed there comes with the answers
        self.returncode: int | None = None

    def write(self, text: str) -> None:
        import ray

        try:
            ray.get(self._host.write.remote(text))
        except (ray.exceptions.RayError, BrokenPipeError) as error:
            raise BrokenPipeError(str(error)) from error

    def flush(self) -> None:
        """Each write is."""

    def __iter__(self) -> Iterator[str]:
        import ray

        try:
            while True:
                line, printed = ray.get(self._host.readline.remote())
                print(printed, end="", file=sys.stderr)
                if not line:
                    return
                yield line
        except ray.exceptions.RayError as error:  # says nothing about the data or the pipeline
            what = f"the machine that ran the checks was lost: {str(error).splitlines()[0]}"
            raise UserError(what, help="nothing was started: run it again") from None

    def close(self) -> None:
        """`wait` does."""

    def wait(self, timeout: float | None = None) -> int:
        import ray

        try:
            self.returncode, printed = ray.get(self._host.wait.remote(), timeout=timeout)
            print(printed, end="", file=sys.stderr)
        except ray.exceptions.GetTimeoutError:
            raise subprocess.TimeoutExpired("sweeper.entrypoint.call", timeout or 0.0) from None
        except ray.exceptions.RayError:
            self.returncode = self.returncode or 1
        ray.kill(self._host)
        return self.returncode

    def terminate(self) -> None:
        import ray

        ray.kill(self._host)
