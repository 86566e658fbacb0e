"""Metrics into MLflow a second: ours, Ray's MLflowLoggerCallback, and raw `log_batch`, by turns on one store each; what
tracking adds to a training step; and how long `list` and `show` take on a store of 1,000 trials.

    PYTHONPATH=. OMP_NUM_THREADS=1 python tests/benchmarks/tracking.py
    PYTHONPATH=. python tests/benchmarks/tracking.py --make-store HOME     # only the store, for other measurements

Ours counts all of it: the outbox on disk, its thread, and the wait until MLflow has the last point. Everything goes
into SQLite files without a server, the fastest that MLflow has.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from sweeper.ledger.ledger import Ledger, Report, TrialState
from sweeper.ledger.storage.location import open_storage
from sweeper.spec.load import parse_spec
from sweeper.tracking import Tracker
from sweeper.tracking.store.client import open_client

METRICS = 20
TARGET_RAY, TARGET_RAW, TARGET_STEP, TARGET_READ_S = 50.0, 0.8, 0.01, 2.0
SPEC = """
name: store
trainer: mano_trainers.loop:train
search_space:
  optim.lr: {low: 1.0e-5, high: 1.0e-2, log: true}
objective: {metric: val/pa_mpjpe_mm, mode: min}
trials: TRIALS
controls: []
sampler: {name: random}
"""


def metrics_of(step: int) -> dict[str, float]:
    """One evaluation of 20 metrics."""
    return {"val/pa_mpjpe_mm": 50.0 / step} | {
        f"val/metric_{number:02d}": step / 7 + number for number in range(1, METRICS)
    }


def ours_per_s(folder: Path, steps: int) -> float:
    """Metrics a second through a Tracker, from the first append until MLflow has the last."""
    study_dir = folder / "study"
    study_dir.mkdir()
    tracker = Tracker(study_dir, f"sqlite:///{folder}/mlflow.db", folder / "artifacts", "ours")
    tracker.start_study({}, {})
    tracker.start_trial("ours-0000", {}, {}, {})
    assert tracker.flush(120) == 0  # runs and imports before the clock, as for the others
    began = time.perf_counter()
    for step in range(1, steps + 1):
        tracker.report("ours-0000", step, 1000 * step, metrics_of(step))
    assert tracker.flush(600) == 0, tracker.problem
    seconds = time.perf_counter() - began
    tracker.close()
    return steps * METRICS / seconds


def raw_per_s(folder: Path, steps: int) -> float:
    """Metrics a second by `log_batch` with 1000 metrics a call, the most that MLflow takes."""
    from mlflow.entities import Metric

    client: Any = open_client(f"sqlite:///{folder}/mlflow.db")
    run_id = client.create_run(client.create_experiment("raw", str(folder / "raw"))).info.run_id
    client.log_batch(run_id, metrics=[Metric("warm", 1.0, 1, 1)])
    began = time.perf_counter()
    points = [
        Metric(name, value, 1000 * step, step)
        for step in range(1, steps + 1)
        for name, value in metrics_of(step).items()
    ]
    for start in range(0, len(points), 1000):
        client.log_batch(run_id, metrics=points[start : start + 1000])
    return len(points) / (time.perf_counter() - began)


class _RayTrial:
    """What the callback reads of a trial of Ray's."""

    trial_id, trial_name, config = "0", "ray-0000", {"lr": 0.1}

    def __str__(self) -> str:
        return self.trial_name


def ray_per_s(folder: Path, steps: int) -> float:
    """Metrics a second through Ray's callback, which logs one result of a trial after the other."""
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    callback = MLflowLoggerCallback(tracking_uri=f"sqlite:///{folder}/mlflow.db", experiment_name="ray")
    callback.setup()
    trial: Any = _RayTrial()
    callback.log_trial_start(trial)
    callback.log_trial_result(1, trial, {"training_iteration": 1, "timesteps_total": 1, **metrics_of(1)})
    began = time.perf_counter()
    for step in range(2, steps + 2):
        callback.log_trial_result(
            step, trial, {"training_iteration": step, "timesteps_total": step, **metrics_of(step)}
        )
    rate = steps * METRICS / (time.perf_counter() - began)
    callback.log_trial_end(trial)
    return rate


def step_overhead(folder: Path, evaluations: int, step_s: float) -> float:
    """Share that reporting an evaluation adds to the driver's thread, for an evaluation each `step_s` seconds."""
    study_dir = folder / "overhead"
    study_dir.mkdir()
    tracker = Tracker(study_dir, f"sqlite:///{folder}/mlflow.db", folder / "artifacts", "overhead")
    tracker.start_trial("overhead-0000", {}, {}, {})
    assert tracker.flush(120) == 0
    spent_s = 0.0
    for step in range(1, evaluations + 1):
        time.sleep(step_s)
        began = time.perf_counter()
        tracker.report("overhead-0000", step, 1000 * step, metrics_of(step))
        spent_s += time.perf_counter() - began
    assert tracker.flush(120) == 0
    tracker.close()
    return spent_s / (evaluations * step_s)


def make_store(home: Path, trials: int, steps: int) -> Path:
    """A study home with a finished study `store` of so many trials, each with so many evaluations of 20 metrics.

    The trials go into the ledger's own storage, as its methods would write them; MLflow has nothing of them.
    """
    import optuna

    from sweeper.ledger.trial import encode_report

    study_dir = home / "studies" / "store"
    study_dir.mkdir(parents=True)
    spec = parse_spec(SPEC.replace("TRIALS", str(trials)), Path("store.yaml"))
    Ledger.create(study_dir, "store").attributes.spec = spec.effective
    study = optuna.load_study(study_name="store", storage=open_storage(study_dir, None, create=True))
    distribution = optuna.distributions.FloatDistribution(1e-5, 1e-2, log=True)
    made = []
    for number in range(trials):
        reports = {}
        for step in range(1, steps + 1):
            report = Report(step, float(step), metrics_of(step), None, 1000 * step, 1.0, float(steps))
            reports[f"report:{step:05d}"] = encode_report(report)
        ending = {"state": TrialState.COMPLETE.value, "reason": f"ran all {steps} epochs", "evidence": {}, "charge": {}}
        made.append(
            optuna.trial.create_trial(
                params={"optim.lr": 1e-5 * (1 + number)},
                distributions={"optim.lr": distribution},
                value=metrics_of(steps)["val/pa_mpjpe_mm"],
                user_attrs=reports | {"ending": ending | {"objective": 1.0, "time_s": 0.0}},
            )
        )
    study.add_trials(made)
    return home


def read_s(home: Path, *verb: str) -> float:
    """Seconds of a verb in a process of its own, start included."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "sweeper", *verb, "--home", str(home)], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def say(
    name: str, value: float, target: float, *, at_least: bool, unit: str = "", values: list[float] | None = None
) -> None:
    met = value >= target if at_least else value <= target
    spread = f" ({min(values):.4g} to {max(values):.4g}, {len(values)} runs)" if values else ""
    wanted = f"target {'>=' if at_least else '<='} {target:g}{unit}: {'met' if met else 'MISSED'}"
    print(f"{name}: {value:.4g}{unit}{spread}; {wanted}; load {os.getloadavg()[0]:.1f}", flush=True)


def measure(repeats: int, steps: int) -> None:
    """All ratios, in turns."""
    rates: dict[str, list[float]] = {"ours": [], "raw": [], "ray": []}
    with tempfile.TemporaryDirectory() as scratch:
        template = Path(scratch) / "template.db"
        open_client(f"sqlite:///{template}").search_experiments()
        for turn in range(repeats):
            for name, rate, count in (("ours", ours_per_s, steps), ("raw", raw_per_s, steps), ("ray", ray_per_s, 20)):
                folder = Path(scratch) / f"{name}{turn}"
                folder.mkdir()
                shutil.copy(template, folder / "mlflow.db")
                rates[name].append(rate(folder, count))
        print(
            {name: [round(value) for value in values] for name, values in rates.items()}, "metrics a second", flush=True
        )
        for peer, target in (("ray", TARGET_RAY), ("raw", TARGET_RAW)):
            ratios = [mine / its for mine, its in zip(rates["ours"], rates[peer], strict=True)]
            say(f"ours against {peer}", statistics.median(ratios), target, at_least=True, unit=" x", values=ratios)
        shares = []
        for turn in range(repeats):
            folder = Path(scratch) / f"step{turn}"
            folder.mkdir()
            shutil.copy(template, folder / "mlflow.db")
            shares.append(step_overhead(folder, 40, 0.1))
        say("share of a 0.1 s step", statistics.median(shares), TARGET_STEP, at_least=False, values=shares)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=500, help="evaluations of 20 metrics, ours and raw")
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--make-store", type=Path, metavar="HOME")
    arguments = parser.parse_args()
    if arguments.make_store:
        make_store(arguments.make_store, arguments.trials, 50)
        return
    measure(arguments.repeats, arguments.steps)
    with tempfile.TemporaryDirectory() as scratch:
        home = make_store(Path(scratch) / "home", arguments.trials, 50)
        for verb in (("list",), ("show", "store"), ("show", "store", "--json")):
            seconds = [read_s(home, *verb) for _ in range(3)]
            value = statistics.median(seconds)
            say(f"sweeper {' '.join(verb)}", value, TARGET_READ_S, at_least=False, unit=" s", values=seconds)


if __name__ == "__main__":
    main()
