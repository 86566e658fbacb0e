"""Rotations as axis-angle, unit quaternion (w, x, y, z), matrix and 6 values, with gradients finite everywhere."""

import torch
import torch.nn.functional as F
from torch import Tensor


def _safe_norm(x: Tensor) -> Tensor:
    """Euclidean norm over the last axis, kept as size 1, whose gradient at the zero vector is zero instead of NaN."""
    squared = (x * x).sum(-1, keepdim=True)
    positive = squared > 0
    return torch.where(positive, torch.where(positive, squared, 1.0).sqrt(), 0.0)


def quaternion_from_axis_angle(axis_angle: Tensor) -> Tensor:
    """Unit quaternion of a rotation vector.

    Args:
        axis_angle: (..., 3) rad.

    Returns:
        (..., 4), scalar part first.
    """
    half = 0.5 * _safe_norm(axis_angle)
    return torch.cat((half.cos(), 0.5 * axis_angle * torch.sinc(half / torch.pi)), dim=-1)


def quaternion_multiply(first: Tensor, second: Tensor) -> Tensor:
    """Hamilton product (..., 4) of two quaternions (..., 4): the rotation `second`, then `first`."""
    w, v = first[..., :1], first[..., 1:]
    u, s = second[..., :1], second[..., 1:]
    return torch.cat((w * u - (v * s).sum(-1, keepdim=True), w * s + u * v + torch.linalg.cross(v, s)), dim=-1)


def axis_angle_from_quaternion(quaternion: Tensor) -> Tensor:
    """Rotation vector (..., 3) in rad, of length at most pi, of a unit quaternion (..., 4)."""
    quaternion = torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)
    sine = _safe_norm(quaternion[..., 1:])
    angle = 2.0 * torch.atan2(sine, quaternion[..., :1])
    return quaternion[..., 1:] * torch.where(sine > 0, angle / torch.where(sine > 0, sine, 1.0), 2.0)


def matrix_from_axis_angle(axis_angle: Tensor) -> Tensor:
    """Rotation matrix (..., 3, 3) of a rotation vector (..., 3) in rad."""
    return matrix_from_quaternion(quaternion_from_axis_angle(axis_angle))


def matrix_from_quaternion(quaternion: Tensor) -> Tensor:
    """Rotation matrix (..., 3, 3) of a unit quaternion (..., 4)."""
    w, x, y, z = quaternion.unbind(-1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def geodesic_angle(first: Tensor, second: Tensor) -> Tensor:
    """Angle of the rotation that takes one orientation to the other.

    The angle of the relative quaternion is read with atan2 of its vector and scalar parts: acos of the trace has an
    infinite slope at 0 and at pi, this has a finite one everywhere.

    Args:
        first: (..., 3) axis-angle, rad.
        second: (..., 3) axis-angle, rad.

    Returns:
        (...) angles in [0, pi], rad.
    """
    p, q = quaternion_from_axis_angle(first), quaternion_from_axis_angle(second)
    w, v = p[..., :1], p[..., 1:]
    u, s = q[..., :1], q[..., 1:]
    scalar = w * u + (v * s).sum(-1, keepdim=True)
    vector = w * s - u * v - torch.linalg.cross(v, s)
    return 2.0 * torch.atan2(_safe_norm(vector), scalar.abs()).squeeze(-1)


def matrix_from_six(six: Tensor) -> Tensor:
    """Rotation matrix (..., 3, 3) of 6 values (..., 6), continuous where axis-angle jumps.

    The values are the first two columns, not yet orthonormal; Gram-Schmidt makes them so. Zhou et al., "On the
    Continuity of Rotation Representations in Neural Networks", 2019. Zero columns give no rotation, but no NaN either.
    """
    x = F.normalize(six[..., :3], dim=-1, eps=1e-6)
    y = F.normalize(six[..., 3:] - (x * six[..., 3:]).sum(-1, keepdim=True) * x, dim=-1, eps=1e-6)
    return torch.stack((x, y, torch.linalg.cross(x, y)), dim=-1)


def six_from_matrix(matrix: Tensor) -> Tensor:
    """The 6 values (..., 6) of a rotation matrix (..., 3, 3): its first two columns."""
    return torch.cat((matrix[..., 0], matrix[..., 1]), dim=-1)


def axis_angle_from_matrix(matrix: Tensor) -> Tensor:
    """Rotation vector (..., 3) in rad, of length at most pi, of a rotation matrix (..., 3, 3).

    By the quaternion, of whose four closed forms the one with the largest divisor is taken (Shepperd, "Quaternion from
    rotation matrix", 1978): it is never below 1, at half a turn neither.
    """
    m = [row.unbind(-1) for row in matrix.unbind(-2)]
    squares = torch.stack(
        (
            1 + m[0][0] + m[1][1] + m[2][2],
            1 + m[0][0] - m[1][1] - m[2][2],
            1 - m[0][0] + m[1][1] - m[2][2],
            1 - m[0][0] - m[1][1] + m[2][2],
        ),
        dim=-1,
    )
    wx, wy, wz = m[2][1] - m[1][2], m[0][2] - m[2][0], m[1][0] - m[0][1]
    xy, xz, yz = m[1][0] + m[0][1], m[0][2] + m[2][0], m[2][1] + m[1][2]
    w, x, y, z = squares.unbind(-1)
    forms = torch.stack(
        [torch.stack(f, -1) for f in ((w, wx, wy, wz), (wx, x, xy, xz), (wy, xy, y, yz), (wz, xz, yz, z))], -2
    )
    best = squares.argmax(-1, keepdim=True)
    form = forms.gather(-2, best.unsqueeze(-1).expand(*best.shape, 4)).squeeze(-2)
    return axis_angle_from_quaternion(0.5 * form / squares.gather(-1, best).sqrt())


def matrix_angle(first: Tensor, second: Tensor) -> Tensor:
    """Angle (...) in [0, pi] rad between two rotation matrices (..., 3, 3); atan2 for `geodesic_angle`'s reason."""
    relative = first.mT @ second
    vector = torch.stack(
        (
            relative[..., 2, 1] - relative[..., 1, 2],
            relative[..., 0, 2] - relative[..., 2, 0],
            relative[..., 1, 0] - relative[..., 0, 1],
        ),
        dim=-1,
    )
    trace = relative.diagonal(dim1=-2, dim2=-1).sum(-1)
    return torch.atan2(_safe_norm(vector).squeeze(-1), trace - 1)
