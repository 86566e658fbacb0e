"""What `sweeper doctor` examines outside the studies: packages, GPUs, left-over processes, and open ports.

Processes of a study home are recognised by their environment, in which its driver says where the home's data are. Linux
only; elsewhere there is no `/proc`, and nothing is found.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.version import Version

from mano_trainers.report import CheckStatus
from sweeper.executor.gpus import collect_accelerators
from sweeper.executor.worker.scratch import of_killed_drivers, processes_of_killed_drivers, scratch_parent
from sweeper.home import CACHE_VARIABLE, cache_of
from sweeper.ledger.studies import study_dirs
from sweeper.ledger.study_lock import running_driver
from sweeper.maintenance.finding import Finding

DISTRIBUTION: Final = "mano-sweeper"
LISTEN: Final = "0A"
GRACE_S: Final = 3.0
LOOPBACK: Final = ("0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F")
TORCH_TIMEOUT_S: Final = 120


def findings(home: Path) -> Iterator[Finding]:
    """Everything about the machine that concerns this home."""
    yield from _packages()
    yield _torch_pair()
    yield from _gpus()
    yield from _left_over(home)
    yield from _scratch()
    yield from _bindings(home)


def _packages() -> Iterator[Finding]:
    """The minimum versions in pyproject.toml, some of which exist because older versions have known vulnerabilities."""
    try:
        wanted = [Requirement(text) for text in metadata.requires(DISTRIBUTION) or ()]
    except metadata.PackageNotFoundError:
        help = "python -m pip install -e . in the checkout"
        yield Finding("packages.installed", CheckStatus.WARN, f"{DISTRIBUTION} is not installed", help)
        return
    wrong = []
    for requirement in wanted:
        if requirement.marker is not None:  # an extra
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{requirement} is missing")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} {version} is not {requirement.specifier}")
    if wrong:
        yield Finding("packages.floors", CheckStatus.FAIL, "; ".join(wrong), "make setup, or pip install the versions")
    else:
        yield Finding("packages.floors", CheckStatus.PASS, f"{len(wanted)} requirements are met")


def _torch_pair() -> Finding:
    """A torchvision built for another torch fails at import, or worse, in an operator. Its metadata only give a minimum
    torch; by the table in its README 0.15 belongs to torch 2.0, 0.16 to 2.1, and so on."""
    torch, torchvision = (Version(metadata.version(name)) for name in ("torch", "torchvision"))
    pair = f"torch {torch}, torchvision {torchvision}"
    wanted = f"0.{torch.minor + 15}"
    if torch.major != 2 or f"{torchvision.major}.{torchvision.minor}" == wanted:
        return Finding("packages.torch_pair", CheckStatus.PASS, pair)
    help = f"pip install 'torchvision=={wanted}.*', or the torch it was built for"
    return Finding("packages.torch_pair", CheckStatus.FAIL, f"{pair}, which do not belong together", help)


def _gpus() -> Iterator[Finding]:
    """Whether torch can use the GPUs that the driver shows. Only checked if there are some: torch takes seconds."""
    gpus = collect_accelerators()
    if not gpus:
        yield Finding("gpu.driver", CheckStatus.PASS, "no NVIDIA GPU here")
        return
    ask = "import torch; print(torch.version.cuda, torch.cuda.is_available() and torch.cuda.device_count())"
    try:
        done = subprocess.run(
            [sys.executable, "-c", ask], capture_output=True, text=True, timeout=TORCH_TIMEOUT_S, check=True
        )
        cuda, usable = done.stdout.split()
    except (subprocess.SubprocessError, ValueError):
        yield Finding("gpu.torch", CheckStatus.FAIL, "torch cannot be imported", "python -c 'import torch' says why")
        return
    seen = f"driver: {'; '.join(gpus)}; torch for CUDA {cuda} uses {usable} of {len(gpus)}"
    if usable == str(len(gpus)):
        yield Finding("gpu.torch", CheckStatus.PASS, seen)
    elif cuda == "None":
        yield Finding("gpu.torch", CheckStatus.FAIL, seen, "this torch is a CPU build: install the CUDA one")
    else:
        help = f"the driver must be new enough for CUDA {cuda}; and is CUDA_VISIBLE_DEVICES set?"
        yield Finding("gpu.torch", CheckStatus.FAIL, seen, help)


def _left_over(home: Path) -> Iterator[Finding]:
    left = left_over(home)
    if not left:
        yield Finding("processes.left_over", CheckStatus.PASS, "no process is left over from a driver that is gone")
        return

    def end() -> str:
        return f"ended {_end(left)} processes"

    what = f"{len(left)} processes of a driver that is gone: pids {', '.join(map(str, left))}"
    yield Finding("processes.left_over", CheckStatus.WARN, what, "--fix ends them", end)


def left_over(home: Path) -> list[int]:
    """Processes that work for this home although the driver that started them is gone, and leftovers of Ray."""
    marked = of_home(home)
    return sorted({pid for pid in marked if not _is_wanted(pid, marked)} | processes_of_killed_drivers())


def of_home(home: Path) -> set[int]:
    """Processes whose environment names the data of this home."""
    marker = f"{CACHE_VARIABLE}={cache_of(home)}".encode()
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if marker in (folder / "environ").read_bytes().split(b"\0"):
                found.add(int(folder.name))
    return found - {os.getpid()}


def _is_wanted(pid: int, marked: set[int]) -> bool:
    """Whether the parent of the marked processes is a Python process: a live driver. Processes that have lost their
    parent belong to process 1, or to another one that collects such processes."""
    while pid in marked:
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has just ended
            return True
    return pid > 1 and "python" in _command(Path(f"/proc/{pid}"))


def _end(pids: list[int]) -> int:
    for number, wait_s in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, GRACE_S)):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline_s = time.monotonic() + wait_s
        while any(map(_is_alive, pids)) and time.monotonic() < deadline_s:
            time.sleep(0.05)
    return sum(not _is_alive(pid) for pid in pids)


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _scratch() -> Iterator[Finding]:
    """Ray's scratch folders of drivers that were killed."""
    folders = of_killed_drivers()
    if not folders:
        yield Finding("processes.scratch", CheckStatus.PASS, "no scratch folder is left over")
        return

    def remove() -> str:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
        return f"removed {len(folders)} folders"

    what = f"{len(folders)} scratch folders of killed drivers in {scratch_parent()}"
    yield Finding("processes.scratch", CheckStatus.WARN, what, "--fix removes them", remove)


def _command(process: Path) -> str:
    try:
        return (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _bindings(home: Path) -> Iterator[Finding]:
    drivers = [running_driver(folder) for folder in study_dirs(home)]
    pids = of_home(home) | {int(text.split()[1]) for text in drivers if text and text.split()[1].isdigit()}
    wide = open_ports(pids)
    if wide:
        ports = ", ".join(f"{port} (pid {pid})" for pid, port in wide)
        help = (
            "set RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0, and start servers with --host 127.0.0.1, or close the ports "
            "with a firewall"
        )
        yield Finding("ports.open", CheckStatus.FAIL, f"other machines can reach ports {ports}", help)
    else:
        yield Finding("ports.open", CheckStatus.PASS, "no process of this home can be reached from other machines")


def open_ports(pids: set[int]) -> list[tuple[int, int]]:
    """(pid, port) of each socket of these processes that listens on more than the loopback device."""
    listening = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                address, port = fields[1].split(":")
                if fields[3] == LISTEN and address not in LOOPBACK:
                    listening[f"socket:[{fields[9]}]"] = int(port, 16)
    found = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            for link in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    if (bound := listening.get(os.readlink(link))) is not None:
                        found.add((pid, bound))
    return sorted(found)
