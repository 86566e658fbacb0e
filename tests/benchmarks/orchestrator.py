"""What the orchestrator itself costs, on trials that do nothing, against bare Ray Tune in the same run.

    trials   many trials of one report: wall time of the whole command, and the time from it to the first report
    reports  the same of a few trials of many reports
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
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CONCURRENT = 2
ORPHANS_END_S = 10.0
"""Ray's own processes need a while to see that their driver is gone."""
WATCHED = 100
"""Reports after a restart in which those that are made again are counted."""
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
scheduler: {{name: {scheduler}, grace_epochs: 1, eta: 3}}
resources: {{concurrent: {concurrent}}}
"""


@dataclass(frozen=True)
class Workload:
    """Trials to be run. `sleep_s`: what a report takes; `prune`: by ASHA, which depends on who reports first, so that
    both do the same work only without it."""

    trials: int
    epochs: int
    sleep_s: float = 0.0
    checkpoints: bool = False
    prune: bool = True


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
        fields["scheduler"] = "asha" if work.prune else "none"
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


@dataclass(frozen=True)
class Restart:
    """What followed a kill -9: seconds from the restart to the first new report, and how often a trial's evaluations
    were made again, all together and the most of one trial."""

    first_new_s: float
    redone: int
    most_of_a_trial: int


def killed_and_restarted(start: Any, work: Workload, kill_after: int) -> Restart:
    """Kill the driver when so many reports are made, restart it, and watch until a new report comes."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:  # workers of the killed driver still write
        folder = Path(name)
        process = start(folder, work)
        while len(read_log(folder)) < kill_after:
            if process.poll() is not None:
                raise SystemExit(f"it ended before it could be killed:\n{(folder / 'output').read_text()[-3000:]}")
            time.sleep(0.05)
        process.kill()
        process.wait()
        time.sleep(ORPHANS_END_S)
        before = {(trial, step) for trial, step, _ in read_log(folder)}
        made, began_s = len(read_log(folder)), time.time()
        process = start(folder, work, again=True)
        while len(after := read_log(folder)[made:]) < WATCHED and process.poll() is None:
            time.sleep(0.05)
        process.kill()
        process.wait()
        fresh = [at for trial, step, at in after if (trial, step) not in before]
        if not fresh:
            raise SystemExit(f"no new report after the restart:\n{(folder / 'output').read_text()[-3000:]}")
        redone = Counter(trial for trial, step, _ in after if (trial, step) in before)
        return Restart(fresh[0] - began_s, redone.total(), max(redone.values(), default=0))


def compare_restarts(work: Workload, kill_after: int, repeats: int) -> None:
    pairs = [[killed_and_restarted(s, work, kill_after) for s in (start_ours, start_peer)] for _ in range(repeats)]
    ratios = [its.first_new_s / ours.first_new_s for ours, its in pairs]
    ratio, most = statistics.median(ratios), max(ours.most_of_a_trial for ours, _ in pairs)
    for name, runs in (("ours", [pair[0] for pair in pairs]), ("Tuner.restore", [pair[1] for pair in pairs])):
        print(
            f"{name}: first new report after {statistics.median(run.first_new_s for run in runs):.1f} s; evaluations "
            f"made again {[run.redone for run in runs]}, at most {max(run.most_of_a_trial for run in runs)} of a trial"
        )
    print(
        f"restart after kill -9: ratio {ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f}, {len(ratios)} pairs; "
        f"target 3: {'met' if ratio >= 3 else 'MISSED'}); ours makes at most {most} evaluations of a trial again "
        f"(target 1: {'met' if most <= 1 else 'MISSED'}), load {os.getloadavg()[0]:.1f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("trials", "reports", "restart"))
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--mlflow-peer", action="store_true", help="the peer with its MLflowLoggerCallback too")
    parser.add_argument("--smoke", action="store_true", help="few trials: shows that it runs, and nothing about speed")
    args = parser.parse_args()
    trials, repeats = (3, 1) if args.smoke else (args.trials, args.repeats)
    match args.part:
        case "trials":
            work = Workload(trials, epochs=1)
            compare_trials(f"{trials} trials of 1 report", work, repeats, args.mlflow_peer)
        case "reports":
            work = Workload(4, epochs=5 if args.smoke else 200, prune=False)
            compare_trials(f"4 trials of {work.epochs} reports", work, repeats, args.mlflow_peer)
        case "restart":
            work = Workload(6, epochs=60, sleep_s=0.3, checkpoints=True, prune=False)
            compare_restarts(work, 10 if args.smoke else 70, repeats)


if __name__ == "__main__":
    main()
