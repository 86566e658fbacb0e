"""MLflow's web UI on loopback, for one person on this machine."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sweeper.errors import EXIT_OK, UserError
from sweeper.redaction import redact
from sweeper.tracking.client import MLFLOW_ENVIRONMENT, require_store, tracking_uri

HOST: Final = "127.0.0.1"
LOOPBACK_NAMES: Final = ("localhost", "127.0.0.1")
START_TIMEOUT_S: Final = 180
STOP_TIMEOUT_S: Final = 10


def serve_ui(home: Path, port: int) -> int:
    """Show the studies of `home` in MLflow's web UI until Ctrl-C; print its address once it answers.

    Args:
        home: the study home.
        port: on the loopback interface.

    Returns:
        The exit code 0.

    Raises:
        UserError: nothing was ever recorded here, the port is taken, or the server does not start.
    """
    uri = tracking_uri(home)
    if uri.startswith("http"):
        print(redact(uri))  # somebody else's server has a UI of its own
        return EXIT_OK
    require_store(uri)
    _require_free(port)
    url = f"http://{HOST}:{port}"
    log = home.resolve() / "mlflow-ui.log"
    with contextlib.suppress(KeyboardInterrupt), _server(uri, home, port, log) as server:
        _wait_until_up(server, url, log)
        print(url, flush=True)
        print("Ctrl-C ends it", file=sys.stderr, flush=True)
        server.wait()
        raise UserError("the MLflow server ended by itself", where=str(log), help=_tail(log))
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
def _server(uri: str, home: Path, port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The running server; it is ended with the block, its helper processes too."""
    hosts = ",".join(f"{name},{name}:*" for name in LOOPBACK_NAMES)
    command = [sys.executable, "-P", "-m", "mlflow", "server", "--backend-store-uri", uri]
    command += ["--default-artifact-root", str(home.resolve() / "artifacts"), "--no-serve-artifacts"]
    command += ["--host", HOST, "--port", str(port), "--workers", "1", "--allowed-hosts", hosts]
    environment = {**MLFLOW_ENVIRONMENT, **os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    # SIGTERM must end the children too, and it does so only as an exception.
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with log.open("wb") as output:
        server = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
    try:
        yield server
    finally:
        signal.signal(signal.SIGTERM, before)
        _end(server)


def _end(server: subprocess.Popen[bytes]) -> None:
    """End the server's whole process group: MLflow's own parent does not take its worker along."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(STOP_TIMEOUT_S)


def _wait_until_up(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(urllib.error.URLError, OSError), urllib.request.urlopen(f"{url}/health", timeout=5):
            return
        time.sleep(0.2)
    raise UserError("the MLflow server does not start", where=str(log), help=_tail(log))


def _tail(log: Path) -> str:
    return "its last lines:\n" + "\n".join(log.read_text(errors="replace").splitlines()[-10:])
