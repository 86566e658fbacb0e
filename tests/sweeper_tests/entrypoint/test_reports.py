"""What a trainer may report, and what is said about what it may not."""

import math
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mano_trainers.report import EpochReport
from sweeper.entrypoint.reports import ReportError, checked, checked_reports

FIRST = EpochReport(4, 2.0, {"val/x": 1.0}, None, 8.0)


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError


class Refusing:
    def __float__(self) -> float:
        raise ZeroDivisionError

    def item(self) -> float:
        raise KeyError


@pytest.mark.parametrize(
    ("number", "value"),
    [
        (1, 1.0),
        (True, 1.0),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3.0),
        (np.array(2.5), 2.5),
        (np.array([2.5]), 2.5),
        (torch.tensor(1.5), 1.5),
        (torch.tensor([1.5], requires_grad=True), 1.5),
        (torch.tensor(2, dtype=torch.bfloat16), 2.0),
        (Decimal("0.25"), 0.25),
        (Fraction(1, 4), 0.25),
        (math.inf, math.inf),
    ],
)
def test_numbers_from_every_library_are_accepted(number: Any, value: float, tmp_path: Path) -> None:
    found = checked(EpochReport(1, 1.0, {"val/x": number}), None, tmp_path).metrics["val/x"]
    assert found == value
    assert type(found) is float


def test_steps_and_epochs_may_be_scalars_too(tmp_path: Path) -> None:
    report = checked(EpochReport(np.int64(100_000), torch.tensor(0.5), {}, None, np.float64(3)), None, tmp_path)  # type: ignore[arg-type]
    assert report == EpochReport(100_000, 0.5, {}, None, 3.0)
    assert [type(value) for value in (report.step, report.epoch)] == [int, float]
    assert checked(EpochReport(3.0, 1, {}), None, tmp_path).step == 3  # type: ignore[arg-type]


def test_a_pair_of_epoch_and_metrics_is_a_report(tmp_path: Path) -> None:
    assert checked((3, {"val/x": 1}), None, tmp_path) == EpochReport(3, 3.0, {"val/x": 1.0})


@pytest.mark.parametrize(
    ("yielded", "what"),
    [
        (None, "expected an EpochReport, but got None; yield EpochReport(step, epoch"),
        ({"val/x": 1.0}, "expected an EpochReport, but got a dict: {'val/x': 1.0}"),
        ((1, 2.0, {}), "expected an EpochReport, but got a tuple"),
        ((0.5, {}), "step is 0.5, not a whole number; `epoch` may be a fraction, `step` counts"),
        (Unprintable(), "expected an EpochReport, but got a Unprintable: an object of Unprintable"),
        (EpochReport(0.5, 1.0, {}), "step is 0.5, not a whole number"),  # type: ignore[arg-type]
        (EpochReport(-1, 1.0, {}), "step is -1; it must be from 0 to 2147483647"),
        (EpochReport(2**63, 1.0, {}), "step is 9223372036854775808; it must be from 0 to 2147483647"),
        (EpochReport(None, 1.0, {}), "step is None, not a whole number"),  # type: ignore[arg-type]
        (EpochReport(True, 1.0, {}), "step is True, not a whole number"),
        (EpochReport(math.nan, 1.0, {}), "step is nan, not a whole number"),  # type: ignore[arg-type]
        (EpochReport("1", 1.0, {}), "step is '1', not a number"),  # type: ignore[arg-type]
        (EpochReport(1, "1", {}), "epoch is '1', not a number"),  # type: ignore[arg-type]
        (EpochReport(1, None, {}), "epoch is None, not a number"),  # type: ignore[arg-type]
        (EpochReport(1, math.nan, {}), "epoch is nan; it must be a number of epochs done, 0 or more"),
        (EpochReport(1, -1.0, {}), "epoch is -1.0; it must be"),
        (EpochReport(1, 1.0, {}, None, 0), "total_epochs is 0.0; it must be more than 0"),
        (EpochReport(1, 1.0, [1.0]), "metrics is a list: [1.0], not a dict of name -> number"),  # type: ignore[arg-type]
        (EpochReport(1, 1.0, None), "metrics is None, not a dict"),  # type: ignore[arg-type]
        (EpochReport(1, 1.0, {"val/x": None}), "metric 'val/x' is None, not a number"),  # type: ignore[dict-item]
        (EpochReport(1, 1.0, {"val/x": "0.5"}), "metric 'val/x' is '0.5', not a number"),  # type: ignore[dict-item]
        (EpochReport(1, 1.0, {"val/x": [1.0]}), "metric 'val/x' is a list: [1.0], not a number"),  # type: ignore[dict-item]
        (EpochReport(1, 1.0, {"val/x": np.ones(2)}), "metric 'val/x' is a ndarray: array([1., 1.]), not a number"),  # type: ignore[dict-item]
        (EpochReport(1, 1.0, {"val/x": torch.ones(2)}), "metric 'val/x' is a Tensor"),  # type: ignore[dict-item]
        (EpochReport(1, 1.0, {"val/x": 1j}), "metric 'val/x' is a complex: 1j, not a number"),  # type: ignore[dict-item]
        (EpochReport(1, 1.0, {"val/x": 10**400}), "metric 'val/x' is too large for a float"),
        (EpochReport(1, 1.0, {"val/x": Refusing()}), "metric 'val/x' is a Refusing: <"),  # type: ignore[dict-item]
        (EpochReport("1", "1", {}), "epoch is '1', not a number"),  # type: ignore[arg-type]
        (EpochReport(1, 1.0, {3: 1.0}), "the name of a metric is 3, not a string"),  # type: ignore[dict-item]
        (EpochReport(1, 1.0, {" ": 1.0}), "the name of a metric is ' ', not a string"),
        (EpochReport(1, 1.0, {"x" * 501: 1.0}), "the name of a metric has 501 characters, at most 500"),
        (EpochReport(1, 1.0, {"a\x00": 1.0, "a\x01": 1.0}), "two metrics have the name 'a\N{REPLACEMENT CHARACTER}'"),
        (EpochReport(1, 1.0, {}, Path("gone.pt")), "the checkpoint 'gone.pt' does not exist; report it after"),
        (EpochReport(1, 1.0, {}, 7), "checkpoint is 7, not the path of a file or folder"),  # type: ignore[arg-type]
        (EpochReport(4, 3.0, {}), "step 4 was reported twice (at epoch 2 and at epoch 3)"),
        (EpochReport(3, 3.0, {}), "step 3 was reported after step 4 (at epoch 2 and at epoch 3)"),
        (EpochReport(5, 1.0, {}), "epoch 1 was reported after epoch 2"),
    ],
)
def test_what_cannot_be_read_is_named(yielded: object, what: str, tmp_path: Path) -> None:
    before = FIRST if isinstance(yielded, EpochReport) and yielded.step in (3, 4, 5) else None
    with pytest.raises(ReportError) as caught:
        checked(yielded, before, tmp_path)
    assert str(caught.value).startswith(what)
    assert len(str(caught.value)) < 400


def inner(metrics: Any) -> Iterator[EpochReport]:
    yield EpochReport(1, 1.0, {"val/x": 1.0})
    yield EpochReport(2, 2.0, metrics)  # the line that is named


def outer(metrics: Any) -> Iterator[EpochReport]:
    yield from inner(metrics)


def test_the_file_and_line_of_the_report_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Path(__file__)
    line = next(number for number, text in enumerate(here.read_text().splitlines(), 1) if "# the line that" in text)
    reports = checked_reports("mine:train", outer({"val/x": None}), tmp_path)
    assert next(reports).step == 1
    monkeypatch.chdir(here.parent)
    with pytest.raises(ReportError, match=rf"^{here.name}:{line}: metric 'val/x' is None, not a number$"):
        next(reports)


@pytest.mark.parametrize("returned", [None, 0.9, {"val/x": 1.0}, FIRST, "done"])
def test_a_trainer_that_returns_is_told_to_yield(returned: object, tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"^trainer `mine:train` returned .*; a trainer yields its reports: yield "):
        next(checked_reports("mine:train", returned, tmp_path))


def test_a_list_of_reports_will_do(tmp_path: Path) -> None:
    assert list(checked_reports("mine:train", [FIRST], tmp_path)) == [FIRST]


def test_total_epochs_need_to_be_reported_only_once(tmp_path: Path) -> None:
    assert checked(EpochReport(5, 3.0, {}), FIRST, tmp_path).total_epochs == 8.0


def test_the_trainer_is_closed_with_its_reports(tmp_path: Path) -> None:
    closed = []

    def training() -> Iterator[EpochReport]:
        try:
            yield FIRST
        finally:
            closed.append(True)

    reports = checked_reports("mine:train", training(), tmp_path)
    next(reports)
    reports.close()
    assert closed == [True]


def test_an_object_is_described_the_same_way_in_every_trial(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"metric 'val/x' is a object: <object object>, not a number$"):
        checked(EpochReport(1, 1.0, {"val/x": object()}), None, tmp_path)  # type: ignore[dict-item]


def returning(value: object) -> Iterator[EpochReport]:
    """Of two minds."""
    if value is not None:
        return value  # type: ignore[return-value]
    yield FIRST


def test_a_generator_that_returns_its_result_is_told_to_yield(tmp_path: Path) -> None:
    with pytest.raises(ReportError) as caught:
        list(checked_reports("mine:train", returning({"val/x": 1.0}), tmp_path, place="mine.py:7"))
    said = "mine.py:7: trainer `mine:train` returned a dict: {'val/x': 1.0} without a report: yield EpochReport("
    assert str(caught.value).startswith(said)
    assert list(checked_reports("mine:train", returning(1), tmp_path, place="mine.py:7", resumed=True)) == []
