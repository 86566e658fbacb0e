"""The one seam between sweeper and a trainer: a callable named `package.module:function`.

`train(config, workdir, resume) -> Iterator[EpochReport]`. If the first parameter is annotated with a pydantic model
the plain config is validated into it. A function `prepare(config) -> dict[str, str]` beside it, if there is one, is
called once before any trial (to make data or caches) and returns fingerprints for the record.

Run as `python -m sweeper.seam TRAINER` it prepares: the config on stdin, the fingerprints on stdout as JSON.
"""

import importlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import BaseModel

from sweeper.errors import EXIT_BAD_INPUT, UserError
from trainers.report import EpochReport


def load_function(name: str) -> Callable[..., Any]:
    """The function called `package.module:function`; the working directory is importable.

    Raises:
        UserError: no such module or function.
    """
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    module_name, _, function_name = name.partition(":")
    try:
        return getattr(importlib.import_module(module_name), function_name)  # type: ignore[no-any-return]
    except ModuleNotFoundError as error:
        raise UserError(f"cannot import the trainer `{name}`: {error}", help="is its folder on PYTHONPATH?") from error
    except AttributeError as error:
        raise UserError(f"the module `{module_name}` has no function `{function_name}`") from error


def config_model(function: Callable[..., Any]) -> type[BaseModel] | None:
    """The pydantic model that annotates the trainer's first parameter, or None: it takes the plain mapping."""
    hints = list(get_type_hints(function).values())
    first = hints[0] if hints else None
    return first if isinstance(first, type) and issubclass(first, BaseModel) else None


def start_training(name: str, config: Mapping[str, Any], workdir: Path, resume: Path | None) -> Iterator[EpochReport]:
    """Start the named trainer; the config is validated into its model if it has one."""
    function = load_function(name)
    model = config_model(function)
    reports: Iterator[EpochReport] = function(
        model.model_validate(dict(config)) if model else dict(config), workdir, resume
    )
    return reports


def prepare(name: str, config: Mapping[str, Any]) -> dict[str, str]:
    """Call the `prepare` beside the trainer, if there is one; returns its fingerprints."""
    module_name = name.partition(":")[0]
    load_function(name)
    function = getattr(sys.modules[module_name], "prepare", None)
    if function is None:
        return {}
    model = config_model(function)
    return dict(function(model.model_validate(dict(config)) if model else dict(config)))


if __name__ == "__main__":
    try:
        print(json.dumps(prepare(sys.argv[1], json.load(sys.stdin))))
    except UserError as user_error:
        print(user_error.render(), file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)
