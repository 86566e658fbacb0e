"""A `python` that has imported torch and what builds on it, or what verbs import: scripts and modules run in a process
that is forked from one that has, after a tenth of a second of processor time instead of three to eight seconds.

To its caller, the command is an interpreter: arguments, environment, folder, streams, signals and exit code are what
they would be.
"""

import contextlib
import importlib
import json
import multiprocessing
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from faulty import environment

OF_TRAINER = ("torch", "torch._dynamo", "timm")
FRAMEWORKS = ("torch", "torch._dynamo", "lightning", "transformers.trainer")
SOCKET = "socket"
CLIENT = """#!{python} -ISE
import array, json, os, signal, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect(os.path.join(os.path.dirname(__file__), "socket"))
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda number, frame: server.send(bytes([number])))
told = json.dumps([sys.argv[1:], dict(os.environ), os.getcwd()]).encode()
streams = array.array("i", [0, 1, 2])
server.sendmsg([len(told).to_bytes(4, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
server.sendall(told)
code = int(server.makefile().readline())
if code < 0:
    signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


@contextlib.contextmanager
def warm_python(folder: Path, libraries: Sequence[str] = FRAMEWORKS) -> Iterator[Path]:
    """The path of the command, which works until the block ends. A driver that gets it in the variable WARM_PYTHON
    (`forked`) starts its trials with it.

    Args:
        folder: for it and its socket.
        libraries: what is imported; what is not installed is left out.
    """
    client = _client(folder)
    command = [sys.executable, "-P", "-m", "warm_python", str(client), *libraries]
    waiting = environment(OMP_WAIT_POLICY="PASSIVE")  # two threads on a busy machine would spin most of the time
    with subprocess.Popen(command, env=waiting, stdin=subprocess.PIPE, start_new_session=True) as server:
        _wait(client, lambda: server.poll() is None)
        yield client
        assert server.poll() is None, "it serves until its standard input is closed"


@contextlib.contextmanager
def warm_sweeper(folder: Path) -> Iterator[Path]:
    """The same for `python -m sweeper` and what that starts: forked from the process that drivers are forked from."""
    import forked  # late: it imports the sweeper, which the other command does not need

    client = _client(folder)
    until, end = multiprocessing.Pipe(duplex=False)
    with end:
        server = forked.start(_serve, client, until)
        _wait(client, server.is_alive)
        yield client
    server.join()


def _client(folder: Path) -> Path:
    client = folder / "python"
    client.write_text(CLIENT.format(python=sys.executable))
    client.chmod(0o755)
    return client


def _wait(client: Path, is_coming: Callable[[], bool]) -> None:
    while not client.with_name(SOCKET).exists():
        assert is_coming()
        time.sleep(0.05)


def _serve(client: Path, until: Connection) -> None:
    os.setsid()
    Server(client, until.fileno()).serve()


class Server:
    """Forks a process for each client, passes signals on, and answers with the exit code."""

    def __init__(self, client: Path, until: int) -> None:
        """`until`: a descriptor; when it is closed, the server ends."""
        self._client, path = client, client.with_name(SOCKET)
        self._selector = selectors.DefaultSelector()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(f"{path}.making")
        self._listener.listen()
        self._on(self._listener.fileno(), self._accept)
        self._on(until, lambda: os._exit(0))  # without waiting for its processes
        os.rename(f"{path}.making", path)

    def _on(self, descriptor: int, call: Callable[[], None]) -> None:
        self._selector.register(descriptor, selectors.EVENT_READ, call)

    def serve(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fd in self._selector.get_map():
                    key.data()

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        size, streams, *_ = socket.recv_fds(connection, 4, 3)
        told = connection.makefile("rb").read(int.from_bytes(size, "big"))
        process = multiprocessing.get_context("fork").Process(
            target=run, args=(self._client, streams, *json.loads(told))
        )
        process.start()
        for stream in streams:
            os.close(stream)
        self._on(connection.fileno(), lambda: self._signal(connection, process))
        self._on(process.sentinel, lambda: self._answer(connection, process))

    def _signal(self, connection: socket.socket, process: BaseProcess) -> None:
        assert process.pid is not None
        if number := connection.recv(1):
            os.kill(process.pid, number[0])
            return
        self._selector.unregister(connection.fileno())  # the client was killed
        for kill in (os.killpg, os.kill):  # it may not lead a group yet
            with contextlib.suppress(ProcessLookupError):
                kill(process.pid, signal.SIGKILL)

    def _answer(self, connection: socket.socket, process: BaseProcess) -> None:
        self._selector.unregister(process.sentinel)
        process.join()
        if connection.fileno() in self._selector.get_map():
            self._selector.unregister(connection.fileno())
            connection.sendall(f"{process.exitcode}\n".encode())
        connection.close()


def run(client: Path, streams: list[int], arguments: list[str], environ: dict[str, str], folder: str) -> None:
    """What an interpreter does with its command line: a script, or `-m` with a module, perhaps after -P."""
    os.setsid()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    sys.stdin = os.fdopen(0, closefd=False)  # which multiprocessing has closed
    os.chdir(folder)
    own = os.environ["PYTHONPATH"].split(os.pathsep)
    os.environ.clear()
    os.environ.update(environ)
    is_safe = arguments[0] == "-P"
    what, *rest = arguments[is_safe:]
    first = str(Path().absolute() if what == "-m" else Path(what).resolve().parent)
    given = filter(None, environ.get("PYTHONPATH", "").split(os.pathsep))
    sys.path[:] = [*([] if is_safe else [first]), *given, *(path for path in sys.path if path not in own)]
    sys.executable = str(client)  # for what it starts itself
    sys.dont_write_bytecode = bool(environ.get("PYTHONDONTWRITEBYTECODE"))
    sys.argv = rest if what == "-m" else [what, *rest]
    if what == "-m":
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(what, run_name="__main__")


if __name__ == "__main__":
    for name in sys.argv[2:]:
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(name)
    Server(Path(sys.argv[1]), sys.stdin.fileno()).serve()
