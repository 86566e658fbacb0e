"""A real `mlflow server` in a process that is forked from one that has imported it: it answers after tenths of a second
of processor time instead of six seconds. MLflow's own command starts it, with uvicorn in the same process."""

import contextlib
import os
import resource
import signal
import time
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import forked
from mlflow_helpers import answers, server_arguments, server_environment, uri_of


def start_server(arguments: list[str], log: Path, environ: dict[str, str], largest_file: int | None) -> BaseProcess:
    """Start `mlflow ARGUMENTS` as the leader of a session.

    Args:
        arguments: `server`, and its options.
        log: gets its output.
        environ: its environment.
        largest_file: bytes above which it cannot write a file, as on a full disk.
    """
    return forked.start(_serve, arguments, log, environ, largest_file)


@contextlib.contextmanager
def mlflow_server(home: Path, port: int) -> Iterator[int]:
    """A server on the store of `home`; yields its process group, which is killed with SIGKILL at the end."""
    arguments = server_arguments(uri_of(home), home / "served", port)
    server = start_server(arguments, home / "server.log", server_environment(), None)
    assert server.pid is not None
    try:
        deadline = time.monotonic() + 120
        while not answers(port):
            assert server.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield server.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.join()


def _serve(arguments: list[str], log: Path, environ: dict[str, str], largest_file: int | None) -> None:
    os.setsid()
    os.environ.clear()
    os.environ.update(environ)
    with log.open("ab") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    import mlflow.server  # already imported by `forked_warm`
    import uvicorn
    from mlflow.cli import cli

    def execute(command: list[str], extra_env: dict[str, str], **_options: Any) -> None:
        os.environ.update(extra_env)
        uvicorn.main(command[command.index("uvicorn") + 1 :])

    mlflow.server._exec_cmd = execute
    cli(arguments)
