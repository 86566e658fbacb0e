"""Rotation maths against scipy, and gradients at the places where formulas usually break."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from mano_trainers import rotations

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
def test_product_and_conversion_back_equal_scipys(a: np.ndarray, b: np.ndarray) -> None:
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


@given(a=vectors)
def test_axis_angle_of_a_matrix_equals_scipys(a: np.ndarray) -> None:
    rotation = Rotation.from_rotvec(a)
    back = rotations.axis_angle_from_matrix(torch.from_numpy(rotation.as_matrix())).numpy()
    assert np.linalg.norm(back) <= np.pi + 1e-9
    assert (rotation.inv() * Rotation.from_rotvec(back)).magnitude() < 1e-7


@given(a=vectors, b=vectors)
def test_matrix_angle_equals_scipys(a: np.ndarray, b: np.ndarray) -> None:
    first, second = Rotation.from_rotvec(a), Rotation.from_rotvec(b)
    angle = rotations.matrix_angle(torch.from_numpy(first.as_matrix()), torch.from_numpy(second.as_matrix())).item()
    assert angle == pytest.approx((first.inv() * second).magnitude(), abs=1e-7)


@given(a=vectors)
def test_six_values_of_a_matrix_give_it_back_whatever_their_lengths(a: np.ndarray) -> None:
    matrix = torch.from_numpy(Rotation.from_rotvec(a).as_matrix())
    six = rotations.six_from_matrix(matrix)
    leaning = torch.cat((3.0 * six[:3], 0.5 * six[3:] + six[:3]))
    for values in (six, leaning):
        np.testing.assert_allclose(rotations.matrix_from_six(values), matrix, atol=1e-9)


@given(
    values=arrays(np.float64, (6,), elements=st.floats(-3, 3)).filter(
        lambda v: np.linalg.norm(np.cross(v[:3], v[3:])) > 1e-2
    )
)
def test_any_six_values_give_a_rotation(values: np.ndarray) -> None:
    matrix = rotations.matrix_from_six(torch.from_numpy(values))
    np.testing.assert_allclose(matrix.mT @ matrix, np.eye(3), atol=1e-9)
    assert torch.linalg.det(matrix).item() == pytest.approx(1.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_through_matrices_are_finite_at_no_turn_and_at_half_a_turn(dtype: torch.dtype) -> None:
    eye = torch.eye(3, dtype=dtype)
    halves = [torch.diag(torch.tensor(signs, dtype=dtype)) for signs in ((1, -1, -1), (-1, 1, -1), (-1, -1, 1))]
    for matrix in (eye, *halves):
        six = rotations.six_from_matrix(matrix).requires_grad_()
        turned = rotations.matrix_from_six(six)
        outputs = (*rotations.axis_angle_from_matrix(turned), rotations.matrix_angle(turned, eye))
        for output in outputs:
            (gradient,) = torch.autograd.grad(output, six, retain_graph=True)
            assert torch.isfinite(gradient).all()
    zero = torch.zeros(6, dtype=dtype, requires_grad=True)
    (gradient,) = torch.autograd.grad(rotations.matrix_from_six(zero).sum(), zero)
    assert torch.isfinite(gradient).all()
