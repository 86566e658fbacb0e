"""Records a training through the Tracker as a sweep does, and changes what was recorded."""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from sweeper.entrypoint.call import numerics, prepare, start_training
from sweeper.entrypoint.source_hashes import code_sums
from sweeper.reproducibility import provenance
from sweeper.tracking import Tracker, tracking_uri, trial_yaml
from sweeper.tracking.schema import trial_provenance

Tamper = Callable[[int, dict[str, float]], None]


def record_trial(
    home: Path,
    trainer: str,
    config: dict[str, Any],
    steps: int | None = None,
    tamper: Tamper | None = None,
) -> None:
    """Train up to `steps`, and record that as trial ``toy-0001``, with metrics tampered with on request."""
    study_dir = home / "studies" / "toy"
    workdir = study_dir / "trials" / "0001"  # checkpoints elsewhere do not go to MLflow
    workdir.mkdir(parents=True)
    tracker = Tracker(study_dir, tracking_uri(home), home / "artifacts", "toy")
    tracker.start_study({}, {})
    stands_on = {"data": prepare(trainer, config), "numerics": numerics(trainer, config), "sources": code_sums(trainer)}
    found = trial_provenance(provenance.collect() | stands_on, config, {})
    artifacts = {"trial.yaml": trial_yaml("toy-0001", trainer, config, {}), "provenance.json": json.dumps(found)}
    tracker.start_trial("toy-0001", {}, {"sweeper.role": "candidate", "sweeper.gpus": "0.0"}, artifacts)
    for report in start_training(trainer, config, workdir, None):
        metrics = {**report.metrics, "epoch": report.epoch}
        if tamper is not None:
            tamper(report.step, metrics)
        tracker.report("toy-0001", report.step, 1_000 * report.step, metrics)
        if report.checkpoint is not None:
            tracker.checkpoint("toy-0001", report.checkpoint, f"checkpoints/{report.checkpoint.name}")
        if report.step == steps:
            break
    tracker.finish_trial("toy-0001", "FINISHED", {"sweeper.state": "COMPLETE"})
    assert tracker.flush(60) == 0
    tracker.close()


def artifact(home: Path, name: str) -> Path:
    """The one artifact of this name below the study's runs."""
    (path,) = (home / "artifacts").rglob(name)
    return path


@contextlib.contextmanager
def changed(path: Path, change: Callable[[bytes], bytes]) -> Iterator[None]:
    """A file with other content, for a while."""
    before = path.read_bytes()
    path.write_bytes(change(before))
    try:
        yield
    finally:
        path.write_bytes(before)


def with_config(key: str, value: Any) -> Callable[[bytes], bytes]:
    """A change of `trial.yaml`: another value at a dotted path of the config."""

    def change(content: bytes) -> bytes:
        record = yaml.safe_load(content)
        *sections, last = key.split(".")
        node = record["config"]
        for section in sections:
            node = node[section]
        node[last] = value
        return yaml.safe_dump(record).encode()

    return change
