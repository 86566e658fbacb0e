"""Web pages on loopback, for one person on this machine: MLflow's, or another that is served by `gate`."""

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from sweeper.errors import EXIT_OK, UserError
from sweeper.redaction import redact
from sweeper.tracking.store.client import require_store, tracking_uri
from sweeper.tracking.store.environment import MLFLOW_ENVIRONMENT
from sweeper.tracking.ui.candidates_view import experiment_of, experiments_fragment, view_fragment

HOST: Final = "127.0.0.1"
LOOPBACK_NAMES: Final = ("localhost", "127.0.0.1")
START_TIMEOUT_S: Final = 180
STOP_TIMEOUT_S: Final = 10
POLL_S: Final = 0.2


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
        require_free(port)
    require_store(uri)
    place = f"#{view_fragment(experiment_of(uri, study)) if study else experiments_fragment()}"
    if uri.startswith("http"):
        print(f"{redact(uri).rstrip('/')}/{place}")  # somebody else's server has a UI of its own
        return EXIT_OK
    hosts = ",".join(f"{name},{name}:*" for name in LOOPBACK_NAMES)
    environment = {
        "_MLFLOW_SERVER_FILE_STORE": uri,
        "_MLFLOW_SERVER_ARTIFACT_ROOT": str(home.resolve() / "artifacts"),
        "MLFLOW_SERVER_ALLOWED_HOSTS": hosts,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    log = home.resolve() / "mlflow-ui.log"
    serve_until_stopped("gate", {"environment": environment}, port, log, f"/{place}", open_browser=open_browser)
    return EXIT_OK


def serve_until_stopped(
    module: str, settings: Mapping[str, Any], port: int, log: Path, place: str, *, open_browser: bool
) -> None:
    """Run a server until Ctrl-C; print its address, with the token, once it answers.

    Args:
        module: of this package, which serves by `gate.serve`.
        settings: what the module needs beside host, port and token.
        port: on the loopback interface.
        log: file for what the server says.
        place: path of the page that the address opens, with what follows #.
        open_browser: open the address in a browser too.

    Raises:
        UserError: the server does not start, or ends.
    """
    url, token = f"http://{HOST}:{port}", secrets.token_urlsafe(24)
    settings = {**settings, "token": token, "host": HOST, "port": port}
    print("starting the server", file=sys.stderr, flush=True)  # MLflow's takes seconds, on a busy machine a minute
    with contextlib.suppress(KeyboardInterrupt), _server(module, settings, log) as (server, stopped):
        if not _is_up(server, url, log, stopped):
            return
        path, mark, fragment = place.partition("#")
        address = f"{url}{path}?token={token}{mark}{fragment}"
        print(address, flush=True)
        if open_browser:
            webbrowser.open(address)
        print("press Ctrl-C to stop", file=sys.stderr, flush=True)
        while server.poll() is None:
            if stopped.wait(POLL_S):
                return
        raise UserError("the server exited", where=str(log), help=_tail(log))


def require_free(port: int) -> None:
    """Raise UserError if the port is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise UserError(
                f"port {port} is not free: {error.strerror}", where="--port", help=f"try --port {port + 1}"
            ) from error


@contextlib.contextmanager
def _server(
    module: str, settings: Mapping[str, Any], log: Path
) -> Iterator[tuple[subprocess.Popen[str], threading.Event]]:
    """The running server, and what is set once it is to end; it ends with the block, and by itself when this process
    has ended."""
    stopped = threading.Event()

    def stop(number: int, _frame: object) -> None:
        stopped.set()  # the exception may be lost in a callback of the garbage collector
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(128 + number)

    # SIGTERM and SIGHUP must end the server too, and they do so only as an exception.
    signals = [signal.SIGTERM, signal.SIGHUP]
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signals.append(signal.SIGINT)
    before = {each: signal.signal(each, stop) for each in signals}
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-P", "-m", f"sweeper.tracking.ui.{module}"],
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
        yield server, stopped
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
        _end(server)


def _end(server: subprocess.Popen[str]) -> None:
    for how in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(STOP_TIMEOUT_S)


def _is_up(server: subprocess.Popen[str], url: str, log: Path, stopped: threading.Event) -> bool:
    """Wait until it answers; False once it is to end."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(urllib.error.URLError, OSError), urllib.request.urlopen(f"{url}/health", timeout=5):
            return True
        if stopped.wait(POLL_S):
            return False
    raise UserError("the server does not start", where=str(log), help=_tail(log))


def _tail(log: Path) -> str:
    return "its last lines:\n" + "\n".join(log.read_text(errors="replace").splitlines()[-10:])
