"""Functions that call `sweeper.report`, or should: their reports, how they end, and the errors of those that do not."""

import sys
from pathlib import Path

import pytest

from mano_trainers.report import EpochReport
from sweeper.entrypoint.call import start_training
from sweeper.entrypoint.error_text import FunctionFailed, described, traced
from sweeper.entrypoint.program.script import ScriptFailed
from sweeper.entrypoint.reports import ReportError
from sweeper.entrypoint.resolve import load_trainer
from sweeper.errors import UserError

PUSHER = """
from dataclasses import dataclass
from pathlib import Path
import numpy as np
import sweeper

@dataclass
class Config:
    lr: float = 0.1
    epochs: int = 3

def train(config: Config) -> None:
    start = int((sweeper.resume_from() / "epoch").read_text()) if sweeper.resume_from() else 0
    for epoch in range(start + 1, config.epochs + 1):
        folder = sweeper.workdir() / f"epoch_{epoch}"
        folder.mkdir(parents=True)
        (folder / "epoch").write_text(str(epoch))
        sweeper.report(epoch, {"val/error": np.float32(config.lr / epoch)}, folder, total_epochs=config.epochs)
    (sweeper.workdir() / "end").touch()

def broken(config: dict) -> None:
    sweeper.report(1, {"val/error": 1.0})
    raise ValueError("boom")
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module of training functions that call `sweeper.report`."""
    (tmp_path / "pusher.py").write_text(PUSHER)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    monkeypatch.delitem(sys.modules, "pusher", raising=False)
    return "pusher"


def test_a_function_that_yields_nothing_reports(tmp_path: Path, module: str) -> None:
    workdir = tmp_path / "trial"
    reports = list(start_training(f"{module}:train", {"lr": 0.5}, workdir, None))
    assert reports == [
        EpochReport(
            epoch, float(epoch), {"val/error": pytest.approx(0.5 / epoch)}, workdir / f"checkpoint_{epoch:06d}", 3
        )
        for epoch in (1, 2, 3)
    ]
    assert (workdir / "end").exists()


def test_it_continues_from_its_checkpoint(tmp_path: Path, module: str) -> None:
    list(start_training(f"{module}:train", {"epochs": 2}, tmp_path / "a", None))
    reports = list(start_training(f"{module}:train", {"epochs": 4}, tmp_path / "b", tmp_path / "a" / "epoch_2"))
    assert [report.epoch for report in reports] == [3, 4]


def test_a_stopped_trial_ends_at_its_report(tmp_path: Path, module: str) -> None:
    training = start_training(f"{module}:train", {"epochs": 1000}, tmp_path, None)
    assert next(training).epoch == 1
    training.close()  # type: ignore[attr-defined]  # a generator
    assert not (tmp_path / "end").exists()
    assert not (tmp_path / "epoch_2").exists()


def test_an_exception_ends_the_trial_with_its_text_and_traceback(tmp_path: Path, module: str) -> None:
    training = start_training(f"{module}:broken", {}, tmp_path, None)
    assert next(training).metrics == {"val/error": 1.0}
    with pytest.raises(FunctionFailed, match=r"^ValueError: boom$") as caught:
        next(training)
    assert described(caught.value) == "ValueError: boom"
    assert traced(caught.value).endswith('raise ValueError("boom")\nValueError: boom\n')


FOREIGN = """
import asyncio, sys
import sweeper
from mano_trainers.report import EpochReport

async def later():
    return 1

def train(config):  # the line of the function
    match config["what"]:
        case "number": return 0.93
        case "dict": return {"val/error": 0.5}
        case "list": return [{"val/error": 0.5}]
        case "coroutine": return later()
        case "generator of dicts": return ({"val/error": 0.5} for _ in range(2))
        case "generator": return (EpochReport(e, e, {"val/error": 1 / e}) for e in (1, 2))
        case "nothing": return None
        case "a report and a number":
            sweeper.report(1, {"val/error": 0.5})
            return 0.5
        case "a report and sys.exit":
            sweeper.report(1, {"val/error": 0.5})
            sys.exit(0)
        case "interrupt": raise KeyboardInterrupt
        case "cancelled": raise asyncio.CancelledError("in time")
        case "signal":
            import os
            os.kill(os.getpid(), 40)

def reporting(config):
    sweeper.report(**config)  # the line that reports

async def coroutine(config):
    sweeper.report(1, {"val/error": 0.5})

async def generator(config, workdir, resume):
    yield EpochReport(1, 1, {"val/error": 0.5})
"""


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module by somebody who has not read the guide, in the working folder."""
    (tmp_path / "foreign.py").write_text(FOREIGN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "foreign", raising=False)
    return "foreign"


def line_of(text: str) -> int:
    return next(number for number, line in enumerate(FOREIGN.split("\n"), 1) if text in line)


@pytest.mark.parametrize(
    ("what", "how"),
    [
        ("number", "returned 0.93"),
        ("dict", "returned a dict: {'val/error': 0.5}"),
        ("list", "returned a list: [{'val/error': 0.5}]"),
        ("coroutine", "returned a coroutine: <coroutine object later>"),
        ("generator of dicts", "returned a dict: {'val/error': 0.5}"),
        ("nothing", "ended"),
    ],
)
def test_a_function_that_returns_instead_of_reporting_is_named_with_its_line(
    what: str, how: str, tmp_path: Path, foreign: str
) -> None:
    with pytest.raises(ReportError) as caught:
        list(start_training(f"{foreign}:train", {"what": what}, tmp_path / "w", None))
    place = f"foreign.py:{line_of('# the line of the function')}"
    hint = 'yield EpochReport(step, epoch, {"val/accuracy": 0.9}), or call sweeper.report(epoch, {"val/accuracy": 0.9})'
    assert str(caught.value) == f"{place}: trainer `foreign:train` {how} without a report: {hint}"


def test_a_training_that_was_complete_when_it_was_killed_has_nothing_to_report(tmp_path: Path, foreign: str) -> None:
    (tmp_path / "checkpoint").mkdir()
    for what in ("number", "nothing"):
        assert list(start_training(f"{foreign}:train", {"what": what}, tmp_path / "w", tmp_path / "checkpoint")) == []


@pytest.mark.parametrize(
    ("what", "epochs"), [("generator", [1, 2]), ("a report and a number", [1]), ("a report and sys.exit", [1])]
)
def test_reports_count_whatever_the_function_returns(
    what: str, epochs: list[float], tmp_path: Path, foreign: str
) -> None:
    reports = list(start_training(f"{foreign}:train", {"what": what}, tmp_path / "w", None))
    assert [report.epoch for report in reports] == epochs


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("interrupt", "KeyboardInterrupt at foreign.py:"),
        ("cancelled", "CancelledError: in time"),
        ("signal", "was ended by signal 40"),
    ],
)
def test_an_end_of_any_kind_is_named(what: str, reason: str, tmp_path: Path, foreign: str) -> None:
    with pytest.raises((FunctionFailed, ScriptFailed), match=reason):
        list(start_training(f"{foreign}:train", {"what": what}, tmp_path / "w", None))


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ({"epoch": 1, "metrics": {"val/x": None}}, "metric 'val/x' is None, not a number"),
        ({"epoch": 1, "metrics": {"val/x": "0.5"}}, "metric 'val/x' is '0.5', not a number"),
        ({"epoch": 1, "metrics": {"val/x": [1]}}, r"metric 'val/x' is 'list \[1\]', not a number"),
        ({"epoch": 1, "metrics": 0.5}, "metrics is 0.5, not a dict of name -> number"),
        ({"epoch": "1", "metrics": {}}, "epoch is '1', not a number"),
        ({"epoch": 1, "metrics": {}, "step": -1}, "step is -1; it must be from 0 to 2147483647"),
        ({"epoch": 1, "metrics": {}, "checkpoint": "gone.pt"}, "the checkpoint '.*gone.pt' does not exist"),
    ],
)
def test_a_bad_report_is_refused_with_the_line_that_made_it(
    said: dict[str, object], what: str, tmp_path: Path, foreign: str
) -> None:
    with pytest.raises(ReportError, match=rf"^foreign.py:{line_of('# the line that reports')}: {what}"):
        list(start_training(f"{foreign}:reporting", said, tmp_path / "w", None))


@pytest.mark.parametrize("function", ["coroutine", "generator"])
def test_an_async_function_is_refused_before_any_trial(function: str, foreign: str) -> None:
    with pytest.raises(UserError) as caught:
        load_trainer(f"{foreign}:{function}")
    [problem] = caught.value.problems
    place = f"foreign.py:{line_of(f'async def {function}')}"
    assert problem.what == f"trainer `foreign:{function}` ({place}) is an `async def`, which nothing awaits"
    assert problem.help is not None
    assert "asyncio.run" in problem.help
