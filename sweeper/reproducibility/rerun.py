"""Trains a recorded trial again in a separate process, and collects what it reports and writes."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import mano_trainers
from sweeper.errors import UserError
from sweeper.files import sha256_of
from sweeper.home import CACHE_VARIABLE, cache_of
from sweeper.reproducibility import provenance
from sweeper.reproducibility.git import top_of
from sweeper.reproducibility.metric_diff import tensor_deviation
from sweeper.tracking import RecordedTrial
from sweeper.tracking.schema import metric_keys, metric_value

LOG_LINES: Final = 15
WEIGHTS: Final = ".safetensors"

Fetch = Callable[[str], Path]
"""From the name of a checkpoint to a folder with the recorded one; a UserError if it is missing or damaged."""


@dataclass(frozen=True)
class Weights:
    """How far the weights of one checkpoint are from the recorded ones.

    Attributes:
        step: evaluation it was written at.
        tensor: the one that differs most; empty if the recorded one cannot be read.
        absolute: its largest difference.
        relative: that as a share of the largest recorded value of the tensor.
        problem: why it cannot be read.
    """

    step: int
    tensor: str = ""
    absolute: float = 0.0
    relative: float = 0.0
    problem: str = ""


@dataclass
class Rerun:
    """What the rerun has yielded so far.

    Attributes:
        stands_on: its code, packages, machine and data, as a provenance.
        metrics: step -> metric -> value.
        weights_equal: step -> whether the weights have the recorded checksum, where one is recorded.
        weights: of the first checkpoint that is not equal.
        failure: why the rerun ended before its last step.
        reuses_process: whether the trainer lets its trials share a process.
    """

    stands_on: dict[str, Any] = field(default_factory=dict)
    metrics: dict[int, dict[str, float]] = field(default_factory=dict)
    weights_equal: dict[int, bool] = field(default_factory=dict)
    weights: Weights | None = None
    failure: str | None = None
    reuses_process: bool = False


def run_again(
    trial: RecordedTrial,
    home: Path,
    scratch: Path,
    fetch: Fetch,
    *,
    until: float | None = None,
    resume: Path | None = None,
    tree: Path | None = None,
) -> Rerun:
    """Train in a subprocess up to the step the trial had reached, with its config, seeds and number of threads.

    Args:
        trial: what to train.
        home: the study home; its `data` holds caches of data.
        scratch: an empty folder on a disk with room for a checkpoint.
        fetch: gets a recorded checkpoint.
        until: stop at this epoch.
        resume: a checkpoint to resume from.
        tree: the top folder of the code to run, if not this one.
    """
    rerun = Rerun()
    workdir = scratch / "work"
    workdir.mkdir()
    job = {
        "trainer": trial.trainer,
        "config": trial.config,
        "workdir": str(workdir),
        "resume": str(resume) if resume else None,
        "last_step": max(trial.metrics),
        "until": until,
    }
    job_file, log = scratch / "job.json", scratch / "log.txt"
    job_file.write_text(json.dumps(job))
    with _child(trial, home, job_file, log, tree) as child:
        rerun.stands_on = provenance.collect(tree) | {"config": trial.config}  # while the child starts
        assert child.stdout is not None
        for line in child.stdout:
            _take(rerun, json.loads(line), trial, fetch)
        code = child.wait()
    if code != 0:
        tail = log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        rerun.failure = "\n".join([f"it ended with exit code {code}:", *tail])
    return rerun


@contextlib.contextmanager
def _child(
    trial: RecordedTrial, home: Path, job_file: Path, log: Path, tree: Path | None
) -> Iterator[subprocess.Popen[str]]:
    environment = dict(os.environ)
    environment[CACHE_VARIABLE] = str(cache_of(home))
    environment["OMP_NUM_THREADS"] = str(trial.config.get("threads", 1))
    environment.setdefault("PYTHONHASHSEED", "0")  # like a trial's
    if trial.tags.get("sweeper.gpus") in {"0", "0.0"}:
        environment["CUDA_VISIBLE_DEVICES"] = ""  # it ran without, though `device: auto` would take one
    command = [sys.executable, "-m", "sweeper.entrypoint.rerun", str(job_file)]
    if tree is not None:
        command.insert(1, "-P")  # otherwise the working folder comes first, with today's code
        environment["PYTHONPATH"] = os.pathsep.join(_paths_in(tree))
    with log.open("w") as errors:
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment)
    try:
        yield child
    finally:
        if child.poll() is None:
            child.kill()
        child.wait()


def _paths_in(tree: Path) -> list[str]:
    """Where Python looks for code, with the repository's folders replaced by those of the other worktree."""
    top = top_of(provenance.code_folder())
    assert top is not None, "the tree is one of its commits"
    known = [Path(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    paths = []
    for path in (provenance.code_folder().parent, Path(str(mano_trainers.__file__)).parents[1], Path.cwd(), *known):
        inside = path.resolve().is_relative_to(top.resolve())
        paths.append(str(tree / path.resolve().relative_to(top.resolve()) if inside else path))
    return list(dict.fromkeys(paths))


def _take(rerun: Rerun, line: dict[str, Any], trial: RecordedTrial, fetch: Fetch) -> None:
    """Add one line of the child to `rerun`; its checkpoint is compared and deleted, since all of them may be large."""
    if "fingerprints" in line:
        rerun.stands_on["data"] = line["fingerprints"]
        rerun.reuses_process = line.get("reuses_process", False)
        rerun.stands_on |= {key: line[key] for key in ("numerics", "sources") if key in line}
        return
    step = line["step"]
    keys = metric_keys(line["metrics"])
    metrics = {keys[name]: metric_value(value) for name, value in line["metrics"].items()}
    rerun.metrics[step] = {
        **metrics,
        "epoch": line["epoch"],
    }  # the report's, as it was recorded
    if line["checkpoint"]:
        folder = Path(line["checkpoint"])
        equal = _weights_equal(folder, trial.manifests.get(folder.name))
        if equal is not None:
            rerun.weights_equal[step] = equal
        if equal is False and rerun.weights is None:
            rerun.weights = _weights(step, folder, fetch)
        shutil.rmtree(folder)
    print(f"  rerun: evaluation {step} of {max(trial.metrics)}", file=sys.stderr, flush=True)


def _weights_equal(folder: Path, manifest: dict[str, Any] | None) -> bool | None:
    """Whether all weights files of a checkpoint have the sha256 that the recorded manifest gives; None: none given."""
    files = (manifest or {}).get("files", {})
    recorded = {name: entry["sha256"] for name, entry in files.items() if name.endswith(WEIGHTS)}
    if not recorded:
        return None
    return all((folder / name).is_file() and sha256_of(folder / name) == sha256 for name, sha256 in recorded.items())


def _weights(step: int, folder: Path, fetch: Fetch) -> Weights:
    """The tensors, if only the checksums are known to differ."""
    try:
        recorded = fetch(folder.name)
        found = [tensor_deviation(path, folder / path.name) for path in sorted(recorded.glob(f"*{WEIGHTS}"))]
    except (ValueError, UserError) as error:
        return Weights(step, problem=str(error))
    return Weights(step, *max(found, key=lambda each: each[2]))
