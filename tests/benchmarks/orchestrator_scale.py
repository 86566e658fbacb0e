"""Ten thousand trials of a script in one process: the time a trial, early and late, and the memory.

All that `sweeper run` does for a trial, but without Ray: it asks the study for a trial, stores its reports in the
fsynced ledger, judges them, and hands them to the tracker, whose thread gives them to MLflow.

    PYTHONPATH=.:tests/benchmarks python tests/benchmarks/orchestrator_scale.py --trials 10000
"""

import argparse
import os
import statistics
import tempfile
import time
from contextlib import closing
from itertools import pairwise
from pathlib import Path

from noop_trainer import NoopConfig, train

from sweeper.ledger.ledger import Ledger
from sweeper.spec.load import parse_spec
from sweeper.study.controller import StudyController
from sweeper.tracking import Tracker, artifact_root, tracking_uri
from sweeper.tracking.callback import MLflowCallback

EPOCHS = 4
SPEC = """
name: scale
trainer: noop_trainer:train
base: {{epochs: {epochs}}}
search_space:
  scale: {{low: 0.5, high: 10.0, log: true}}
  offset: {{low: 0.0, high: 1.0}}
objective: {{metric: val/pa_mpjpe_mm, mode: min}}
sampler: {{name: {sampler}}}
trials: {trials}
controls: []
scheduler: {{name: asha, mode: {mode}, grace_epochs: 1, eta: 3}}
"""
FLAT_WITHIN = 2.0


def run_trial(study: StudyController) -> None:
    """One trial from its proposal to its end, or to a rung at which it waits."""
    upcoming = study.next_trial()
    assert upcoming is not None
    for report in train(NoopConfig(**upcoming.config), upcoming.workdir, upcoming.resume):
        study.tick()
        if not study.on_report(upcoming.record.id, report):
            return
    study.on_end(upcoming.record.id)


def measure(home: Path, trials: int, sampler: str, mode: str, tracked: bool) -> list[tuple[float, float, float]]:
    """(wall seconds, processor seconds of this process, resident MB) after each trial."""
    text = SPEC.format(epochs=EPOCHS, sampler=sampler, trials=trials, mode=mode)
    spec = parse_spec(text, home / "spec.yaml")
    folder = home / "studies" / spec.name
    folder.mkdir(parents=True)
    ledger = Ledger.create(folder, spec.name)
    tracker = Tracker(folder, tracking_uri(home), artifact_root(home), spec.name)
    with closing(tracker):
        tracker.start_study({}, {"spec.yaml": text}, {})
        study = StudyController(spec, ledger, [MLflowCallback(tracker, spec, ledger)] if tracked else [])
        points = [(time.perf_counter(), time.process_time(), resident_mb())]
        for number in range(trials):
            run_trial(study)
            points.append((time.perf_counter(), time.process_time(), resident_mb()))
            if (number + 1) % max(1, trials // 10) == 0:
                print(
                    f"  {number + 1} trials, {points[-1][0] - points[0][0]:.0f} s, {points[-1][2]:.0f} MB", flush=True
                )
        study.close()
    return points


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def report(name: str, points: list[tuple[float, float, float]]) -> bool:
    """Print what the first and the last tenth took a trial; whether it is flat within 2x."""
    count = max(1, (len(points) - 1) // 10)
    walls, cpus = (
        [
            statistics.median(b[i] - a[i] for a, b in pairwise(part)) * 1000
            for part in (points[: count + 1], points[-count - 1 :])
        ]
        for i in (0, 1)
    )
    ratio = walls[1] / walls[0]
    print(
        f"{name}: {len(points) - 1} trials; the first {count} took {walls[0]:.2f} ms each ({cpus[0]:.2f} processor), "
        f"the last {count} {walls[1]:.2f} ms ({cpus[1]:.2f}); ratio {ratio:.2f} "
        f"(target {FLAT_WITHIN:g}: {'met' if ratio <= FLAT_WITHIN else 'MISSED'}); "
        f"{points[0][2]:.0f} MB before, {points[-1][2]:.0f} MB after; load {os.getloadavg()[0]:.1f}",
        flush=True,
    )
    return ratio <= FLAT_WITHIN


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--sampler", default="random")
    parser.add_argument("--mode", default="stop")
    parser.add_argument("--untracked", action="store_true", help="without MLflow, to see what it costs")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        points = measure(Path(folder), args.trials, args.sampler, args.mode, not args.untracked)
    report(f"{args.sampler}, {args.mode}", points)


if __name__ == "__main__":
    main()
