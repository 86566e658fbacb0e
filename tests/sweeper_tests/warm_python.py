"""A `python` that has imported torch, Lightning and Transformers: scripts and modules run in a process that is forked
from one that has, after a tenth of a second of processor time instead of three to eight seconds.

To who starts it the command is an interpreter: arguments, environment, folder, streams, signals and exit code are as
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
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

from faulty import environment

LIBRARIES = ("torch", "torch._dynamo", "lightning", "transformers.trainer")
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
def warm_python(folder: Path) -> Iterator[Path]:
    """The path of the command, which works until the block ends. A driver to which it is told as the variable
    WARM_PYTHON (`forked`) starts its trials with it.

    Args:
        folder: for it and its socket.
    """
    client, path = folder / "python", folder / "socket"
    client.write_text(CLIENT.format(python=sys.executable))
    client.chmod(0o755)
    command = [sys.executable, "-P", "-m", "warm_python", str(client)]
    with subprocess.Popen(command, env=environment(), stdin=subprocess.PIPE, start_new_session=True) as server:
        while not path.exists() and server.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(0.1)
        yield client
        assert server.poll() is None, "it serves until its standard input is closed"


class Server:
    """Forks a process for each who asks, hands on signals, and answers with the exit code."""

    def __init__(self, client: Path) -> None:
        self._client, path = client, client.with_name("socket")
        self._selector = selectors.DefaultSelector()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(f"{path}.making")
        self._listener.listen()
        self._on(self._listener.fileno(), self._accept)
        self._on(sys.stdin.fileno(), sys.exit)
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
        if number := connection.recv(1):
            os.kill(process.pid or 0, number[0])
        else:  # who asked was killed
            self._selector.unregister(connection.fileno())
            os.killpg(process.pid or 0, signal.SIGKILL)

    def _answer(self, connection: socket.socket, process: BaseProcess) -> None:
        self._selector.unregister(process.sentinel)
        process.join()
        if connection.fileno() in self._selector.get_map():
            self._selector.unregister(connection.fileno())
            connection.sendall(f"{process.exitcode}\n".encode())
        connection.close()


def run(client: Path, streams: list[int], arguments: list[str], environ: dict[str, str], folder: str) -> None:
    """What an interpreter does with its command line: a script, or `-m` with a module, and -P before them."""
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
    sys.argv = rest if what == "-m" else [what, *rest]
    if what == "-m":
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(what, run_name="__main__")


if __name__ == "__main__":
    for name in LIBRARIES:
        with contextlib.suppress(ModuleNotFoundError):  # of an extra
            importlib.import_module(name)
    Server(Path(sys.argv[1])).serve()
