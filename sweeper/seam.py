"""The one seam between sweeper and a trainer: a callable named `package.module:function`.

`train(config, workdir, resume) -> Iterator[EpochReport]`. If the first parameter is annotated with a pydantic model
the plain config is validated into it. A function `prepare(config) -> dict[str, str]` beside it, if there is one, is
called once before any trial (to make data or caches) and returns fingerprints for the record.

Run as `python -m sweeper.seam TRAINER` it prepares: the config on stdin, the fingerprints on stdout as JSON. With
`--time DIR` it trains to the second evaluation instead, in that folder, and says how long it took.
"""

import json
import sys
import time
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from sweeper.errors import EXIT_BAD_INPUT, EXIT_INTERRUPTED, Problem, UserError
from sweeper.trainer_ref import first_parameter_model, load_trainer
from trainers.errors import TrainerError
from trainers.report import EpochReport


def start_training(name: str, config: Mapping[str, Any], workdir: Path, resume: Path | None) -> Iterator[EpochReport]:
    """Start the named trainer; the config is validated into its model if it has one."""
    function = load_trainer(name)
    model = first_parameter_model(function)
    reports: Iterator[EpochReport] = function(
        model.model_validate(dict(config)) if model else dict(config), workdir, resume
    )
    return reports


def prepare(name: str, config: Mapping[str, Any]) -> dict[str, str]:
    """Call the `prepare` beside the trainer, if there is one; returns its fingerprints."""
    module_name = name.partition(":")[0]
    load_trainer(name)
    function = getattr(sys.modules[module_name], "prepare", None)
    if function is None:
        return {}
    model = first_parameter_model(function)
    return dict(function(model.model_validate(dict(config)) if model else dict(config)))


def timed(name: str, config: Mapping[str, Any], workdir: Path) -> dict[str, Any]:
    """Train to the second evaluation (the first one warms up) and time it; a training with one is timed from its
    start. Returns its seconds, its share of epochs, and the folder of its checkpoint or None."""
    began_s, before = time.monotonic(), 0.0
    timing: dict[str, Any] = {}
    for report in islice(start_training(name, config, workdir, None), 2):
        now_s = time.monotonic()
        checkpoint = str(report.checkpoint) if report.checkpoint else None
        timing = {"seconds": now_s - began_s, "epochs": report.epoch - before, "checkpoint": checkpoint}
        began_s, before = now_s, report.epoch
    if not timing or timing["epochs"] <= 0:
        raise UserError(f"trainer `{name}` reported no epoch")
    return timing


if __name__ == "__main__":
    try:
        config = json.load(sys.stdin)
        if sys.argv[2:3] == ["--time"]:
            print(json.dumps(timed(sys.argv[1], config, Path(sys.argv[3]))))
        else:
            print(json.dumps(prepare(sys.argv[1], config)))
    except UserError as user_error:
        print(user_error.render(), file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)
    except TrainerError as error:
        print(Problem(error.what, error.where, error.help).render(), file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
