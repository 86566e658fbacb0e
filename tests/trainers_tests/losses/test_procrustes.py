"""The Procrustes-aligned loss: its value against the metric's alignment, its gradient against the full one."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from torch import Tensor

from mano_trainers.evaluation.procrustes import align
from mano_trainers.hand.layer import HandLayer
from mano_trainers.hand.model import load_embedded_hand
from mano_trainers.losses.procrustes import aligned_loss, best_similarity, best_similarity_by_squaring
from mano_trainers.losses.terms import wrist_joints

LAYER = HandLayer(load_embedded_hand(), torch.float64)
seeds = st.integers(0, 10_000)


def a_pair(seed: int, size: int = 3) -> tuple[Tensor, Tensor]:
    """Joints (B, 21, 3) in metres of two different poses."""
    theta = torch.from_numpy(np.random.default_rng(seed).normal(scale=0.4, size=(2, size, 45)))
    first, second = (wrist_joints(LAYER, pose, torch.zeros(size, 10).double()) for pose in theta)
    return first, second


def fully_differentiated_loss(points: Tensor, true: Tensor) -> Tensor:
    """The same loss with the gradient through scale, rotation (SVD) and translation."""
    points, true = points - points.mean(1, keepdim=True), true - true.mean(1, keepdim=True)
    scale, rotation = best_similarity(points, true)
    return (scale * points @ rotation.mT - true).square().mean()


@given(seed=seeds)
def test_gradient_is_the_full_one(seed: int) -> None:
    points, true = a_pair(seed)
    points.requires_grad_()
    (held,) = torch.autograd.grad(aligned_loss(points, true), points)
    (full,) = torch.autograd.grad(fully_differentiated_loss(points, true), points)
    assert (held - full).norm() < 1e-6 * full.norm()


def test_gradient_agrees_with_finite_differences() -> None:
    points, true = a_pair(0, size=1)
    direction = torch.from_numpy(np.random.default_rng(1).normal(size=points.shape))
    points.requires_grad_()
    (gradient,) = torch.autograd.grad(aligned_loss(points, true), points)
    step = 1e-5
    with torch.no_grad():
        ends = [aligned_loss(points + sign * step * direction, true).item() for sign in (1, -1)]
    assert (gradient * direction).sum().item() == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-6)


@given(seed=seeds)
def test_value_is_that_of_the_metrics_alignment_where_it_does_not_mirror(seed: int) -> None:
    points, true = a_pair(seed)
    residual = align(points.numpy(), true.numpy()) - true.numpy()
    loss = aligned_loss(points, true).item()
    assert loss >= np.square(residual).mean() * (1 - 1e-6)
    centred = [x - x.mean(1, keepdim=True) for x in (points, true)]
    if (torch.linalg.det(centred[1].mT @ centred[0]) > 0).all():
        assert loss == pytest.approx(np.square(residual).mean(), rel=1e-5)


@given(seed=seeds, scale=st.floats(0.5, 2.0))
def test_scale_turn_and_shift_cost_nothing(seed: int, scale: float) -> None:
    _, true = a_pair(seed)
    turn = torch.from_numpy(Rotation.random(random_state=seed).as_matrix())
    moved = scale * true @ turn.mT + 0.3
    assert aligned_loss(moved, true).item() < 1e-15


@given(seed=seeds, mirrored=st.booleans(), scale=st.floats(0.01, 100.0))
def test_squaring_gives_the_same_alignment_as_the_singular_values(seed: int, mirrored: bool, scale: float) -> None:
    points, true = (each - each.mean(1, keepdim=True) for each in a_pair(seed))
    points = scale * points * torch.tensor([-1.0 if mirrored else 1.0, 1.0, 1.0])
    ours, expected = best_similarity_by_squaring(points, true), best_similarity(points, true)
    torch.testing.assert_close(ours[0], expected[0], rtol=1e-9, atol=0)
    residuals = [(size * points @ turn.mT - true).square().sum() for size, turn in (ours, expected)]
    torch.testing.assert_close(*residuals, rtol=1e-9, atol=1e-18)
    torch.testing.assert_close(torch.linalg.det(ours[1]), torch.ones(len(points)).double())
    in_float32 = best_similarity_by_squaring(points.float(), true.float())
    assert in_float32[1].dtype == torch.float32
    torch.testing.assert_close(in_float32[0].double(), expected[0], rtol=1e-5, atol=0)


def test_squaring_copes_with_points_that_have_no_unique_rotation() -> None:
    """A point, a line and what fits equally well either way: some rotation, and no NaN."""
    line = torch.linspace(-1, 1, 21).view(1, 21, 1) * torch.tensor([1.0, 2.0, 3.0])
    cross = torch.tensor([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]])[None]
    zeros = torch.zeros(1, 21, 3)
    for points, true in ((zeros, line), (line, zeros), (line, line.flip(-1)), (cross, -cross), (cross, cross)):
        (ours, turn), (expected, best) = best_similarity_by_squaring(points, true), best_similarity(points, true)
        torch.testing.assert_close(turn @ turn.mT, torch.eye(3)[None])
        residuals = [(size * points @ each.mT - true).square().sum() for size, each in ((ours, turn), (expected, best))]
        torch.testing.assert_close(*residuals, rtol=1e-5, atol=1e-10)


def test_a_mirrored_hand_is_wrong() -> None:
    _, true = a_pair(3)
    mirrored = true * torch.tensor([-1.0, 1.0, 1.0])
    assert aligned_loss(mirrored, true).item() > 1e-6
    assert np.abs(align(mirrored.numpy(), true.numpy()) - true.numpy()).max() < 1e-7  # where the metric allows it


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_degenerate_points_have_finite_gradients(dtype: torch.dtype) -> None:
    _, true = (x.to(dtype) for x in a_pair(0))
    line = torch.linspace(0, 0.1, 21, dtype=dtype).view(1, 21, 1).expand(3, 21, 3)
    for start in (torch.zeros_like(true), line, true):
        points = start.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(aligned_loss(points, true), points)
        assert torch.isfinite(gradient).all()


def test_autocast_does_not_lower_the_precision() -> None:
    points, true = (x.float() for x in a_pair(0))
    outside = aligned_loss(points, true)
    with torch.autocast("cpu", torch.bfloat16):
        inside = aligned_loss(points, true)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, outside)
