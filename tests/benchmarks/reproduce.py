"""Wall time of `sweeper reproduce` against that of the trial it reproduces, both with all that belongs to them.

    PYTHONPATH=. python tests/benchmarks/reproduce.py --epochs 20

One trial is trained by `python -m mano_trainers`, which neither records nor compares anything, and recorded; then it is
reproduced by the command line. They take turns, and the ratio of each pair counts. Both start a Python and find their
data rendered and decoded.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from mano_trainers.config import TrainConfig
from mano_trainers.loop import prepare, train
from sweeper.reproducibility import provenance
from sweeper.tracking import Tracker, tracking_uri, trial_yaml
from sweeper.tracking.schema import trial_provenance

TARGET = 1.15
TRAINER = "mano_trainers.loop:train"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--images", type=int, default=1000, help="poses of the embedded set")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    values = {"data": {"embedded_count": arguments.images}, "optim": {"epochs": arguments.epochs}, "device": "cpu"}
    config = TrainConfig.model_validate(values)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        os.environ["TRAINERS_CACHE_DIR"] = str(home / "data")
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        _record(home, config)
        (home / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
        ratios = []
        for turn in range(arguments.repeats):
            original_s, original_cpu_s = _time(
                "mano_trainers", str(home / "config.yaml"), "--out", str(home / f"out{turn}")
            )
            rerun_s, rerun_cpu_s = _time("sweeper", "reproduce", "bench-0000", "--home", folder)
            ratios.append(rerun_s / original_s)
            print(
                f"trial {original_s:.1f} s, reproduce {rerun_s:.1f} s, ratio {ratios[-1]:.3f}; of processor time "
                f"{original_cpu_s:.1f} s, {rerun_cpu_s:.1f} s, ratio {rerun_cpu_s / original_cpu_s:.3f}",
                flush=True,
            )
    ratio = statistics.median(ratios)
    print(
        f"reproduce / trial: {ratio:.3f} ({min(ratios):.3f} to {max(ratios):.3f}, {len(ratios)} pairs; target at most "
        f"{TARGET}: {'met' if ratio <= TARGET else 'MISSED'}), load {os.getloadavg()[0]:.1f}"
    )


def _time(module: str, *arguments: str) -> tuple[float, float]:
    """Seconds and processor seconds of one run; exit code 0 of `reproduce` is BIT-EXACT or WITHIN TOLERANCE."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", module, *arguments], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - began, used_s


def _record(home: Path, config: TrainConfig) -> None:
    """Train and record as a sweep does."""
    study_dir = home / "studies" / "bench"
    study_dir.mkdir(parents=True)
    values = config.model_dump(mode="json")
    tracker = Tracker(study_dir, tracking_uri(home), home / "artifacts", "bench")
    tracker.start_study({}, {})
    record = trial_provenance(provenance.collect() | {"data": prepare(config)}, values, {})
    artifacts = {"trial.yaml": trial_yaml("bench-0000", TRAINER, values, {}), "provenance.json": json.dumps(record)}
    tracker.start_trial("bench-0000", {}, {"sweeper.gpus": 0.0}, artifacts)
    for report in train(config, study_dir):
        tracker.report("bench-0000", report.step, report.step, {**report.metrics, "epoch": report.epoch})
        assert report.checkpoint is not None
        tracker.checkpoint("bench-0000", report.checkpoint, f"checkpoints/{report.checkpoint.name}")
    tracker.finish_trial("bench-0000", "FINISHED", {"sweeper.state": "COMPLETE"})
    tracker.flush(600)
    tracker.close()


if __name__ == "__main__":
    main()
