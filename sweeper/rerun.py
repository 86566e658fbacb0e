"""One training in a process of its own: ``python -m sweeper.rerun JOB``. Imports no MLflow and no Ray.

JOB is a JSON file: ``{"trainer", "config", "workdir", "last_step", "until"}``. Each line on stdout is JSON: first
``{"fingerprints": {...}}`` of the data, then one line for each report. What the trainer prints goes to stderr.
"""

import json
import os
import sys
from pathlib import Path

from sweeper.errors import EXIT_BAD_INPUT, UserError
from sweeper.seam import prepare, start_training


def run_job(job_file: Path) -> None:
    """Train as the job says, up to its last step or epoch, and write the lines."""
    job = json.loads(job_file.read_text())
    lines = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # a trainer that prints must not spoil the lines
    print(json.dumps({"fingerprints": prepare(job["trainer"], job["config"])}), file=lines)
    for report in start_training(job["trainer"], job["config"], Path(job["workdir"]), None):
        line = {
            "step": report.step,
            "epoch": report.epoch,
            "metrics": {name: float(value) for name, value in report.metrics.items()},
            "checkpoint": str(report.checkpoint) if report.checkpoint else None,
        }
        print(json.dumps(line), file=lines)
        if report.step >= job["last_step"] or (job["until"] is not None and report.epoch >= job["until"]):
            break


if __name__ == "__main__":
    try:
        run_job(Path(sys.argv[1]))
    except UserError as user_error:
        print(user_error.render(), file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)
