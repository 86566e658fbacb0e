"""What the orchestrator itself costs, on trials that do nothing, against bare Ray Tune in the same run.

    trials   many trials of one report, and a few of many reports: wall time of the whole command, and the time from
             the command to the first report
    restart  kill -9 of the driver: time from the restart to the first report that was not made before, and how many
             evaluations are made again

The peer is Ray Tune with OptunaSearch, ASHA and reused actors (`orchestrator_peer.py`). MLflow is on for ours; the peer
runs without it, and with its MLflowLoggerCallback too where `--mlflow-peer` asks for it. `orchestrator_scale.py` does
ten thousand trials.

    PYTHONPATH=. nice python tests/benchmarks/orchestrator.py trials
    PYTHONPATH=. nice python tests/benchmarks/orchestrator.py restart
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CONCURRENT = 2
SPEC = """
name: noop
trainer: noop_trainer:train
base: {{epochs: {epochs}, sleep_s: {sleep_s}, checkpoints: {checkpoints}, log: {log}}}
search_space:
  scale: {{low: 0.5, high: 10.0, log: true}}
  offset: {{low: 0.0, high: 1.0}}
objective: {{metric: val/pa_mpjpe_mm, mode: min}}
trials: {trials}
controls: []
scheduler: {{name: asha, grace_epochs: 1, eta: 3}}
resources: {{concurrent: {concurrent}}}
"""


@dataclass(frozen=True)
class Workload:
    """Trials to be run. `sleep_s`: what a report takes."""

    trials: int
    epochs: int
    sleep_s: float = 0.0
    checkpoints: bool = False


@dataclass(frozen=True)
class Timing:
    """Seconds from the command to its end and to the first report, and (trial, step) of each report made."""

    wall_s: float
    first_s: float
    reports: list[tuple[str, int]]


def start_ours(folder: Path, work: Workload, *, again: bool = False) -> "subprocess.Popen[str]":
    spec = folder / "spec.yaml"
    if not again:
        fields = vars(work) | {"log": json.dumps(str(folder / "log")), "concurrent": CONCURRENT}
        spec.write_text(SPEC.format(**fields | {"checkpoints": json.dumps(work.checkpoints)}))
    return _popen(
        [str(Path(sys.executable).parent / "sweeper"), "run", str(spec), "--home", str(folder / "home")], folder
    )


def start_peer(folder: Path, work: Workload, *, again: bool = False, mlflow: bool = False) -> "subprocess.Popen[str]":
    uri = f"sqlite:///{folder}/mlflow.db" if mlflow else None
    job = vars(work) | {"folder": str(folder), "concurrent": CONCURRENT, "log": str(folder / "log"), "mlflow": uri}
    return _popen([sys.executable, str(HERE / "orchestrator_peer.py"), json.dumps(job | {"restore": again})], folder)


def _popen(command: list[str], folder: Path) -> "subprocess.Popen[str]":
    path = os.pathsep.join((str(HERE), str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")))
    with open(folder / "output", "a") as output:
        return subprocess.Popen(command, stdout=output, stderr=output, text=True, env=os.environ | {"PYTHONPATH": path})


def timed(start: Any, work: Workload) -> Timing:
    """Run a workload to its end in a folder of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder, began_s = Path(name), time.time()
        process = start(folder, work)
        code = process.wait()
        wall_s = time.time() - began_s
        lines = read_log(folder)
        if code != 0 or len({trial for trial, _, _ in lines}) != work.trials:
            raise SystemExit(f"exit code {code}, {len(lines)} reports:\n{(folder / 'output').read_text()[-3000:]}")
        return Timing(wall_s, lines[0][2] - began_s, [(trial, step) for trial, step, _ in lines])


def read_log(folder: Path) -> list[tuple[str, int, float]]:
    """(trial, step, time) of each report made so far."""
    if not (folder / "log").exists():
        return []
    rows = [line.split() for line in (folder / "log").read_text().splitlines()]
    return [(trial, int(step), float(at)) for trial, step, at in rows]


def compare_trials(name: str, work: Workload, repeats: int, with_mlflow: bool) -> None:
    """Both in turn, the ratio of their wall times."""
    peers = {"bare Ray Tune": start_peer}
    if with_mlflow:
        peers["Ray Tune with MLflowLoggerCallback"] = lambda folder, work: start_peer(folder, work, mlflow=True)
    pairs = [[timed(start, work) for start in (start_ours, *peers.values())] for _ in range(repeats)]
    for place, peer in enumerate(peers, start=1):
        ratios = [pair[0].wall_s / pair[place].wall_s for pair in pairs]
        ratio = statistics.median(ratios)
        ours, its = (statistics.median(pair[i].wall_s for pair in pairs) for i in (0, place))
        first, its_first = (statistics.median(pair[i].first_s for pair in pairs) for i in (0, place))
        reports, its_reports = (statistics.median(len(pair[i].reports) for pair in pairs) for i in (0, place))
        print(
            f"{name}: {ours:.1f} s ({reports:.0f} reports, the first after {first:.1f} s), {peer} {its:.1f} s "
            f"({its_reports:.0f}, {its_first:.1f} s); ratio {ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f}, "
            f"{len(ratios)} pairs; target 1.2: {'met' if ratio <= 1.2 else 'MISSED'}), load {os.getloadavg()[0]:.1f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("trials", "restart"))
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--mlflow-peer", action="store_true")
    args = parser.parse_args()
    compare_trials(f"{args.trials} trials of 1 report", Workload(args.trials, 1), args.repeats, args.mlflow_peer)


if __name__ == "__main__":
    main()
