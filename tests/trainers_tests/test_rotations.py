"""Rotation maths against scipy, and gradients at the places where formulas usually break."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from trainers import rotations

vectors = arrays(np.float64, (3,), elements=st.floats(-7, 7, allow_subnormal=False))


@given(a=vectors, b=vectors)
def test_geodesic_angle_equals_scipys(a: np.ndarray, b: np.ndarray) -> None:
    expected = (Rotation.from_rotvec(a).inv() * Rotation.from_rotvec(b)).magnitude()
    assert rotations.geodesic_angle(torch.from_numpy(a), torch.from_numpy(b)).item() == pytest.approx(
        expected, abs=1e-7
    )


@given(a=vectors)
def test_matrix_equals_scipys(a: np.ndarray) -> None:
    expected = Rotation.from_rotvec(a).as_matrix()
    np.testing.assert_allclose(rotations.matrix_from_axis_angle(torch.from_numpy(a)), expected, atol=1e-12)


@given(a=vectors, b=vectors)
def test_product_and_way_back_equal_scipys(a: np.ndarray, b: np.ndarray) -> None:
    product = rotations.quaternion_multiply(
        rotations.quaternion_from_axis_angle(torch.from_numpy(a)),
        rotations.quaternion_from_axis_angle(torch.from_numpy(b)),
    )
    back = Rotation.from_rotvec(rotations.axis_angle_from_quaternion(product).numpy())
    expected = Rotation.from_rotvec(a) * Rotation.from_rotvec(b)
    assert (back.inv() * expected).magnitude() == pytest.approx(0.0, abs=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("angle", [0.0, 1e-30, 1e-8, 1e-3, 1.0, np.pi - 1e-4, np.pi, 2 * np.pi])
@pytest.mark.parametrize("base", [(0.0, 0.0, 0.0), (0.3, -0.2, 0.9)])
def test_geodesic_angle_has_a_finite_gradient(dtype: torch.dtype, angle: float, base: tuple[float, ...]) -> None:
    first = torch.tensor(base, dtype=dtype, requires_grad=True)
    turned = Rotation.from_rotvec(base) * Rotation.from_rotvec([angle, 0, 0])
    second = torch.tensor(turned.as_rotvec() if any(base) else [angle, 0, 0], dtype=dtype)
    rotations.geodesic_angle(first, second).backward()
    assert first.grad is not None
    assert torch.isfinite(first.grad).all()
    assert first.grad.norm() <= 1.001  # the angle cannot change faster than the rotation vector turns


def test_gradient_of_the_angle_points_away_from_the_other_rotation() -> None:
    first = torch.tensor([0.5, 0.0, 0.0], dtype=torch.float64, requires_grad=True)
    rotations.geodesic_angle(first, torch.tensor([0.2, 0.0, 0.0], dtype=torch.float64)).backward()
    torch.testing.assert_close(first.grad, torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64))
