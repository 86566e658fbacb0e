"""The Procrustes-aligned joint loss: the error that remains after the best scale, rotation and translation."""

import torch
from torch import Tensor

from mano_trainers.precision import full
from mano_trainers.rotations import matrix_from_quaternion

EPS_M2 = 1e-10
"""Added to the squared size of the prediction (a hand's is about 0.1 m^2), so that a single point has a scale too."""

SQUARINGS = 32
"""Enough where the largest eigenvalues are 1e-8 of their size apart; nearer ones fit equally well."""


def aligned_loss(points_m: Tensor, true_m: Tensor) -> Tensor:
    """Mean squared coordinate, in m^2, of points (B, P, 3) laid on the true ones by the best similarity.

    Scale, rotation and translation are found without gradient. They are where the error is smallest, so its slope
    along them is zero, and the gradient is the full one (envelope theorem): nothing is differentiated through the
    singular value decomposition, whose slope is infinite where singular values meet. Mirroring is not allowed: a hand
    cannot do it. Computed in float32 or better whatever the autocast.
    """
    with full(points_m.device):
        dtype = torch.promote_types(points_m.dtype, torch.float32)
        points, true = points_m.to(dtype), true_m.to(dtype)
        points, true = points - points.mean(1, keepdim=True), true - true.mean(1, keepdim=True)
        # `svd` waits for a GPU to say whether it has converged.
        find = best_similarity if points.device.type == "cpu" else best_similarity_by_squaring
        scale, rotation = find(points.detach(), true)
        return (scale * points @ rotation.mT - true).square().mean()


def best_similarity(points: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    """Scale (B, 1, 1) and rotation (B, 3, 3) that lay centred points (B, P, 3) on centred true ones.

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns", 1991.
    """
    u, singular, vt = torch.linalg.svd(true.mT @ points)
    signs = torch.ones_like(singular)
    signs[:, 2] = torch.linalg.det(u @ vt).sign()  # turns a mirroring into the best rotation
    rotation = (u * signs.unsqueeze(1)) @ vt
    scale = (singular * signs).sum(-1) / (points.square().sum((1, 2)) + EPS_M2)
    return scale.view(-1, 1, 1), rotation


def best_similarity_by_squaring(points: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    """As `best_similarity`, by products of small matrices alone, so that nothing waits for the device.

    The best rotation is the unit quaternion that belongs to the largest eigenvalue of a symmetric 4x4 matrix (Horn,
    "Closed-form solution of absolute orientation using unit quaternions", 1987), which is the trace that the scale is
    made of. Shifted so that no eigenvalue is negative, the matrix becomes the projection onto that quaternion when it
    is squared again and again.
    """
    s = points.double().mT @ true.double()  # (B, 3, 3): coordinate of the prediction, of the truth
    trace = s.diagonal(dim1=1, dim2=2).sum(-1)
    skew = torch.stack((s[:, 1, 2] - s[:, 2, 1], s[:, 2, 0] - s[:, 0, 2], s[:, 0, 1] - s[:, 1, 0]), dim=-1)
    eye = torch.eye(4, dtype=s.dtype, device=s.device)
    lower = s + s.mT - trace.view(-1, 1, 1) * eye[:3, :3]
    top = torch.cat((trace.unsqueeze(-1), skew), dim=-1)  # (B, 4)
    horn = torch.cat((top.unsqueeze(1), torch.cat((skew.unsqueeze(2), lower), dim=2)), dim=1)  # (B, 4, 4)
    size = horn.square().sum((1, 2), keepdim=True).sqrt().clamp_min(torch.finfo(s.dtype).tiny)
    power = horn / size + eye
    for _ in range(SQUARINGS):
        power = power @ power
        power = power / power.diagonal(dim1=1, dim2=2).sum(-1).view(-1, 1, 1)
    column = power.diagonal(dim1=1, dim2=2).argmax(-1).view(-1, 1, 1).expand(-1, 4, 1)
    quaternion = torch.nn.functional.normalize(power.gather(2, column).squeeze(-1), dim=-1)
    value = (quaternion.unsqueeze(1) @ horn @ quaternion.unsqueeze(2)).view(-1, 1, 1)
    scale = value / (points.double().square().sum((1, 2), keepdim=True) + EPS_M2)
    return scale.to(points.dtype), matrix_from_quaternion(quaternion).to(points.dtype)
