"""MLflow's web UI on loopback, for one person on this machine."""

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sweeper.errors import EXIT_OK, UserError
from sweeper.redaction import redact
from sweeper.tracking.client import require_store, tracking_uri
from sweeper.tracking.environment import MLFLOW_ENVIRONMENT
from sweeper.tracking.ui.candidates_view import experiment_of, view_fragment

HOST: Final = "127.0.0.1"
LOOPBACK_NAMES: Final = ("localhost", "127.0.0.1")
START_TIMEOUT_S: Final = 180
STOP_TIMEOUT_S: Final = 10


def serve_ui(home: Path, port: int, study: str | None = None, *, open_browser: bool = False) -> int:
    """Show the studies of `home` in MLflow's web UI until Ctrl-C; print its address once it answers.

    Args:
        home: the study home.
        port: on the loopback interface.
        study: whose candidates the address shows at once, best first; None: all experiments.
        open_browser: open the address in a browser too.

    Returns:
        The exit code 0.

    Raises:
        UserError: nothing was ever recorded here, or of that study; the port is taken; the server does not start.
    """
    uri = tracking_uri(home)
    if not uri.startswith("http"):
        _require_free(port)
    require_store(uri)
    place = f"#{view_fragment(experiment_of(uri, study))}" if study else ""
    if uri.startswith("http"):
        print(f"{redact(uri).rstrip('/')}/{place}")  # somebody else's server has a UI of its own
        return EXIT_OK
    url, token = f"http://{HOST}:{port}", secrets.token_urlsafe(24)
    log = home.resolve() / "mlflow-ui.log"
    with contextlib.suppress(KeyboardInterrupt), _server(uri, home, port, token, log) as server:
        _wait_until_up(server, url, log)
        address = f"{url}/?token={token}{place}"
        print(address, flush=True)
        if open_browser:
            webbrowser.open(address)
        print("press Ctrl-C to stop", file=sys.stderr, flush=True)
        server.wait()
        raise UserError("the MLflow server exited", where=str(log), help=_tail(log))
    return EXIT_OK


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise UserError(
                f"port {port} is not free: {error.strerror}", where="--port", help=f"try --port {port + 1}"
            ) from error


@contextlib.contextmanager
def _server(uri: str, home: Path, port: int, token: str, log: Path) -> Iterator[subprocess.Popen[str]]:
    """The running server; it is ended with the block, and by itself when this process has ended."""
    hosts = ",".join(f"{name},{name}:*" for name in LOOPBACK_NAMES)
    environment = {
        "_MLFLOW_SERVER_FILE_STORE": uri,
        "_MLFLOW_SERVER_ARTIFACT_ROOT": str(home.resolve() / "artifacts"),
        "MLFLOW_SERVER_ALLOWED_HOSTS": hosts,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    settings = {"environment": environment, "token": token, "host": HOST, "port": port}
    # SIGTERM and SIGHUP must end the server too, and they do so only as an exception.
    before = {each: signal.signal(each, _exit) for each in (signal.SIGTERM, signal.SIGHUP)}
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-P", "-m", "sweeper.tracking.ui.gate"],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**MLFLOW_ENVIRONMENT, **os.environ},
            start_new_session=True,
            text=True,
        )
    assert server.stdin is not None
    try:
        # By a pipe: other users read command lines, and the end of the pipe is the end of this process.
        server.stdin.write(json.dumps(settings) + "\n")
        server.stdin.flush()
        yield server
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
        _end(server)


def _exit(number: int, _frame: object) -> None:
    sys.exit(128 + number)


def _end(server: subprocess.Popen[str]) -> None:
    for how in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(STOP_TIMEOUT_S)


def _wait_until_up(server: subprocess.Popen[str], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(urllib.error.URLError, OSError), urllib.request.urlopen(f"{url}/health", timeout=5):
            return
        time.sleep(0.2)
    raise UserError("the MLflow server does not start", where=str(log), help=_tail(log))


def _tail(log: Path) -> str:
    return "its last lines:\n" + "\n".join(log.read_text(errors="replace").splitlines()[-10:])
