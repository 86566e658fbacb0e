from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from smplx_reference import smplx_layer

from mano_trainers.hand.layer import HandLayer, rotation_matrices
from mano_trainers.hand.model import (
    FREIHAND_ORDER,
    TIP_VERTICES,
    HandModel,
    load_embedded_hand,
    load_gestures,
)

EMBEDDED = load_embedded_hand()
# MANO has pose blend shapes where the embedded hand has none: these tables must be right too.
WITH_POSE_BLEND = replace(EMBEDDED, posedirs=np.random.default_rng(0).normal(size=(778, 3, 135)) * 1e-3)


def random_pose(count: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    theta, betas, orient = (torch.randn(count, size, generator=generator, dtype=dtype) for size in (45, 10, 3))
    return (theta * 0.5).requires_grad_(), betas.requires_grad_(), orient.requires_grad_()


def smplx_points(
    hand: HandModel, theta: torch.Tensor, betas: torch.Tensor, orient: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Vertices, and the 21 joints by definition: regressor @ posed vertices, and the tips."""
    layer = smplx_layer(hand, len(theta)).to(theta.dtype)
    vertices = layer(hand_pose=theta, betas=betas, global_orient=orient).vertices
    regressed = torch.einsum("kv,bvc->bkc", torch.as_tensor(hand.J_regressor, dtype=theta.dtype), vertices)
    return vertices, torch.cat([regressed, vertices[:, list(TIP_VERTICES)]], dim=1)[:, list(FREIHAND_ORDER)]


@pytest.mark.parametrize("hand", [EMBEDDED, WITH_POSE_BLEND], ids=["embedded", "pose blend shapes"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_vertices_joints_and_gradients_equal_smplx(hand: HandModel, dtype: torch.dtype) -> None:
    pose = random_pose(6, dtype)
    layer = HandLayer(hand, dtype)
    vertices, joints = layer.vertices(*pose), layer.joints(*pose)
    expected_vertices, expected_joints = smplx_points(hand, *pose)
    torch.testing.assert_close(vertices, expected_vertices, atol=1e-6, rtol=0)
    torch.testing.assert_close(joints, expected_joints, atol=1e-6, rtol=0)

    for points, expected in ((joints, expected_joints), (vertices, expected_vertices)):
        direction = torch.randn(expected.shape[1:], generator=torch.Generator().manual_seed(1), dtype=dtype)
        ours = torch.autograd.grad((points * direction).sum(), pose, retain_graph=True)
        theirs = torch.autograd.grad((expected * direction).sum(), pose, retain_graph=True)
        for mine, reference in zip(ours, theirs, strict=True):
            largest = float(reference.abs().max())
            assert largest > 0.01
            tolerance = 1e-6 if dtype == torch.float64 else 1e-5  # float32: the rounding of 778 summands
            torch.testing.assert_close(mine, reference, atol=tolerance * largest, rtol=0)


def test_no_rotation_means_a_rotation_of_zero() -> None:
    theta, betas, orient = random_pose(3, torch.float64)
    layer = HandLayer(EMBEDDED, torch.float64)
    torch.testing.assert_close(layer.joints(theta, betas), layer.joints(theta, betas, torch.zeros_like(orient)))


@settings(deadline=None)
@given(st.lists(st.floats(-4, 4), min_size=3, max_size=3))
def test_rotation_matrices_equal_scipy(axis_angle: list[float]) -> None:
    ours = rotation_matrices(torch.tensor([axis_angle], dtype=torch.float64))[0].numpy()
    np.testing.assert_allclose(ours, Rotation.from_rotvec(axis_angle).as_matrix(), atol=1e-6)


def test_the_gradient_at_zero_rotation_is_finite() -> None:
    zero = torch.zeros(1, 3, requires_grad=True)
    rotation_matrices(zero).sum().backward()
    assert zero.grad is not None
    assert torch.isfinite(zero.grad).all()


def test_a_fist_brings_the_fingertips_to_the_palm() -> None:
    layer = HandLayer(EMBEDDED)
    gestures = load_gestures()
    poses = torch.tensor(np.stack([gestures["open"], gestures["fist"]]), dtype=torch.float32)
    joints = layer.joints(poses, torch.zeros(2, 10))
    reach_m = (joints[:, 12] - joints[:, 0]).norm(dim=-1)  # wrist to the tip of the middle finger
    assert reach_m[0] > 0.15
    assert reach_m[1] < 0.11
