"""Tables in terminals of several widths, and how many digits their numbers have."""

import math
import re

import pytest

from sweeper.ledger.trial import Report, TrialRecord, TrialState
from sweeper.views.tables.columns import Column, cut, fitted, lines_of
from sweeper.views.tables.digits import metric_texts, param_texts
from sweeper.views.tables.trial_table import trial_columns

STUDY = "loss_balance_nightly"
NAMES = {f"loss.lambda_{name}": name for name in ("param", "joint", "vertex", "angular", "diversity")}
METRICS = ["val/pa_mpjpe_mm", "val/theta_var_ratio"]


def trials() -> list[TrialRecord]:
    def metrics(number: int) -> dict[str, float]:
        return {METRICS[0]: 9.8 + number, METRICS[1]: 0.5}

    reason = "rank 7 of 8 at epoch 4: 18.2 is worse than the cutoff 15.1"
    return [
        TrialRecord(
            f"{STUDY}-{number:04d}",
            number,
            dict.fromkeys(NAMES, 0.0123456 * (number + 1)),
            TrialState.PRUNED,
            reason,
            reports=(Report(1, 4.0, metrics(number), None, 1),),
        )
        for number in range(3)
    ]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 200])
def test_no_line_is_wider_than_the_terminal_and_every_id_and_number_is_whole(width: int) -> None:
    columns = trial_columns(trials(), NAMES, METRICS)
    kept, gone = fitted(columns, width)
    lines = lines_of(kept)
    assert len(lines) == 4, "a row a trial"
    assert max(map(len, lines)) <= width
    cells = [line.split()[0] for line in lines[1:]]
    assert cells in ([f"{STUDY}-000{n}" for n in range(3)], [f"000{n}" for n in range(3)])
    assert all("9.80" in line or "10.80" in line or "11.80" in line for line in lines[1:]), "the objective stays"
    assert all("PRUNED" in line for line in lines[1:])
    assert len(kept) + len(gone) == len(columns)
    numbers = re.findall(r"\d[\d.]*…", "\n".join(lines))
    assert [number for number in numbers if not number.startswith(("7", "8", "4", "1"))] == [], "only a reason is cut"


def test_the_reason_goes_before_parameters_and_both_stay_where_there_is_room() -> None:
    columns = trial_columns(trials(), NAMES, METRICS)
    assert fitted(columns, None) == (columns, [])
    assert fitted(columns, 200)[1] == []
    assert fitted(columns, 90)[1] == ["reason"]
    assert fitted(columns, 60)[1] == ["angular", "divers…", "epochs", "reason"]
    reasons = fitted(columns, 130)[0][-1].cells
    assert reasons[0] == "rank 7 of 8 at epoch 4:…"


def test_wide_characters_count_twice() -> None:
    [line, *_] = lines_of([Column("名前", ("a",), "left"), Column("n", ("1",))])
    assert line == "名前  n"
    assert lines_of([Column("名前", ("a",), "left"), Column("n", ("1",))])[1] == "a     1"
    assert cut("名前が長い", 5) == "名前…"


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([0.0089, 0.0094, 0.0121], ("0.00890", "0.00940", "0.01210")),
        ([0.912, 0.874, 0.5], ("0.912", "0.874", "0.500")),
        ([12_345.0, 22_000.0, 31_000.0], ("12345", "22000", "31000")),
        ([1e-9, 2e-9], ("1e-09", "2e-09")),
        ([3.0e7, 3.1e7], ("3e+07", "3.1e+07")),
        ([0.5, 0.5], ("0.5000", "0.5000")),
        ([None, math.nan, 2.0], ("-", "nan", "2.000")),
        ([], ()),
    ],
)
def test_decimals_follow_what_values_differ_by(values: list[float | None], texts: tuple[str, ...]) -> None:
    assert metric_texts(values) == texts


def test_millimetres_have_two_decimals_unless_they_differ_by_less() -> None:
    assert metric_texts([9.8, 23.456], 2) == ("9.80", "23.46")
    assert metric_texts([0.0089, 0.0094], 2) == ("0.008900", "0.009400")


def test_a_parameter_has_three_digits_or_as_many_as_tell_values_apart() -> None:
    assert param_texts([0.34567, 0.0012345]) == ("0.346", "0.00123")
    assert param_texts([0.0012341, 0.0012346]) == ("0.001234", "0.001235")
    assert param_texts([True, None, 3, "mlp"]) == ("true", "null", "3", "mlp")
