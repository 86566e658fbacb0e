"""How fast trials of a spec go: from earlier ones in the study home, or by timing one evaluation."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeper.checkpoints.locate import store_of
from sweeper.checkpoints.object_store import CheckpointMissing, StoreUnavailable
from sweeper.errors import UserError
from sweeper.home import CACHE_VARIABLE, cache_of
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.studies import study_dirs
from sweeper.search_space.paths import leaves
from sweeper.spec.model import VARIANT
from sweeper.spec.resolve import SweepSpec, accepted_example, resolve


@dataclass(frozen=True)
class Throughput:
    """How fast a trial is, and what it leaves behind. `source` says who measured it."""

    seconds_per_epoch: float
    checkpoint_bytes: int
    checkpoints_per_epoch: float
    source: str


def recorded_throughput(spec: SweepSpec, home: Path) -> Throughput | None:
    """What earlier trials of the same shape in this home took: the same trainer on the same resources, with a config
    that differs at most in what either study varies, in seeds, and in the number of epochs."""
    seconds, sizes, checkpoints, epochs, names = [], [], 0, 0.0, []
    for study_dir in study_dirs(home):
        try:
            ledger = Ledger.open(study_dir, study_dir.name)
            recorded, store_url = ledger.attributes.spec or {}, ledger.attributes.store_url
        except UserError:  # it cannot be read, as `sweeper list` says
            continue
        if not _same_shape(spec.effective, recorded):
            continue
        for trial in ledger.trials():
            for earlier, later in zip(trial.reports, trial.reports[1:], strict=False):
                if later.seconds > 0 and later.epoch > earlier.epoch:
                    seconds.append(later.seconds / (later.epoch - earlier.epoch))
            kept = [study_dir / report.checkpoint for report in trial.reports if report.checkpoint]
            if store_url is None:
                sizes += [size for folder in kept[-1:] if (size := _folder_bytes(folder))]
            checkpoints, epochs = checkpoints + len(kept), epochs + (trial.last.epoch if trial.last else 0.0)
        sizes += _stored_bytes(ledger)
        names.append(study_dir.name)
    if not seconds:
        return None
    source = f"earlier trials of {', '.join(names)}"
    return Throughput(statistics.median(seconds), int(max(sizes, default=0)), checkpoints / epochs, source)


def measured_throughput(spec: SweepSpec, home: Path) -> Throughput:
    """Train a little in a separate process: the second evaluation is timed, since the first one warms up.

    Raises:
        UserError: the trainer failed; it has said why on stderr.
    """
    params: Mapping[str, Any] = {VARIANT: next(iter(spec.variants))} if spec.variants else accepted_example(spec)
    with tempfile.TemporaryDirectory(prefix="sweeper-plan-") as scratch:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "sweeper.entrypoint.call", spec.trainer, "--time", scratch],
            input=json.dumps(resolve(spec, params)),
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {CACHE_VARIABLE: str(cache_of(home))},
        )
        if done.returncode != 0:
            raise UserError("the trainer could not be timed", help="see the message above")
        times = json.loads(done.stdout.strip().split("\n")[-1])
        size = _folder_bytes(Path(times["checkpoint"])) if times["checkpoint"] else 0
    return Throughput(times["seconds"] / times["epochs"], size, (1 / times["epochs"]) if size else 0.0, "measured now")


def _same_shape(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    if not other or one["trainer"] != other["trainer"] or one.get("variants") or other.get("variants"):
        return False
    if any(one["resources"][key] != other["resources"].get(key) for key in ("cpus", "gpus")):
        return False
    varied = {*one["search_space"], *other["search_space"]}
    shapes = [
        {
            path: value
            for path, value in leaves(spec["base"]).items()
            if path not in varied and _last(path) not in ("epochs", "seed")
        }
        for spec in (one, other)
    ]
    return shapes[0] == shapes[1]


def _last(path: str) -> str:
    return path.rpartition(".")[2]


def _stored_bytes(ledger: Ledger) -> list[int]:
    """Size of a checkpoint in a store, of which this home has at most the manifest; the store is asked for the newest
    one. Nothing if the study has no store, or it does not answer."""
    keys = [report.checkpoint for trial in ledger.trials() for report in trial.reports if report.checkpoint]
    store = store_of(ledger)
    if store is None or not keys:
        return []
    with suppress(StoreUnavailable, CheckpointMissing):
        return [sum(int(entry.get("bytes", 0)) for entry in store.files(keys[-1]).values())]
    return []


def _folder_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
