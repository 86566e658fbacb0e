"""Runs a second that reach MLflow in SQLite, ours against MLflow's bare calls, and what a trial takes on disk.

    python tests/benchmarks/tracking_growth.py --trials 3000 --parts 3

A trial is what a do-nothing trainer of two epochs leaves: parameters, tags, two evaluations of 10 metrics, `trial.yaml`
and `provenance.json`, an end. The bare calls are `create_run`, one `log_batch`, two artifacts and `set_terminated`.
Both are timed part by part, in turns, so that growth shows and a busy machine slows both.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from sweeper.reproducibility import provenance
from sweeper.tracking import Tracker, trial_yaml
from sweeper.tracking.schema import STUDY_PROVENANCE
from sweeper.tracking.store.client import open_client

METRICS = {f"val/metric_{number}": 1.0 / (1 + number) for number in range(10)}
PARAMS = {"optim.lr": 0.00123, "loss.lambda_joint": 2.5, "loss.lambda_pose": 0.1}
TAGS = {"sweeper.state": "RUNNING", "sweeper.role": "candidate", "sweeper.sampler": "tpe", "sweeper.gpus": "0"}
CONFIG = {"optim": {"lr": 0.00123}, "loss": {"lambda_joint": 2.5, "lambda_pose": 0.1}, "epochs": 2, "seed": 0}
TARGET = 1.2


def artifacts_of(trial_id: str) -> dict[str, str]:
    """As `MLflowCallback` writes them."""
    own = {STUDY_PROVENANCE: "provenance/0123456789abcdef.json", "params": PARAMS, "config": CONFIG}
    return {"trial.yaml": trial_yaml(trial_id, "a.b:train", CONFIG, PARAMS), "provenance.json": json.dumps(own)}


def ours(tracker: Tracker, first: int, count: int) -> float:
    """Seconds from the first append until MLflow has the last of `count` trials."""
    began_s = time.perf_counter()
    for number in range(first, first + count):
        trial_id = f"growth-{number:05d}"
        tracker.start_trial(trial_id, PARAMS, TAGS, artifacts_of(trial_id))
        for step in (1, 2):
            tracker.report(trial_id, step, 1000 * step, METRICS)
        tracker.finish_trial(trial_id, "FINISHED", {"sweeper.state": "COMPLETE", "sweeper.reason": "ran all 2 epochs"})
    assert tracker.flush(3600) == 0
    return time.perf_counter() - began_s


def bare(folder: Path, experiment_id: str, first: int, count: int) -> float:
    """Seconds of MLflow's own calls for `count` trials."""
    from mlflow.entities import Metric, Param, RunTag

    client = open_client(f"sqlite:///{folder}/mlflow.db")
    began_s = time.perf_counter()
    for number in range(first, first + count):
        trial_id = f"growth-{number:05d}"
        run_id = client.create_run(experiment_id, run_name=trial_id).info.run_id
        client.log_batch(
            run_id,
            metrics=[Metric(name, value, 1000 * step, step) for step in (1, 2) for name, value in METRICS.items()],
            params=[Param(name, str(value)) for name, value in PARAMS.items()],
            tags=[RunTag(name, value) for name, value in TAGS.items()],
        )
        for name, text in artifacts_of(trial_id).items():
            client.log_text(run_id, text, name)
        client.set_terminated(run_id, "FINISHED")
    return time.perf_counter() - began_s


def bytes_below(folder: Path) -> int:
    """Sum of the sizes of all files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    """Measure, and say whether the target is met."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=3000)
    parser.add_argument("--parts", type=int, default=3)
    arguments = parser.parse_args()
    count = arguments.trials // arguments.parts
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        template = root / "template.db"
        open_client(f"sqlite:///{template}").search_experiments()
        for name in ("ours", "bare"):
            (root / name).mkdir()
            shutil.copy(template, root / name / "mlflow.db")
        study_dir = root / "ours" / "studies" / "growth"
        study_dir.mkdir(parents=True)
        tracker = Tracker(study_dir, f"sqlite:///{root}/ours/mlflow.db", root / "ours" / "artifacts", "growth")
        tracker.start_study({}, {"provenance.json": json.dumps(provenance.collect())})
        assert tracker.flush(120) == 0
        client = open_client(f"sqlite:///{root}/bare/mlflow.db")
        experiment_id = client.create_experiment(
            "growth", artifact_location=str(root / "bare" / "artifacts" / "growth")
        )
        ratios = []
        for part in range(arguments.parts):
            mine_s = ours(tracker, part * count, count)
            its_s = bare(root / "bare", experiment_id, part * count, count)
            ratios.append(mine_s / its_s)
            print(
                f"trials {part * count} to {(part + 1) * count}: ours {1000 * mine_s / count:.1f} ms a run, "
                f"bare calls {1000 * its_s / count:.1f} ms, ratio {ratios[-1]:.2f}; load {os.getloadavg()[0]:.1f}",
                flush=True,
            )
        waiting = (study_dir / "outbox.jsonl").stat().st_size / arguments.trials
        tracker.close()
        print(f"outbox: {waiting:.0f} bytes a trial, {bytes_below(study_dir) / arguments.trials:.0f} once delivered")
        print(f"artifacts: {bytes_below(root / 'ours' / 'artifacts') / arguments.trials:.0f} bytes a trial")
        worst = max(ratios)
        print(f"worst ratio {worst:.2f}; target <= {TARGET}: {'met' if worst <= TARGET else 'MISSED'}")
        sys.exit(worst > TARGET)


if __name__ == "__main__":
    main()
