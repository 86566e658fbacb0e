"""Rotations as axis-angle, unit quaternion (w, x, y, z) and matrix, with gradients that are finite everywhere."""

import torch
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
    w, x, y, z = quaternion_from_axis_angle(axis_angle).unbind(-1)
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
