"""The one seam between sweeper and a trainer: a callable named `package.module:function`.

`train(config, workdir, resume) -> Iterator[EpochReport]`. If the first parameter is annotated with a pydantic model
the plain config is validated into it. A function `prepare(config) -> dict[str, str]` beside it, if there is one, is
called once before any trial (to make data or caches) and returns fingerprints for the record.

Run as `python -m sweeper.seam TRAINER` it prepares: the config on stdin, the fingerprints on stdout as JSON.
"""

import json
import sys
from collections.abc import Iterator, Mapping
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


if __name__ == "__main__":
    try:
        print(json.dumps(prepare(sys.argv[1], json.load(sys.stdin))))
    except UserError as user_error:
        print(user_error.render(), file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)
    except TrainerError as error:
        print(Problem(error.what, error.where, error.help).render(), file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
