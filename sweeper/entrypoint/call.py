"""The one seam between sweeper and a trainer: a callable named `package.module:function`.

`train(config, workdir, resume) -> Iterator[EpochReport]`, of which it may take the first alone, or two. If the first is
annotated with a pydantic model or a dataclass the plain config is validated into it (`config_model`). A function
`prepare(config) -> dict[str, str]` beside it, if there is one, is called once before any trial (to make data or caches)
and returns fingerprints for the record; `numerics(config)`, if there is one, says what else determines the bits of a
result: device, builds, flags.

Run as `python -m sweeper.entrypoint.call TRAINER` it prepares: the config on stdin, the fingerprints on stdout as
JSON; what is printed in the meantime goes to stderr. With `--time DIR` it trains to the second evaluation instead, in
that folder, and says how long it took. With `--preflight` it prepares, and when asked, runs the checks that the
constant `PREFLIGHT = "package.module:function"` beside the trainer names:
`preflight(config, corners) -> Iterator[CheckResult]`.
"""

import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from mano_trainers.errors import TrainerError
from mano_trainers.report import CheckResult, EpochReport
from sweeper.entrypoint.config_model import with_model
from sweeper.entrypoint.error_text import LONGEST_REASON, described
from sweeper.entrypoint.function import as_many, yields
from sweeper.entrypoint.place import defined_at
from sweeper.entrypoint.preflight_messages import Checked, Prepared, own_answers, request_from_json
from sweeper.entrypoint.program.script import run_function
from sweeper.entrypoint.reports import checked_reports
from sweeper.entrypoint.resolve import current_name, load_trainer
from sweeper.entrypoint.trial.checkpoint_copy import as_reported
from sweeper.entrypoint.trial.process import REUSE
from sweeper.entrypoint.versions import versions_as_imported
from sweeper.errors import EXIT_BAD_INPUT, EXIT_INTERRUPTED, Problem, UserError
from sweeper.redaction import plain


def start_training(name: str, config: Mapping[str, Any], workdir: Path, resume: Path | None) -> Iterator[EpochReport]:
    """Start the named trainer; the config is validated into its model if it has one. Its reports are checked: the
    iterator raises a ReportError if one cannot be read."""
    function, resume = load_trainer(name), as_reported(resume)
    if yields(function):
        found = function(*as_many(function, with_model(function, config), workdir, resume))
    else:
        found = run_function(name, config, workdir, resume)
    return checked_reports(name, found, workdir, place=defined_at(function), resumed=resume is not None)


def prepare(name: str, config: Mapping[str, Any]) -> dict[str, str]:
    """Call the `prepare` beside the trainer, if there is one; returns its fingerprints."""
    function = _beside(name, "prepare")
    return {} if function is None else _texts(name, "prepare", function, config)


def numerics(name: str, config: Mapping[str, Any]) -> dict[str, str]:
    """What the function `numerics(config)` beside the trainer says about device and settings, and the versions of what
    the trainer has imported."""
    function = _beside(name, "numerics")
    own = {} if function is None else _texts(name, "numerics", function, config)
    return versions_as_imported() | own


def reuses_process(name: str) -> bool:
    """Whether the trainer lets its trials share a process."""
    return _beside(name, REUSE) is True


def run_bytes(name: str, config: Mapping[str, Any]) -> int | None:
    """What all checkpoints of one run take, by the function `run_bytes(config)` beside the trainer; None without it."""
    function = _beside(name, "run_bytes")
    if function is None:
        return None
    return int(function(with_model(function, config)))


def mean_run_bytes(name: str, configs: Sequence[Mapping[str, Any]]) -> int | None:
    """As `run_bytes`, averaged over configs: variants and corners of a search may be models of different sizes."""
    sizes = [size for config in configs if (size := run_bytes(name, config)) is not None]
    return round(sum(sizes) / len(sizes)) if sizes else None


def preflight(name: str, base: Mapping[str, Any], corners: Sequence[Mapping[str, Any]]) -> Iterator[CheckResult]:
    """The checks of the trainer, one by one; empty if it names none."""
    check = _beside(name, "PREFLIGHT")
    if check is None:
        return
    configs = [with_model(load_trainer(name), each) for each in (base, *corners)]
    yield from load_trainer(check)(configs[0], configs[1:])


def _texts(trainer: str, what: str, function: Callable[..., Any], config: Mapping[str, Any]) -> dict[str, str]:
    """What a function beside the trainer returns: names with a text each.

    Raises:
        UserError: it raised, ended the program, asked for input, or returned something else. A TrainerError passes.
    """
    name = f"`{what}` of trainer `{trainer}`"
    try:
        with _no_input(), redirect_stdout(sys.stderr):
            found = function(with_model(function, config))
    except (TrainerError, UserError, KeyboardInterrupt):
        raise
    except BaseException as error:  # `sys.exit` too
        frames = traceback.extract_tb(error.__traceback__)[-1:]
        where = f"{frames[0].filename}:{frames[0].lineno}" if frames else None
        raise UserError(f"{name} failed: {described(error)}", where) from error
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        help = 'return a dict: {"data": "sha256 of the files"}'
        raise UserError(f"{name} returned a {type(found).__name__}, not a dict of name -> text", help=help)
    return {plain(str(key), LONGEST_REASON): plain(str(value), LONGEST_REASON) for key, value in found.items()}


@contextmanager
def _no_input() -> Iterator[None]:
    """Standard input is the driver's channel to us: a trainer that asks for input gets an end of file."""
    before = sys.stdin
    with open(os.devnull) as nothing:
        sys.stdin = nothing
        try:
            yield
        finally:
            sys.stdin = before


def _beside(trainer: str, attribute: str) -> Any:
    """What the trainer's module has under this name, or None."""
    load_trainer(trainer)
    return getattr(sys.modules[current_name(trainer).partition(":")[0]], attribute, None)


def serve_preflight(name: str, answers: TextIO) -> None:
    """Answer a line of JSON each: fingerprints first; results after the word `check` on stdin.

    So the caller can decide by the fingerprints, in one process, whether the checks need to be run again.
    """
    asked = request_from_json(sys.stdin.readline())
    fingerprints, device = prepare(name, asked.base), numerics(name, asked.base)
    prepared = Prepared(fingerprints, device, mean_run_bytes(name, asked.corners or [asked.base]))
    _answer(prepared, answers)
    if sys.stdin.readline().strip() == "check":
        for result in preflight(name, asked.base, asked.corners):
            _answer(Checked(result), answers)


def _answer(answer: Prepared | Checked, answers: TextIO) -> None:
    try:
        print(answer.to_json(), file=answers, flush=True)
    except BrokenPipeError:
        os._exit(1)  # the caller was interrupted; a flush at exit would fail again


def timed(name: str, config: Mapping[str, Any], workdir: Path) -> dict[str, Any]:
    """Train to the second evaluation (the first one warms up) and time it; a training with only one is timed from its
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


def _asked(arguments: Sequence[str]) -> None:
    answers = own_answers()
    match arguments:
        case [name, "--preflight"]:
            serve_preflight(name, answers)
        case [name, "--time", folder]:
            print(json.dumps(timed(name, json.load(sys.stdin), Path(folder))), file=answers)
        case [name]:
            print(json.dumps(prepare(name, json.load(sys.stdin))), file=answers)


if __name__ == "__main__":
    try:
        _asked(sys.argv[1:])
    except UserError as user_error:
        print(user_error.render(), file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)
    except TrainerError as error:
        print(Problem(error.what, error.where, error.help).render(), file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
