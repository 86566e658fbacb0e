"""A trial ranks by its best so far; tables show what it reported last. The reason says where the two differ."""

from pathlib import Path

import pytest
from studies import make_study, message, report_to_rung, start

from sweeper.ledger.trial import TrialState


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((20.0, 18.0), "rank 2 of 2 at epoch 2: 18.00 is worse than the cutoff 10.00"),
        ((10.001, 10.001), "rank 2 of 2 at epoch 2: 10.001 is worse than the cutoff 10"),
        (
            (18.0, 20.25),
            "rank 2 of 2 at epoch 2: 18.00 is worse than the cutoff 10.00; "
            "ranked by its best so far, not the last value 20.25",
        ),
    ],
)
def test_the_reason_names_the_last_value_where_another_one_was_ranked(
    tmp_path: Path, values: tuple[float, float], said: str
) -> None:
    study = make_study(tmp_path)
    first, second = start(study), start(study)
    assert report_to_rung(study, first, 10.0)
    assert study.on_report(second, message(1, values[0]))
    assert not study.on_report(second, message(2, values[1]))
    record = study.ledger.trial(second)
    assert (record.state, record.reason) == (TrialState.PRUNED, said)
    assert record.value("val/pa_mpjpe_mm") == values[1]
