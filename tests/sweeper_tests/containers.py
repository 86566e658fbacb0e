"""Runs services of docker/compose.yaml without an engine: each in its own namespaces, as an engine would.

A service gets its network namespace with an address on each of its networks, its own mounts, processes and host name, a
root file system that is read-only except for its volumes and tmpfs, its user, no capabilities and no new privileges;
and the exact command, environment and health check of the compose file, on top of the Dockerfile's `ENV`. What differs
from the image: packages come from the virtual environment of the tests, `sweeper` and `trainers` from this checkout,
the rest of `/usr` from this machine, and `docker-entrypoint.sh` of PostgreSQL's image is `postgres_entrypoint.sh`.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from container_process import as_user, environment_of, root_script
from postgres_server import postgres_binaries

MOST_RESTARTS = 10
TOOLS = ("ip", "unshare", "nsenter", "setpriv", "chroot", "mount")


def cannot_run() -> str | None:
    """Why containers cannot be imitated here, or None."""
    if os.geteuid() != 0:
        return "only root makes network namespaces"
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        return f"not installed: {', '.join(missing)}"
    if postgres_binaries() is None:
        return "PostgreSQL is not installed: apt-get install -y postgresql"
    probe = f"sweeper-probe-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True)
    if made.returncode != 0:
        return f"no network namespaces here: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "delete", probe], check=True)
    return None


@dataclass
class Stack:
    """The services of a compose file on this machine.

    Attributes:
        compose: the file, variables filled in.
        folder: for volumes, logs and roots.
        names: of the services that will be started; each has its addresses from the start.
        label: tells a second stack of this process from the first.
    """

    compose: dict[str, Any]
    folder: Path
    names: list[str]
    label: str = ""
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    restarts: int = 0

    def namespace(self, name: str) -> str:
        return f"swd{os.getpid()}{self.label}-{name}"

    def address(self, name: str, network: str) -> str:
        """IPv4 address of a service in a network, or of "host", where a published port is reached."""
        number = 1 if name == "host" else self.names.index(name) + 2
        return f"10.77.{sorted(self.compose['networks']).index(network)}.{number}"

    def log(self, name: str) -> str:
        path = self.folder / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self, name: str) -> subprocess.Popen[bytes]:
        """Start a service once those it depends on are healthy."""
        for other in self.compose["services"][name].get("depends_on", {}):
            self.wait_until_healthy(other)
        return self._launch(name)

    def _launch(self, name: str) -> subprocess.Popen[bytes]:
        script = self.folder / f"{name}.sh"
        script.write_text(root_script(name, self.compose["services"][name], self.folder, self._hosts(name)))
        with (self.folder / f"{name}.log").open("wb") as output:
            self.processes[name] = subprocess.Popen(
                ["ip", "netns", "exec", self.namespace(name), *_UNSHARE, "bash", script],
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=environment_of(self.compose["services"][name]),
                start_new_session=True,
            )
        return self.processes[name]

    def _hosts(self, name: str) -> str:
        """Names of the services that share a network with this one, and its own."""
        mine = self.compose["services"][name]["networks"]
        lines = ["127.0.0.1 localhost"]
        for other in self.names:
            theirs = self.compose["services"][other]["networks"]
            lines += [f"{self.address(other, network)} {other}" for network in mine if network in theirs]
        return "\n".join(lines)

    def execute(
        self, name: str, *command: str, timeout_s: float = 400, given: str = "", **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in a running service, as `docker compose exec` does; it reads `given`."""
        service = self.compose["services"][name]
        inside = ["nsenter", "--target", str(self.first_process(name)), "--all", "--root", "--wd", "--"]
        return subprocess.run(
            [*inside, *as_user(service), *command],
            env=environment_of(service) | variables,
            input=given,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )

    def first_process(self, name: str) -> int:
        """The process that is number 1 in the service."""
        pid = self.processes[name].pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(children[0])

    def keep_up(self) -> None:
        """Restart what ended, where the compose file says so: on a busy machine Ray gives up after 30 s."""
        for name, process in list(self.processes.items()):
            policy = self.compose["services"][name]["restart"]
            if policy == "unless-stopped" and process.poll() is not None and self.restarts < MOST_RESTARTS:
                self.restarts += 1
                self._launch(name)

    def wait_until_healthy(self, name: str, timeout_s: float = 400) -> None:
        """Wait for the health check of the compose file.

        Raises:
            AssertionError: the service ended, or it was not healthy in time; with the end of its log.
        """
        kind, *test = self.compose["services"][name]["healthcheck"]["test"]
        assert kind == "CMD"
        end, said = time.monotonic() + timeout_s, ""
        while time.monotonic() < end:
            self.keep_up()
            assert self.processes[name].poll() is None, f"{name} ended:\n{self.log(name)[-4000:]}"
            with contextlib.suppress(IndexError, subprocess.TimeoutExpired):  # its first process may not be there yet
                checked = self.execute(name, *test, timeout_s=30)
                if checked.returncode == 0:
                    return
                said = checked.stderr[-500:]
            time.sleep(1.0)
        raise AssertionError(f"{name} is not healthy ({said}):\n{self.log(name)[-4000:]}")

    def stop(self, name: str, grace_s: float = 20) -> int:
        """Like `docker stop`: ask, wait, kill all processes of the service. Returns the exit code."""
        process, first = self.processes[name], 0
        with contextlib.suppress(IndexError, ProcessLookupError, FileNotFoundError):
            first = self.first_process(name)
            os.kill(first, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(grace_s)
            os.kill(first, signal.SIGKILL)  # all that are left end with it
        process.kill()
        code = process.wait()
        del self.processes[name]  # so that nobody restarts it
        while first and Path(f"/proc/{first}").exists():  # the last of them keeps its port until then
            time.sleep(0.05)
        return code


_UNSHARE = ("unshare", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child")


@contextlib.contextmanager
def stack_of(compose: dict[str, Any], folder: Path, names: list[str], label: str = "") -> Iterator[Stack]:
    """Networks and addresses for some services of a compose file; everything that was started ends with the block."""
    stack = Stack(compose, folder, names, label)
    switch = stack.namespace("host")
    try:
        _ip("netns", "add", switch)
        for network in sorted(compose["networks"]):
            _ip("-n", switch, "link", "add", f"br-{network}", "type", "bridge")
            _ip("-n", switch, "address", "add", f"{stack.address('host', network)}/24", "dev", f"br-{network}")
            _ip("-n", switch, "link", "set", f"br-{network}", "up")
        for number, name in enumerate(names):
            namespace = stack.namespace(name)
            _ip("netns", "add", namespace)
            _ip("-n", namespace, "link", "set", "lo", "up")
            for network in compose["services"][name]["networks"]:
                inner, outer = f"e-{network}", f"v{number}-{network}"
                _ip("-n", switch, "link", "add", outer, "type", "veth", "peer", "name", inner, "netns", namespace)
                _ip("-n", switch, "link", "set", outer, "master", f"br-{network}", "up")
                _ip("-n", namespace, "address", "add", f"{stack.address(name, network)}/24", "dev", inner)
                _ip("-n", namespace, "link", "set", inner, "up")
        yield stack
    finally:
        for name in reversed(list(stack.processes)):
            stack.stop(name, grace_s=5)
        for name in [*names, "host"]:
            subprocess.run(["ip", "netns", "delete", stack.namespace(name)], capture_output=True)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
