"""One training in a separate process: ``python -m sweeper.entrypoint.rerun JOB``. Imports neither MLflow nor Ray.

JOB is a JSON file: ``{"trainer", "config", "workdir", "resume", "last_step", "until"}``. Each line on stdout is JSON:
first what it is based on, ``{"fingerprints", "numerics", "sources", "reuses_process"}``, then one line for each report.
What the trainer prints goes to stderr.
"""

import json
import os
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np

from mano_trainers.errors import TrainerError
from sweeper.entrypoint.call import numerics, prepare, reuses_process, start_training
from sweeper.entrypoint.source_hashes import code_sums
from sweeper.errors import EXIT_BAD_INPUT, Problem, UserError


def run_job(job_file: Path) -> None:
    """Train as the job says, up to its last step or epoch, and write the lines."""
    job = json.loads(job_file.read_text())
    trainer, config = job["trainer"], job["config"]
    resume = Path(job["resume"]) if job["resume"] else None
    lines = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # a trainer that prints must not spoil the lines
    stands_on: dict[str, Any] = {"fingerprints": prepare(trainer, config), "numerics": numerics(trainer, config)}
    stands_on |= {"sources": code_sums(trainer), "reuses_process": reuses_process(trainer)}
    print(json.dumps(stands_on), file=lines)
    random.seed(0)  # like a sweep's worker
    np.random.seed(0)
    for report in start_training(trainer, config, Path(job["workdir"]), resume):
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
    except TrainerError as error:
        print(Problem(error.what, error.where, error.help).render(), file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)
