"""The training function a spec names, `package.module:function`, and the config model it takes."""

import inspect
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from traceback import extract_tb
from typing import Any, Final, get_args

from pydantic import BaseModel

from mano_trainers.config import TrainConfig
from sweeper.entrypoint.config_model import config_model
from sweeper.entrypoint.place import defined_at, written
from sweeper.errors import UserError
from sweeper.redaction import plain

DEFAULT_TRAINER: Final = "mano_trainers.loop:train"
SPEC_FOLDER: Final = "SWEEPER_SPEC_FOLDER"
"""The variable that holds the folder of the sweep file."""
LONGEST_SAID: Final = 500
EARLIER_DEFAULT: Final = "trainers.loop:train"
"""What the default trainer was called before its package was renamed; studies recorded it."""


@cache
def config_class(trainer: str) -> type[BaseModel] | None:
    """The pydantic model of what a trainer's first parameter takes (`config_model`). None: it takes a dict of any keys.

    The default trainer is answered without importing it, because it imports torch.

    Raises:
        UserError: as `load_trainer`.
    """
    if current_name(trainer) == DEFAULT_TRAINER:
        return TrainConfig
    with _settings_kept():
        function = load_trainer(trainer)
    if not inspect.signature(function).parameters:
        raise UserError(f"trainer `{trainer}` takes no parameter", help="its first parameter is the config")
    return config_model(function)


@contextmanager
def _settings_kept() -> Iterator[None]:
    """What a module sets on import, such as warnings as errors, is meant for its training: this process, which samples
    and stores, keeps Python's and NumPy's own settings."""
    with warnings.catch_warnings():
        yield
    if numpy := sys.modules.get("numpy"):
        numpy.seterr(divide="warn", over="warn", under="ignore", invalid="warn")


def current_name(trainer: str) -> str:
    """The trainer under its current name: a study may have recorded the default one under its earlier name, which still
    refers to it, unless the user has such a module."""
    if trainer != EARLIER_DEFAULT or _finds("trainers.loop"):
        return trainer
    return DEFAULT_TRAINER


def _finds(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def offered_controls(model: type[BaseModel] | None) -> tuple[str, ...]:
    """The controls a trainer offers: the texts in the annotation of its config's field `control`, a `Literal`."""
    if model is None or "control" not in model.model_fields:
        return ()
    union = get_args(model.model_fields["control"].annotation)
    return tuple(name for part in union for name in (part, *get_args(part)) if isinstance(name, str))


def remember_spec_folder(folder: Path) -> None:
    """Let a trainer beside its sweep file be found from any folder, also by the processes that are started."""
    os.environ[SPEC_FOLDER] = str(folder.resolve())


def _not_imported(module: str, error: BaseException) -> UserError:
    said = plain(str(error), LONGEST_SAID)
    what = f"cannot import trainer module `{module}`: {type(error).__name__}: {said}"
    if isinstance(error, SystemExit):
        help = "its module must not exit or parse arguments on import: put that under `if __name__ == '__main__':`"
        return UserError(what, help=help)
    if not isinstance(error, ModuleNotFoundError) and (frame := extract_tb(error.__traceback__)[-1:]):
        return UserError(what, f"{frame[0].filename}:{frame[0].lineno}", "its module must import without errors")
    if module.endswith(".py"):
        return UserError(what, help=f"name the module without `.py`: `{module.removesuffix('.py')}:...`")
    return UserError(what, help="is it installed, or is its folder on PYTHONPATH?")


def load_trainer(trainer: str) -> Callable[..., Any]:
    """Import the training function. The working folder and that of the sweep file are importable, after everything that
    is installed. What the module prints goes to stderr, and it sees no arguments: those are the sweeper's.

    Raises:
        UserError: the module cannot be imported, or does not contain this function.
    """
    module_name, function_name = current_name(trainer).split(":")
    if module_name.partition(".")[0] in sys.stdlib_module_names:
        raise UserError(f"`{trainer}` is part of Python's standard library and trains nothing", help="name your own")
    for folder in filter(None, (str(Path.cwd()), os.environ.get(SPEC_FOLDER))):
        if folder not in sys.path and not (folder == str(Path.cwd()) and "" in sys.path):
            sys.path.append(folder)
    arguments, sys.argv = sys.argv, [module_name]
    working_folder = Path.cwd()
    try:
        with redirect_stdout(sys.stderr):
            module = import_module(module_name)
    except BaseException as error:  # a user's module may raise anything, and call `sys.exit`
        if isinstance(error, KeyboardInterrupt):
            raise
        raise _not_imported(module_name, error) from error
    finally:
        sys.argv = arguments
        os.chdir(working_folder)
    function = getattr(module, function_name, None)
    if not callable(function):
        functions = [name for name, value in vars(module).items() if inspect.isfunction(value)]
        close = get_close_matches(function_name, functions, n=1)
        raise UserError(
            f"module `{module_name}` has no function `{function_name}`",
            help=f"did you mean `{module_name}:{close[0]}`?" if close else None,
        )
    inner = written(function)
    if inspect.iscoroutinefunction(inner) or inspect.isasyncgenfunction(inner):
        help = "write a plain `def` that calls `asyncio.run(...)` and reports with `sweeper.report`"
        raise UserError(
            f"trainer `{trainer}` ({defined_at(function)}) is an `async def`, which nothing awaits", help=help
        )
    return function  # type: ignore[no-any-return]  # a function of the user
