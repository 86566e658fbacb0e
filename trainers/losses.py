"""Loss terms on theta. Each is a mean over batch and dimensions, so that its weight depends on neither.

Shapes: B batch, J 21 joints, 45 = 15 joint rotations of 3 axis-angle values, mean pose excluded.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from trainers.config import LossConfig
from trainers.hand.layer import HandLayer
from trainers.rotations import geodesic_angle


@dataclass(frozen=True)
class PosePrior:
    """The hand's pose space: mean (45,), components (45, 45) as rows, and their standard deviations (45,), all rad."""

    mean: Tensor
    components: Tensor
    sigma: Tensor


@dataclass(frozen=True)
class Target:
    """What a batch is compared with: theta (B, 45) rad, betas (B, 10), joints_m (B, 21, 3) from `wrist_joints`."""

    theta: Tensor
    betas: Tensor
    joints_m: Tensor


def wrist_joints(hand: HandLayer, theta: Tensor, betas: Tensor) -> Tensor:
    """Joints (B, 21, 3) in metres in the wrist's frame: no global rotation, the wrist at the origin.

    In this frame the true theta has no error left. In the camera's frame a model that predicts only theta has one it
    can never remove, which then outweighs every other term.
    """
    joints = hand.joints(theta, betas, None)
    return joints - joints[:, :1]


def param_loss(theta: Tensor, theta_true: Tensor) -> Tensor:
    """Mean squared error of theta (B, 45), in rad^2."""
    return (theta - theta_true).square().mean()


def joint_loss(joints_m: Tensor, joints_true_m: Tensor, form: str) -> Tensor:
    """Error of the joints (B, 21, 3), given in metres.

    `l2_norm_m`: mean distance in m. `mse_m2`: mean squared coordinate in m^2. `l1_mm`: mean absolute coordinate in mm.
    """
    difference = joints_m - joints_true_m
    match form:
        case "l2_norm_m":
            squared = difference.square().sum(-1)
            # The root always has distance zero, where the square root has no slope: give it the slope zero.
            positive = squared > 0
            return torch.where(positive, torch.where(positive, squared, 1.0).sqrt(), 0.0).mean()
        case "mse_m2":
            return difference.square().mean()
        case "l1_mm":
            return 1000.0 * difference.abs().mean()
    raise ValueError(f"joint_form must be l2_norm_m, mse_m2 or l1_mm, but got {form!r}")


def angular_loss(theta: Tensor, theta_true: Tensor, mean: Tensor) -> Tensor:
    """Mean geodesic angle between the predicted and true rotation of the 15 joints, in rad.

    Rotations are those of the full pose, `mean + theta`: axis-angle values do not add up to rotations, so the angle
    between the offsets alone would be another one.
    """
    return geodesic_angle((mean + theta).view(-1, 15, 3), (mean + theta_true).view(-1, 15, 3)).mean()


def pca_loss(theta: Tensor, prior: PosePrior, components: int) -> Tensor:
    """Pose prior: mean of z^2 / sigma^2 over batch and leading components, dimensionless; 1 for poses as the prior's.

    z = C theta, because theta excludes the mean pose already. The last components of a pose space have next to no
    variance; they are left out, or they alone would be the term.
    """
    z = theta @ prior.components[:components].T
    return (z / prior.sigma[:components]).square().mean()


def reg_loss(theta: Tensor) -> Tensor:
    """Mean squared theta (B, 45), in rad^2."""
    return theta.square().mean()


def loss_weights(config: LossConfig) -> dict[str, float]:
    """Term -> weight, for the terms that count: a term of weight zero is not computed at all."""
    weights = {
        "param": config.lambda_param,
        "joint": config.lambda_joint,
        "angular": config.lambda_angular,
        "pca": config.lambda_pca,
        "reg": config.lambda_reg,
    }
    return {name: weight for name, weight in weights.items() if weight > 0}


def loss_terms(
    config: LossConfig, hand: HandLayer, prior: PosePrior, theta: Tensor, target: Target
) -> dict[str, Tensor]:
    """The unweighted terms of `loss_weights(config)`, as scalars.

    Args:
        config: weights and forms.
        hand: forward kinematics, for the joint term.
        prior: the hand's pose space.
        theta: (B, 45) prediction, rad, float32 or better: lower precision would round the millimetres away.
        target: the labels of the same batch.
    """
    terms: dict[str, Tensor] = {}
    for name in loss_weights(config):
        match name:
            case "param":
                terms[name] = param_loss(theta, target.theta)
            case "joint":
                # True shape on both sides: theta is not to make up for a shape it cannot see.
                terms[name] = joint_loss(wrist_joints(hand, theta, target.betas), target.joints_m, config.joint_form)
            case "angular":
                terms[name] = angular_loss(theta, target.theta, prior.mean)
            case "pca":
                terms[name] = pca_loss(theta, prior, config.pca_components)
            case "reg":
                terms[name] = reg_loss(theta)
    return terms
