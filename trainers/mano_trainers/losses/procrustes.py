"""The Procrustes-aligned joint loss: what is left of the error after the best scale, rotation and translation."""

import torch
from torch import Tensor

from mano_trainers.precision import full

EPS_M2 = 1e-10
"""Added to the squared size of the prediction (a hand's is about 0.1 m^2), so that a single point has a scale too."""


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
        scale, rotation = best_similarity(points.detach(), true)
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
