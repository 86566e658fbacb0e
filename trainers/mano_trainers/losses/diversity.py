"""Loss terms against collapse: they ask a batch of predictions to spread about as much as its labels do.

Shapes: B batch, K poses of the codebook, 45 theta values (rad, mean pose excluded).
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mano_trainers.arrays import Array

EPS_RAD2 = 1e-6


@dataclass(frozen=True)
class PoseCodes:
    """Representative poses (K, 45) in rad, and by how much further (rad^2) a code counts 1/e as much."""

    poses: Tensor
    spread_rad2: float


def pose_codes(codebook: Array, theta: Array, device: torch.device) -> PoseCodes:
    """Codes that share a typical label softly: its second code counts 1/e as much as its nearest.

    The spread is the mean over labels (N, 45) of how much further the second nearest pose of `codebook` (K, 45) is, as
    squared distance. A tenth of it would be as hard as counting, and without slope; ten times as much, uniform.
    """
    squared = np.square(codebook).sum(1) - 2.0 * theta @ codebook.T  # but for |theta|^2, which is the same for all
    nearest = np.partition(squared, 1, axis=1)
    spread = max(float((nearest[:, 1] - nearest[:, 0]).mean()), EPS_RAD2)
    return PoseCodes(torch.from_numpy(codebook).to(device, torch.float32), spread)


def variance_loss(theta: Tensor, theta_true: Tensor, floor: float) -> Tensor:
    """How far the standard deviation over the batch falls short of the least one wanted, as a share of the labels'.

    Zero where the variance of theta (B, 45), summed over its values, is at least `floor` times that of the labels of
    the batch. A hinge on standard deviations, as in Bardes et al., "VICReg", 2022: on variances its slope would vanish
    where predictions have nearly collapsed, which is where it is needed. Dimensionless, at most sqrt(floor).
    """
    variance, wanted = theta.var(0, correction=0).sum(), theta_true.var(0, correction=0).sum()
    shortfall = (floor * wanted + EPS_RAD2).sqrt() - (variance + EPS_RAD2).sqrt()
    return shortfall.clamp_min(0) / (wanted + EPS_RAD2).sqrt()


def entropy_loss(theta: Tensor, theta_true: Tensor, codes: PoseCodes) -> Tensor:
    """How many bits the entropy of the predicted poses falls short of that of the labels of the batch; zero above it.

    The entropy is that of how often each code occurs in the batch, where every pose belongs to the codes by softly
    weighted shares.
    """
    return (_soft_entropy_bits(theta_true, codes) - _soft_entropy_bits(theta, codes)).clamp_min(0)


def _soft_entropy_bits(theta: Tensor, codes: PoseCodes) -> Tensor:
    poses = codes.poses.to(theta.dtype)
    squared = (theta.unsqueeze(1) - poses).square().sum(-1)  # (B, K)
    occurrence = torch.softmax(-squared / codes.spread_rad2, dim=1).mean(0)
    # A share that underflows to zero has no logarithm, and adds nothing.
    return -(occurrence * occurrence.clamp_min(torch.finfo(theta.dtype).tiny).log()).sum() / math.log(2)
