"""What a trainer reports, checked where it is made: a report that passes can be stored anywhere.

Numbers of NumPy and torch are converted to plain ones. What cannot be read is a `ReportError`, which names the
trainer's file and line, and what was wrong. Imports neither NumPy nor torch.
"""

import math
import os
import re
from collections.abc import Generator, Iterable, Iterator, Mapping
from pathlib import Path
from types import CodeType, GeneratorType
from typing import Any, Final

from mano_trainers.report import EpochReport
from sweeper.entrypoint.trial.checkpoint_copy import kept_checkpoint
from sweeper.redaction import plain
from sweeper.reporting.place import place_text

LARGEST_STEP: Final = 2**31 - 1
"""A database of the ledger keeps steps in 32 bits."""
LONGEST_NAME: Final = 500
ADDRESS: Final = re.compile(r" at 0x[0-9a-f]+")
"""The address in an object's `repr`: it differs between trials, whose reasons should be equal."""
LONGEST_SHOWN: Final = 120
HOW: Final = 'yield EpochReport(step, epoch, {"val/accuracy": 0.9})'
HOW_ELSE: Final = f'{HOW}, or call sweeper.report(epoch, {{"val/accuracy": 0.9}})'


class ReportError(Exception):
    """What a trainer reported cannot be read; the text says where, and what is wrong."""


def checked_reports(
    trainer: str, found: object, workdir: Path, *, place: str | None = None, resumed: bool = False
) -> Generator[EpochReport]:
    """The reports of a training, each checked.

    Args:
        trainer: its name, for messages.
        found: what the training function returned.
        workdir: the trial's folder: checkpoints are kept there.
        place: where the training function is defined, if a user wrote it.
        resumed: whether it resumes from a checkpoint, which may be that of its end.

    Raises:
        ReportError: what the function returned contains no reports, or one of them cannot be read.
    """
    at = f"{place}: " if place else ""
    if isinstance(found, EpochReport | Mapping | str | bytes) or not isinstance(found, Iterable):
        raise ReportError(f"{at}trainer `{trainer}` returned {shown(found)}; a trainer yields its reports: {HOW}")
    reports = iter(found)
    before, returned = None, None
    try:
        while True:
            try:
                yielded = next(reports)
            except StopIteration as end:
                returned = end.value
                break
            try:
                report = checked(yielded, before, workdir)
            except ReportError as error:
                made_at = getattr(yielded, "place", None) or _place(reports) or place or f"trainer `{trainer}`"
                raise ReportError(f"{made_at}: {error}") from None
            before = report
            yield report
    finally:
        if isinstance(reports, Generator):
            reports.close()
    if before is None and place and not resumed:
        raise ReportError(f"{at}{nothing_reported(trainer, None if returned is None else shown(returned))}")


def nothing_reported(trainer: str, returned: str | None) -> str:
    """What to say about a training that ended without a report; `returned`: what its function returned, if anything."""
    how = "ended" if returned is None else f"returned {returned}"
    return f"trainer `{trainer}` {how} without a report: {HOW_ELSE}"


def checked(yielded: object, before: EpochReport | None, workdir: Path) -> EpochReport:
    """One report, with plain numbers, text and an absolute path.

    Args:
        yielded: what the trainer yielded: an EpochReport, or epoch, metrics and, if there is one, a checkpoint.
        before: the report before it in the same attempt.
        workdir: the trial's folder, for relative paths of checkpoints.

    Raises:
        ReportError: it cannot be read.
    """
    match yielded:
        case EpochReport():
            report = yielded
        case (epoch, Mapping() as metrics):
            report = EpochReport(epoch, epoch, metrics)  # type: ignore[arg-type]  # checked below
        case (epoch, Mapping() as metrics, checkpoint):
            report = EpochReport(epoch, epoch, metrics, checkpoint)  # type: ignore[arg-type]
        case _:
            raise ReportError(f"expected an EpochReport, but got {shown(yielded)}; {HOW}")
    epoch = _epoch(report.epoch)  # first: if no step was given, it is the epoch
    step = _step(report.step)
    if before is not None and step <= before.step:
        what = "reported twice" if step == before.step else f"reported after step {before.step}"
        raise ReportError(
            f"step {step} was {what} (at epoch {before.epoch:g} and at epoch {epoch:g}): "
            "count the evaluations, 1, 2, 3, or use the number of training steps done"
        )
    if before is not None and epoch < before.epoch:
        raise ReportError(f"epoch {epoch:g} was reported after epoch {before.epoch:g}: epochs done must not decrease")
    total = _total_epochs(report.total_epochs)
    return EpochReport(
        step=step,
        epoch=epoch,
        metrics=_metrics(report.metrics),
        checkpoint=_checkpoint(report.checkpoint, workdir, step, epoch),
        total_epochs=before.total_epochs if total is None and before else total,  # once given, it stays
    )


def _scalar(value: object) -> object:
    """The Python number in a NumPy or torch scalar, or in an array of one element; anything else as it is."""
    item = getattr(value, "item", None)
    if item is None or isinstance(value, type):
        return value
    try:
        return item()
    except Exception:  # more than one element, or an `item` of the user's own
        return value


def _number(value: object, name: str) -> float:
    number = _scalar(value)
    if isinstance(number, str | bytes | complex | list | tuple | dict) or number is None:
        raise ReportError(f"{name} is {shown(value)}, not a number")
    try:
        return float(number)  # type: ignore[arg-type]  # a Decimal or Fraction is one too
    except OverflowError:
        raise ReportError(f"{name} is too large for a float: {shown(value)}") from None
    except Exception:  # a user's `__float__` may raise anything
        raise ReportError(f"{name} is {shown(value)}, not a number") from None


def _step(value: object) -> int:
    number = _scalar(value)
    if isinstance(number, bool) or number is None:
        raise ReportError(f"step is {shown(value)}, not a whole number")
    as_float = _number(number, "step")
    if not math.isfinite(as_float) or as_float != int(as_float):
        raise ReportError(f"step is {shown(value)}, not a whole number; `epoch` may be a fraction, `step` counts")
    step = number if isinstance(number, int) else int(as_float)
    if not 0 <= step <= LARGEST_STEP:
        raise ReportError(f"step is {step}; it must be from 0 to {LARGEST_STEP}")
    return step


def _epoch(value: object) -> float:
    epoch = _number(value, "epoch")
    if not math.isfinite(epoch) or epoch < 0:
        raise ReportError(f"epoch is {epoch}; it must be a number of epochs done, 0 or more")
    return epoch


def _total_epochs(value: object) -> float | None:
    if value is None:
        return None
    total = _number(value, "total_epochs")
    if math.isnan(total) or total <= 0:
        raise ReportError(f"total_epochs is {total}; it must be more than 0, or None where it is not known")
    return None if math.isinf(total) else total


def _metrics(metrics: object) -> dict[str, float]:
    if not isinstance(metrics, Mapping):
        raise ReportError(f"metrics is {shown(metrics)}, not a dict of name -> number")
    found: dict[str, float] = {}
    for name, value in metrics.items():
        if not isinstance(name, str) or not name.strip():
            raise ReportError(f"the name of a metric is {shown(name)}, not a string")
        clean = plain(name, LONGEST_NAME + 1)
        if len(name) > LONGEST_NAME:
            raise ReportError(f"the name of a metric has {len(name)} characters, at most {LONGEST_NAME}: {shown(name)}")
        if clean in found:
            raise ReportError(f"two metrics have the name {shown(clean)}")
        found[clean] = _number(value, f"metric {shown(clean)}")
    return found


def _checkpoint(value: object, workdir: Path, step: int, epoch: float) -> Path | None:
    if value is None:
        return None
    if not isinstance(value, str | os.PathLike):
        raise ReportError(f"checkpoint is {shown(value)}, not the path of a file or folder")
    given = Path(os.fsdecode(value)).expanduser()
    name = shown(str(given))
    there = next((path for path in (given.absolute(), workdir.absolute() / given) if path.exists()), None)
    if there is None:
        raise ReportError(f"the checkpoint {name} does not exist; report it after it is written")
    if not there.is_dir() and not there.is_file():
        raise ReportError(f"the checkpoint {name} is neither a file nor a folder")
    if there.is_dir() and not any(there.iterdir()):
        raise ReportError(f"the checkpoint {name} is an empty folder")
    if there.resolve() in workdir.resolve().parents:
        raise ReportError(f"the checkpoint {name} contains the trial's own folder; report the folder that was written")
    try:
        return kept_checkpoint(there, workdir, step, epoch)
    except OSError as error:
        raise ReportError(f"the checkpoint {name} cannot be copied: {plain(str(error), LONGEST_SHOWN)}") from error


def shown(value: object) -> str:
    """A user's value, shortened, with its type if that is not obvious."""
    try:
        text = plain(ADDRESS.sub("", repr(value)), LONGEST_SHOWN)
    except Exception:  # a user's repr may raise anything
        text = f"an object of {type(value).__name__}"
    known = isinstance(value, str | int | float | None | type(Ellipsis))
    return text if known else f"a {type(value).__name__}: {text}"


def _place(reports: Iterator[Any]) -> str | None:
    """File and line where the innermost generator waits, unless that is ours."""
    place: tuple[CodeType, int] | None = None
    inner: object = reports
    while isinstance(inner, GeneratorType) and inner.gi_frame is not None:
        place = inner.gi_code, inner.gi_frame.f_lineno
        inner = inner.gi_yieldfrom
    return None if place is None else place_text(place[0].co_filename, place[1])
