"""A real PostgreSQL on a free port, which a test may stop and start."""

import os
import shutil
import signal
import subprocess
import tempfile
import threading
from pathlib import Path

import psutil
import pytest
from ports import free_port

SECRET = "tops3cret"


def postgres_binaries() -> Path | None:
    """The folder of initdb and pg_ctl: Debian keeps them out of PATH."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    if versions:
        return versions[-1].parent
    found = shutil.which("initdb")
    return Path(found).resolve().parent if found else None


class PostgresServer:
    """A server with one role, `sweeper`. Listens on loopback."""

    def __init__(self) -> None:
        binaries = postgres_binaries()
        pytest.importorskip("psycopg", reason="psycopg is not installed, so the ledger on PostgreSQL is not tested")
        if binaries is None:
            pytest.skip("PostgreSQL is not installed, so the ledger on it is not tested: apt-get install -y postgresql")
        self._binaries = binaries
        self._folder = Path(tempfile.mkdtemp(prefix="sweeper-postgres-"))
        password = self._folder / "password"
        password.write_text(SECRET)
        self._as_user: list[str] = []
        if os.geteuid() == 0:  # the server refuses to run as root
            shutil.chown(self._folder, "postgres")
            shutil.chown(password, "postgres")
            self._as_user = ["runuser", "-u", "postgres", "--"]
        self.port = free_port()
        self._call("initdb", "-U", "sweeper", "--auth=scram-sha-256", f"--pwfile={password}", "--no-sync")
        self.start()

    def url(self, database: str = "postgres") -> str:
        """The URL of a database, with the password."""
        return f"postgresql://sweeper:{SECRET}@127.0.0.1:{self.port}/{database}"

    def new_database(self, name: str) -> str:
        """The URL of a new database."""
        import psycopg  # tests that need no server run without it

        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def start(self) -> None:
        options = f"-c listen_addresses=127.0.0.1 -p {self.port} -c unix_socket_directories={self._folder}"
        self._call("pg_ctl", "-w", "-l", self._folder / "log", "-o", f"{options} -c fsync=off", "start")

    def stop(self) -> None:
        """Stop as in a crash: no connection is notified."""
        self._call("pg_ctl", "-w", "-m", "immediate", "stop")

    def freeze(self) -> None:
        """Stop all its processes where they are. The kernel keeps running: it acknowledges what they are sent, and
        accepts new connections for them."""
        for pid in self._pids():
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them continue."""
        for pid in self._pids():
            os.kill(pid, signal.SIGCONT)

    def _pids(self) -> list[int]:
        postmaster = psutil.Process(int((self._folder / "data" / "postmaster.pid").read_text().split()[0]))
        return [postmaster.pid, *(child.pid for child in postmaster.children())]

    def restart_after(self, seconds: float) -> threading.Timer:
        """Start it again some time from now."""
        timer = threading.Timer(seconds, self.start)
        timer.start()
        return timer

    def remove(self) -> None:
        if (self._folder / "data" / "postmaster.pid").exists():
            self.stop()
        shutil.rmtree(self._folder)

    def _call(self, tool: str, *arguments: object) -> None:
        command = [*self._as_user, str(self._binaries / tool), "-D", str(self._folder / "data"), *map(str, arguments)]
        subprocess.run(command, check=True, cwd="/", stdout=subprocess.DEVNULL, timeout=120)
