"""Machines on this one: each a network namespace with an address, its own processes, hostname and /tmp/ray.

They share the file system, as machines with a shared disk do, and end with the process that made them, even if it is
killed. Needs root and iproute2.
"""

import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from faulty import environment

RAY: Final = str(Path(sys.executable).parent / "ray")
LEAN: Final = (sys.executable, "-P", "-m", "lean_node")
_numbers = itertools.count()
TOKEN: Final = "a-token-of-the-tests-0123456789abcdef"
PORT: Final = 6379
HEALTH: Final = {"RAY_health_check_period_ms": "1000", "RAY_health_check_timeout_ms": "3000"}
"""A machine is lost after five checks in a row. By default, that is after 15 s, or 65 s where a machine does not answer
at all; here after 5 s, or 20 s."""


def cannot() -> str | None:
    """Why machines cannot be made here, or None."""
    if shutil.which("ip") is None:
        return "iproute2 is not installed"
    name = f"swp{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if made.returncode:
        return f"no right to make a network namespace: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", name], check=True)
    return None


class Machine:
    """One machine; made by `network`."""

    def __init__(self, name: str, address: str, link: str, init_pid: int, folder: Path) -> None:
        self.name, self.address, self.folder = name, address, folder
        self._link, self._init_pid = link, init_pid
        self.outputs: dict[int, Path] = {}

    @property
    def outside(self) -> str:
        """The address at which the machines reach the process that made them."""
        return f"{self.address.rpartition('.')[0]}.254"

    def start(self, *command: str, **environ: str) -> "subprocess.Popen[str]":
        """Start a command there; what it says goes to a file in `folder`."""
        path = self.folder / f"{time.monotonic_ns()}.txt"
        with open(path, "w") as output:
            process = subprocess.Popen(
                self._inside(command),
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self.environment(**environ),
                text=True,
            )
        self.outputs[process.pid] = path
        return process

    def output(self, process: "subprocess.Popen[str]") -> str:
        """What a command that was started has said."""
        return self.outputs[process.pid].read_text()

    def run(self, *command: str, timeout_s: float = 400, **environ: str) -> "subprocess.CompletedProcess[str]":
        """Run a command there to its end."""
        return subprocess.run(
            self._inside(command), capture_output=True, text=True, timeout=timeout_s, env=self.environment(**environ)
        )

    def _inside(self, command: tuple[str, ...]) -> list[str]:
        return ["nsenter", "-t", str(self._init_pid), "-m", "-u", "-n", "-p", f"--wd={Path.cwd()}", *command]

    def environment(self, **environ: str) -> dict[str, str]:
        cluster = {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),  # a job says `sweeper`
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": TOKEN,
            "RAY_USAGE_STATS_ENABLED": "0",
            "TRAINERS_CACHE_DIR": str(self.folder / "cache"),
        }
        return environment(**(cluster | environ))

    def kill(self) -> None:
        """Every process there at once, as by a power cut."""
        os.kill(self._init_pid, 9)

    def cut_off(self) -> None:
        """No packet reaches it, or leaves it."""
        subprocess.run(["ip", "link", "set", self._link, "down"], check=True)

    def heal(self) -> None:
        """The cable is in again."""
        subprocess.run(["ip", "link", "set", self._link, "up"], check=True)


@contextmanager
def network() -> Iterator[Callable[[str], Machine]]:
    """Yields what makes a machine, all of them in one network; they end with the block."""
    number = os.getpid() * 4 + next(_numbers)  # a device's name has 15 letters at most
    tag, subnet = f"{number % 2**20:x}", f"10.{80 + number // 250 % 100}.{number % 250}"
    bridge = f"swb{tag}"
    made: list[Machine] = []
    with ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="sweeper-net-", ignore_cleanup_errors=True))
        )
        _ip("link", "add", bridge, "type", "bridge")
        stack.callback(_ip, "link", "del", bridge)
        _ip("addr", "add", f"{subnet}.254/24", "dev", bridge)
        _ip("link", "set", bridge, "up")

        def make(name: str) -> Machine:
            number = len(made) + 1
            space, link, address = f"sw{tag}n{number}", f"swv{tag}n{number}", f"{subnet}.{number}"
            _ip("netns", "add", space)
            stack.callback(_ip, "netns", "del", space)
            _ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", space)
            _ip("link", "set", link, "master", bridge, "up")
            _ip("-n", space, "addr", "add", f"{address}/24", "dev", "eth0")
            _ip("-n", space, "link", "set", "lo", "up")
            _ip("-n", space, "link", "set", "eth0", "up")
            own = Path(folder) / name
            (own / "ray").mkdir(parents=True)
            Path("/tmp/ray").mkdir(exist_ok=True)
            start = f"mount --bind {own / 'ray'} /tmp/ray; hostname {name}; echo up; sleep infinity & wait"
            apart = ["unshare", "--pid", "--fork", "--mount-proc", "--uts", "--mount", "--kill-child"]
            outer = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "ip", "netns", "exec", space, *apart, "bash", "-c", start],
                stdout=subprocess.PIPE,
                text=True,
            )
            stack.callback(outer.wait)
            stack.callback(outer.kill)
            assert outer.stdout is not None
            assert outer.stdout.readline() == "up\n"
            inner = int(Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()[0])
            made.append(Machine(name, address, link, inner, own))
            return made[-1]

        yield make
        for machine in made:
            for path in machine.outputs.values():  # pytest shows it where a test has failed
                print(f"--- {machine.name}\n{path.read_text()}")


def start_head(machine: Machine, *arguments: str, cpus: int = 0, with_jobs: bool = False) -> str:
    """Start the head of a Ray cluster; returns its address. `with_jobs`: by Ray's own command, with the Jobs API at
    port 8265."""
    program = (RAY,) if with_jobs else LEAN
    jobs = (f"--include-dashboard={with_jobs}".lower(), f"--dashboard-host={machine.address}")
    head = ("--head", f"--port={PORT}", f"--num-cpus={cpus}")
    _is_up(machine, _start_ray(machine, program, *head, *jobs, *arguments, **HEALTH))
    return f"{machine.address}:{PORT}"


def join(*machines: Machine, address: str, cpus: int = 2, **environ: str) -> None:
    """Start nodes of a Ray cluster, all at once."""
    starting = [
        (machine, _start_ray(machine, LEAN, f"--address={address}", f"--num-cpus={cpus}", **environ))
        for machine in machines
    ]
    for machine, process in starting:
        _is_up(machine, process)


def _start_ray(machine: Machine, program: tuple[str, ...], *arguments: str, **environ: str) -> "subprocess.Popen[str]":
    fixed = (f"--node-ip-address={machine.address}", "--object-store-memory=100000000", "--disable-usage-stats")
    return machine.start(*program, "start", *arguments, *fixed, **environ)


def _is_up(machine: Machine, process: "subprocess.Popen[str]") -> None:
    assert process.wait(400) == 0, machine.output(process)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)
