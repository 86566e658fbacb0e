"""Terms against collapse: when they act, what they say, and that they pull predictions apart."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mano_trainers.evaluation.metrics import fit_codebook
from mano_trainers.losses.diversity import PoseCodes, entropy_loss, pose_codes, variance_loss

CPU = torch.device("cpu")


def poses(count: int, seed: int, spread: float = 0.4) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(scale=spread, size=(count, 45)))


@given(ratio=st.floats(0.0, 2.0), floor=st.floats(0.05, 0.95))
def test_hinge_is_open_exactly_below_the_floor(ratio: float, floor: float) -> None:
    true = poses(16, 0)
    predicted = 0.1 + true * math.sqrt(ratio)
    loss = variance_loss(predicted, true, floor).item()
    assert loss == pytest.approx(max(0.0, math.sqrt(floor) - math.sqrt(ratio)), abs=1e-3)


def test_slope_of_the_hinge_does_not_vanish_with_the_spread() -> None:
    true = poses(16, 0)
    slopes = []
    for spread in (1e-1, 1e-2):
        predicted = poses(16, 1, spread).requires_grad_()
        variance_loss(predicted, true, 0.5).backward()
        slopes.append(predicted.grad.norm().item())
    assert slopes[1] == pytest.approx(slopes[0], rel=0.05)


def test_hinge_pulls_collapsed_predictions_apart() -> None:
    true = poses(16, 0)
    predicted = poses(16, 1, 1e-2).requires_grad_()
    for _ in range(300):
        (gradient,) = torch.autograd.grad(variance_loss(predicted, true, 0.3), predicted)
        predicted = (predicted - 0.3 * gradient).requires_grad_()
    ratio = predicted.var(0, correction=0).sum() / true.var(0, correction=0).sum()
    assert ratio.item() == pytest.approx(0.3, abs=0.02)


def test_entropy_of_far_apart_codes_is_in_bits() -> None:
    """Predictions that use one of four far codes lack the two bits that the labels have."""
    codes = PoseCodes(10 * torch.eye(4, 45, dtype=torch.float64), spread_rad2=1.0)
    true = codes.poses.repeat(3, 1)
    assert entropy_loss(codes.poses[:1].expand(12, -1), true, codes).item() == pytest.approx(2.0)
    assert entropy_loss(codes.poses[:2].repeat(6, 1), true, codes).item() == pytest.approx(1.0)
    assert entropy_loss(true, codes.poses[:2].repeat(6, 1), codes).item() == 0.0  # more than wanted costs nothing


@settings(max_examples=15)  # each fits a codebook
@given(seed=st.integers(0, 1000))
def test_spreading_collapsed_predictions_lowers_the_entropy_term(seed: int) -> None:
    train = poses(400, seed).numpy()
    codes = pose_codes(fit_codebook(train), train, CPU)
    true = torch.from_numpy(train[:32]).float()
    losses = [entropy_loss(share * true, true, codes).item() for share in (0.0, 0.5, 1.0)]
    assert losses[0] > losses[1] > losses[2] == 0.0


def test_codes_of_few_labels_still_have_a_slope() -> None:
    train = poses(8, 0).numpy()
    codes = pose_codes(fit_codebook(train), train, CPU)
    assert codes.spread_rad2 > 0
    predicted = (0.01 * poses(8, 1)).float().requires_grad_()
    (gradient,) = torch.autograd.grad(entropy_loss(predicted, torch.from_numpy(train).float(), codes), predicted)
    assert torch.isfinite(gradient).all()
