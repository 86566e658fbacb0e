"""Whether a driver survives the end of Ray: so many runs of a trainer with 1,500 metrics an evaluation.

A reference of Ray's that is freed while Ray shuts down ends the driver, with exit code 1 and no table; likeliest while
the thread that delivers to MLflow is busy, hence the metrics. Before `executor/ray_session.py` 11 of 30 runs died.

    PYTHONPATH=.:trainers:tests/benchmarks python tests/benchmarks/ray_shutdown.py --runs 30
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

SPEC = """
name: noop
trainer: noop_trainer:train
base: {epochs: 4, more_metrics: 1500}
search_space:
  scale: {low: 0.5, high: 10.0, log: true}
objective: {metric: val/pa_mpjpe_mm, mode: min}
trials: 4
controls: []
scheduler: {name: none}
resources: {concurrent: 2}
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=30)
    args = parser.parse_args()
    dead = 0
    path = os.pathsep.join((str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")))
    environment = os.environ | {"PYTHONPATH": path}
    for number in range(1, args.runs + 1):
        with tempfile.TemporaryDirectory() as folder:
            spec = Path(folder) / "spec.yaml"
            spec.write_text(SPEC)
            command = [sys.executable, "-m", "sweeper", "run", str(spec), "--home", f"{folder}/home"]
            done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        lived = done.returncode == 0 and "best trial: noop-" in done.stdout
        dead += not lived
        print(f"run {number}: exit code {done.returncode}, {'a' if lived else 'NO'} table", flush=True)
        if not lived:
            print(f"{done.stdout}\n{done.stderr}"[-2000:], flush=True)
    print(f"{dead} of {args.runs} runs died; load {os.getloadavg()[0]:.1f}")
    return 1 if dead else 0


if __name__ == "__main__":
    sys.exit(main())
