"""`sweeper slurm`: the batch script of a Slurm job that runs a study, or continues it, on the nodes it is given.

The script is what a person may read and change before it is submitted: `#SBATCH` lines, the values that differ, quoted,
and `templates/slurm_job.sh`, which is the same in every job and into which nothing is written.
"""

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sweeper.errors import UserError
from sweeper.spec.resolve import SweepSpec
from sweeper.spec.sections import Resources

BODY: Final = Path(__file__).parents[1] / "templates" / "slurm_job.sh"
PLAIN: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=.,:/@%^&|*[]()")
"""What sbatch takes literally. It reads `"`, `'` and a backslash as quotes, and a `#` as the start of a comment."""


@dataclass(frozen=True)
class Allocation:
    """What a job asks Slurm for.

    Attributes:
        nodes: how many; each runs one Ray.
        cpus_per_task: cores of each node; None: as many as its trials take.
        gpus_per_node: `4` or `a100:4`; None: none.
        lines: further options of sbatch, `--NAME=VALUE` each.
        signal_s: how long before the time limit trials are told to reach their next checkpoint.
    """

    nodes: int
    cpus_per_task: int | None
    gpus_per_node: str | None
    lines: Sequence[str]
    signal_s: int


def job_script(
    spec: SweepSpec, run: Sequence[str], home: Path, allocation: Allocation, setup: Sequence[str], programs: Path
) -> str:
    """The text of the script.

    Args:
        spec: the checked spec.
        run: `sweeper run ...` as in the job, with absolute paths.
        home: the study home, absolute.
        allocation: what it asks for.
        setup: lines of bash that run first, on the first node: `module load ...`.
        programs: the folder of `sweeper` and `ray`.

    Raises:
        UserError: a trial does not fit on a node, or an option is not one line.
    """
    gpus = _gpus(allocation.gpus_per_node)
    cpus = allocation.cpus_per_task or _cpus(spec.resources, allocation.nodes, gpus)
    _refuse_too_small(spec.resources, cpus, gpus)
    options = [
        _option("job-name", spec.name),
        "--dependency=singleton",  # one job of a study at a time, whether or not the file system has locks
        f"--nodes={allocation.nodes}",
        "--ntasks-per-node=1",
        f"--cpus-per-task={cpus}",
        *([_option("gres", f"gpu:{allocation.gpus_per_node}")] if gpus else []),
        f"--signal=B:USR1@{allocation.signal_s}",
        "--requeue",
        "--open-mode=append",
        "--output=%x-%j.out",
        *allocation.lines,
    ]
    for text in (*options, *setup):
        if "\n" in text or "\r" in text:
            raise UserError(f"an option of the job has more than one line: {text!r}", help="give each line separately")
    values = {"folder": Path.cwd(), "study": spec.name, "home": home, "gpus": gpus, "signal_s": allocation.signal_s}
    return "\n".join(
        (
            "#!/bin/bash",
            *(f"#SBATCH {option}" for option in options),
            f"# A job of the study `{spec.name}`, by `sweeper slurm`. It starts the study, or continues it.",
            "",
            f"PATH={shlex.quote(str(programs))}:$PATH",
            *setup,
            *(f"{name}={shlex.quote(str(value))}" for name, value in values.items()),
            f"run=({shlex.join(run)})",
            "",
            BODY.read_text(encoding="utf-8"),
        )
    )


def _option(name: str, value: str) -> str:
    """An option of sbatch, from its lines."""
    if PLAIN.issuperset(value):
        return f"--{name}={value}"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'--{name}="{escaped}"'


def option_lines(options: dict[str, str | None], extra: Sequence[str]) -> list[str]:
    """Options of sbatch that have a value, and lines that are one already, with or without their `#SBATCH`.

    Raises:
        UserError: one is not an option.
    """
    lines = [_option(name, value) for name, value in options.items() if value]
    for text in extra:
        line = text.removeprefix("#SBATCH").strip()
        if not line.startswith("-"):
            raise UserError(f"`{text}` is not an option of sbatch", "--sbatch", "write it as `--qos=long`")
        lines.append(line)
    return lines


def _gpus(per_node: str | None) -> int:
    """The number in `4` or `a100:4`.

    Raises:
        UserError: it is neither.
    """
    count = (per_node or "0").rpartition(":")[2]
    if not count.isdecimal():
        raise UserError(f"`{per_node}` is not a number of GPUs", "--gpus-per-node", "write `4`, or `a100:4`")
    return int(count)


def _cpus(resources: Resources, nodes: int, gpus: int) -> int:
    """Cores of a node for as many trials as its GPUs, or `resources.concurrent`, allow.

    Raises:
        UserError: nothing says how many.
    """
    if resources.gpus and gpus:
        at_once = gpus * int(1 / resources.gpus) if resources.gpus < 1 else int(gpus / resources.gpus)
    elif resources.concurrent == "all":
        what = "`resources.concurrent: all` does not say how many cores a node needs"
        raise UserError(what, "--cpus-per-task", f"a trial takes {resources.cpus}; give the number per node")
    else:
        at_once = math.ceil(resources.concurrent / nodes)
        at_once = resources.processes(at_once)
    return resources.cpus * max(at_once, 1)


def _refuse_too_small(resources: Resources, cpus: int, gpus: int) -> None:
    if cpus < resources.cpus:
        what = f"a trial takes {resources.cpus} cores (`resources.cpus`), and a node would have {cpus}"
        raise UserError(what, "--cpus-per-task")
    if gpus < resources.gpus:
        what = f"a trial takes {resources.gpus:g} GPUs (`resources.gpus`), and a node would have {gpus}"
        raise UserError(what, "--gpus-per-node")
