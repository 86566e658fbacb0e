"""What the tests of faults share: a study home of their own, and the command line run on it."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from places import ROOT, TESTS

if TYPE_CHECKING:
    import forked

FreshHome = Callable[[str], Path]
"""Makes a study home with an empty MLflow database, and the spec beside it."""
SPEC = """
name: scripted
trainer: scripted_trainer:train
base: {epochs: 4, collapse_above: 6.0}
search_space:
  scale: {low: 0.5, high: 10.0, log: true}
objective: {metric: val/pa_mpjpe_mm, mode: min}
trials: 4
sampler: {name: tpe, startup_trials: 2}
scheduler: {name: asha, grace_epochs: 2, eta: 2}
"""


def command(home: Path, *arguments: str, ray: bool = False) -> list[str]:
    """The command line that runs a verb on a home: trials run one by one, or by Ray."""
    program = (
        [str(Path(sys.executable).parent / "sweeper")] if ray else [sys.executable, str(TESTS / "serial_driver.py")]
    )
    return [*program, *arguments, "--home", str(home)]


def environment(**extra: str) -> dict[str, str]:
    path = os.pathsep.join([str(TESTS), str(ROOT), os.environ.get("PYTHONPATH", "")])
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"} | extra


def sweep(home: Path, *arguments: str, ray: bool = False, **extra: str) -> "subprocess.CompletedProcess[str]":
    """Run a verb to its end; `run` means the spec beside the home. Forked from a process that has imported everything,
    unless `extra` has a PYTHONPATH, by which other modules may be found."""
    if arguments[0] == "run":
        arguments = ("run", str(home.parent / "spec.yaml"), *arguments[1:])
    if "PYTHONPATH" not in extra:
        import forked  # which imports this module

        return forked.verb([*arguments, "--home", str(home)], ray=ray, timeout_s=560, **extra)
    return subprocess.run(
        command(home, *arguments, ray=ray), capture_output=True, text=True, env=environment(**extra), timeout=560
    )


def begin(home: Path, *arguments: str, ray: bool = False, **extra: str) -> "forked.Command":
    """Start `run` in its own process group."""
    import forked

    line = ["run", str(home.parent / "spec.yaml"), *arguments, "--home", str(home)]
    return forked.Command(line, ray=ray, **extra)


def wait_until(condition: Callable[[], object], timeout_s: float = 400, every_s: float = 0.005) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not _holds(condition):
        assert time.monotonic() < deadline_s, "it never came to that"
        time.sleep(every_s)


def _holds(condition: Callable[[], object]) -> bool:
    """A folder that vanishes while it is listed, as when another takes its place, does not hold what is looked for."""
    try:
        return bool(condition())
    except FileNotFoundError:
        return False


def journal_bytes(home: Path) -> int:
    """Size of the study's ledger, 0 while there is none."""
    journal = home / "studies" / "scripted" / "ledger.journal"
    return journal.stat().st_size if journal.exists() else 0


SHORT = """
name: scripted
trainer: scripted_trainer:train
base: {epochs: 2, collapse_above: 6.0}
search_space:
  scale: {choices: [7.0, 1.0, 2.0]}
controls: [oracle]
objective: {metric: val/pa_mpjpe_mm, mode: min}
trials: 3
sampler: {name: grid}
scheduler: {name: asha, mode: promote, grace_epochs: 1, eta: 2}
guards: [{name: collapse, kind: collapse, after_epochs: 1, for_evaluations: 1}]
"""
