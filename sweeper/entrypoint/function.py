"""A training function that calls `sweeper.report`: `python -m sweeper.entrypoint.function MODULE:NAME`."""

import inspect
import sys
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, get_origin

from mano_trainers.report import EpochReport
from sweeper.entrypoint.config_model import with_model
from sweeper.entrypoint.error_text import described, traced
from sweeper.entrypoint.place import written
from sweeper.entrypoint.reports import shown
from sweeper.entrypoint.resolve import load_trainer
from sweeper.errors import EXIT_BAD_INPUT, UserError
from sweeper.reporting import push


def yields(function: Callable[..., Any]) -> bool:
    """Whether a training function yields its reports. One that does not calls `sweeper.report`."""
    inner = written(function)
    if inspect.isgeneratorfunction(inner):
        return True
    annotation = getattr(inner, "__annotations__", {}).get("return")
    if isinstance(annotation, str):
        return annotation.partition("[")[0].rpartition(".")[2] in ("Iterator", "Iterable", "Generator")
    return (get_origin(annotation) or annotation) in (Iterator, Iterable, Generator)


def as_many(function: Callable[..., Any], *arguments: Any) -> tuple[Any, ...]:
    """The first of the arguments config, folder and checkpoint, as many as the function takes."""
    parameters = inspect.signature(function).parameters.values()
    if any(each.kind is each.VAR_POSITIONAL for each in parameters):
        return arguments
    count = sum(each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD) for each in parameters)
    return arguments[:count]


def main(trainer: str) -> int:
    """Run the function. What it raises or returns is passed to the trial's process, which turns it into a reason."""
    try:
        function = load_trainer(trainer)
        config = with_model(function, push.config())
        returned = function(*as_many(function, config, push.workdir(), push.resume_from()))
        if isinstance(returned, Iterator):
            returned = _report_all(returned)
        if returned is not None:
            push.say({"returned": shown(returned)})
    except UserError as error:
        print(error.render(), file=sys.stderr)
        return EXIT_BAD_INPUT
    except SystemExit:
        raise
    except BaseException as error:  # KeyboardInterrupt too: whatever it raises is the trial's result
        traceback.print_exception(error)
        push.say({"failed": {"text": described(error), "trace": traced(error)}})
        return 1
    return 0


def _report_all(found: Iterator[Any]) -> object:
    """Report what a function returned instead of yielding it; returns the first that is not a report, or None."""
    for report in found:
        if not isinstance(report, EpochReport):
            return report
        push.report(report.epoch, report.metrics, report.checkpoint, step=report.step, total_epochs=report.total_epochs)
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
