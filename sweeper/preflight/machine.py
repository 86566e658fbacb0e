"""What the machine needs for a sweep, whatever is trained: devices, cores, disk, and the tracking server."""

import os
import shutil
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from mano_trainers.report import CheckResult, CheckStatus
from sweeper.checkpoints.locate import named_store
from sweeper.executor.monitor import Node, room
from sweeper.redaction import redact
from sweeper.spec.resolve import SweepSpec
from sweeper.spec.sections import Resources
from sweeper.tracking.store.client import tracking_uri

SERVER_TIMEOUT_S: Final = 3.0
SPARE_BYTES: Final = 10**9


def check_machine(spec: SweepSpec, home: Path, run_bytes: int | None, nodes: Sequence[Node]) -> Iterator[CheckResult]:
    """Each check takes milliseconds, unless a tracking server does not answer.

    Args:
        spec: the sweep.
        home: the study home; made if it is not there.
        run_bytes: size of the checkpoints of one full run, if the trainer says so.
        nodes: the machines that trials run on.
    """
    at_once = spec.resources.at_once(room(spec.resources, nodes))
    yield _gpus(spec.resources, at_once, nodes)
    yield _cores(spec.resources, at_once, nodes)
    yield _writable(home)
    yield _disk(spec, home, run_bytes)
    yield _server(home)


def _gpus(resources: Resources, at_once: int, nodes: Sequence[Node]) -> CheckResult:
    most, there = max(node.gpus for node in nodes), sum(node.gpus for node in nodes)
    where = "" if len(nodes) == 1 else f" on {len(nodes)} machines, at most {most:g} on one"
    each = "trial" if resources.lanes == 1 else f"{resources.lanes} trials"
    measured = f"{there:g} GPUs{where}, {resources.gpus:g} requested per {each}"
    if resources.gpus > most:
        help = "set resources.gpus to what there is, or start it where the GPUs are; is the driver loaded (nvidia-smi)?"
        return CheckResult("machine.gpu", CheckStatus.FAIL, measured, "those asked for", help)
    if resources.gpus * resources.processes(at_once) > there:
        help = f"{at_once} trials at once do not fit: they wait for each other"
        return CheckResult("machine.gpu", CheckStatus.WARN, measured, "those of all concurrent trials", help)
    return CheckResult("machine.gpu", CheckStatus.PASS, measured, "those asked for")


def _cores(resources: Resources, at_once: int, nodes: Sequence[Node]) -> CheckResult:
    wanted, there = resources.cpus * resources.processes(at_once), int(sum(node.cpus for node in nodes))
    measured, expected = f"{wanted} cores for {at_once} trials at once", f"at most {there}"
    if wanted > there:
        help = "trials will slow each other down: lower resources.concurrent or resources.cpus"
        return CheckResult("machine.cpus", CheckStatus.WARN, measured, expected, help)
    return CheckResult("machine.cpus", CheckStatus.PASS, measured, expected)


def _writable(home: Path) -> CheckResult:
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=home) as file:
            file.write(b"preflight")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        measured = f"{home}: {error.strerror or error}"
        help = "name another folder with --home, or fix its permissions"
        return CheckResult("machine.write", CheckStatus.FAIL, measured, "a file can be written", help)
    return CheckResult("machine.write", CheckStatus.PASS, f"{home} can be written", "a file can be written")


def _disk(spec: SweepSpec, home: Path, run_bytes: int | None) -> CheckResult:
    existing = next(path for path in (home.absolute(), *home.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    # In the study's folder until `sweeper gc`, or in a store; and with `retention: all` among MLflow's artifacts.
    copies = (named_store(spec) is None) + (spec.retention == "all")
    planned = SPARE_BYTES if run_bytes is None else copies * spec.trials * run_bytes
    what = "for unknown checkpoints" if run_bytes is None else f"for the checkpoints of {spec.trials} full trials"
    measured, expected = f"{free / 1e9:.1f} GB free", f"{planned / 1e9:.1f} GB {what}"
    help = "free some space, name a --home on another disk, or evaluate less often: each evaluation keeps a checkpoint"
    help += "" if copies < 2 else "; `retention: best` keeps them out of MLflow, which halves this"
    if free < planned:
        # Trials that are stopped early keep less, so a study that needs half of this may fit.
        status = CheckStatus.FAIL if 2 * free < planned else CheckStatus.WARN
        return CheckResult("machine.disk", status, measured, expected, help)
    return CheckResult("machine.disk", CheckStatus.PASS, measured, expected)


def _server(home: Path) -> CheckResult:
    """A warning only: metrics wait in the outbox for a server that comes back."""
    uri = tracking_uri(home)
    shown = redact(uri)
    if not uri.startswith("http"):
        return CheckResult("machine.tracking", CheckStatus.PASS, shown, "a database, or a server that answers")
    try:
        with urllib.request.urlopen(uri.rstrip("/") + "/health", timeout=SERVER_TIMEOUT_S) as answer:
            problem = "" if answer.status == 200 else f"answers {answer.status}"
    except (OSError, ValueError) as error:  # URLError is an OSError
        problem = str(getattr(error, "reason", error))
    if problem:
        help = "start it, or fix MLFLOW_TRACKING_URI; until it answers, metrics wait in the study's outbox"
        measured = f"{shown}: {redact(problem)}"
        return CheckResult("machine.tracking", CheckStatus.WARN, measured, "answers within 3 s", help)
    return CheckResult("machine.tracking", CheckStatus.PASS, f"{shown} answers", "answers within 3 s")
