"""What the config of a training run refuses on its own."""

import pytest
from pydantic import ValidationError

from mano_trainers.config import TrainConfig


@pytest.mark.parametrize(("every", "an_epoch"), [(1, 1), (0.5, 2), (0.33, 3), (0.1, 10), (0.01, 100)])
def test_an_epoch_has_a_whole_number_of_evaluations(every: float, an_epoch: int) -> None:
    assert TrainConfig(evaluate_every=every).evaluations_an_epoch == an_epoch


@pytest.mark.parametrize("every", [0.3, 0.75, 0.4])
def test_other_shares_of_an_epoch_are_refused(every: float) -> None:
    with pytest.raises(ValidationError, match=f"1 / a whole number .* but got {every:g}"):
        TrainConfig(evaluate_every=every)
