"""The learning rate of each step."""

import itertools

import pytest

from mano_trainers.config import OptimConfig
from mano_trainers.training.steps import learning_rate


def test_learning_rate_warms_up_and_falls_to_almost_zero() -> None:
    optim = OptimConfig(lr=1.0, warmup_steps=4)
    rates = [learning_rate(optim, step, 100) for step in range(100)]
    assert rates[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert rates[4] == 1.0
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[4:]))
    assert rates[-1] < 1e-3
