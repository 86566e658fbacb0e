"""What one more evaluation of one trial costs the driver, after ever more of them: 20,000 in one trial.

Everything that happens in the driver's thread is in it: the ledger in a journal file, the rungs, the guards, and what
is handed to the outbox of MLflow, which delivers in a thread of its own (switched off here).

    PYTHONPATH=.:trainers:tests/benchmarks nice python tests/benchmarks/evaluations.py
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from noop_trainer import OBJECTIVE

from mano_trainers.report import EpochReport
from sweeper.ledger.ledger import Ledger
from sweeper.spec.load import load_spec
from sweeper.study.controller import StudyController
from sweeper.tracking.callback import MLflowCallback
from sweeper.tracking.tracker import Tracker

MOST_MS = 10.0
PART = 1000
SPEC = f"""
name: long
trainer: noop_trainer:train
search_space: {{scale: {{low: 0.5, high: 10.0}}}}
objective: {{metric: {OBJECTIVE}, mode: min}}
trials: 1
controls: []
guards: [{{name: range, kind: threshold, metric: {OBJECTIVE}, above: 1e9, for_evaluations: 5}}]
"""


def report_ms(count: int, folder: Path) -> list[float]:
    """Milliseconds of each of so many evaluations."""
    spec_file = folder / "spec.yaml"
    spec_file.write_text(SPEC)
    spec, study_dir = load_spec(spec_file), folder / "studies" / "long"
    study_dir.mkdir(parents=True)
    ledger = Ledger.create(study_dir, "long")
    tracker = Tracker(study_dir, f"sqlite:///{folder}/mlflow.db", folder / "artifacts", "long", paused=True)
    study = StudyController(spec, ledger, [MLflowCallback(tracker, spec, ledger)])
    upcoming = study.next_trial()
    assert upcoming is not None
    times = []
    for step in range(1, count + 1):
        report = EpochReport(step, step / 100, {OBJECTIVE: 5.0 + 1.0 / step, "train/loss": 1.0}, None, count / 50)
        began_s = time.perf_counter()
        study.on_report(upcoming.record.id, report)
        times.append(1000 * (time.perf_counter() - began_s))
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--evaluations", type=int, default=20_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        times = report_ms(args.evaluations, Path(name))
    parts = [statistics.median(times[start : start + PART]) for start in range(0, len(times), PART)]
    print(f"median of each {PART}, ms:", " ".join(f"{part:.2f}" for part in parts))
    print(f"load {os.getloadavg()[0]:.1f}; largest median {max(parts):.2f} ms (target {MOST_MS:g} ms)")
    sys.exit(max(parts) > MOST_MS)


if __name__ == "__main__":
    main()
