"""Loss terms. Each is a mean over batch and dimensions, so that its weight depends on neither.

Shapes: B batch, J 21 joints, V 778 vertices, 45 = 15 joint rotations of 3 axis-angle values, mean pose excluded.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mano_trainers.config import LossConfig
from mano_trainers.hand.layer import HandLayer, Posed
from mano_trainers.losses.diversity import PoseCodes, entropy_loss, variance_loss
from mano_trainers.losses.procrustes import aligned_loss
from mano_trainers.models.heads import Prediction
from mano_trainers.rotations import geodesic_angle, matrix_angle


@dataclass(frozen=True)
class PosePrior:
    """The hand's pose space, in rad: mean (45,), and `HandModel.pose_basis`.

    Attributes:
        mean: (45,) mean pose.
        components: (45, 45) orthonormal directions as rows, the strongest first.
        sigma: (45,) standard deviation of the pose along each.
    """

    mean: Tensor
    components: Tensor
    sigma: Tensor


@dataclass(frozen=True)
class Target:
    """What a batch is compared with: theta (B, 45) rad, betas (B, 10), joints_m (B, 21, 3) from `wrist_joints`.

    `orient` (B, 3, 3), the rotation of the wrist in the camera's frame, is there if `needs_orient` of the config.
    """

    theta: Tensor
    betas: Tensor
    joints_m: Tensor
    orient: Tensor | None = None

    def part(self, rows: slice) -> "Target":
        """That of some images of the batch."""
        return type(self)(*(None if value is None else value[rows] for value in vars(self).values()))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Criterion:
    """What the terms are computed with.

    Attributes:
        config: weights and forms.
        hand: forward kinematics.
        prior: the hand's pose space.
        codes: poses whose use the entropy term counts; None without that term.
    """

    config: LossConfig
    hand: HandLayer
    prior: PosePrior
    codes: PoseCodes | None = None

    def joint_pair(self, joints_m: Tensor, prediction: Prediction, target: Target) -> tuple[Tensor, Tensor]:
        """Predicted and true joints (B, 21, 3) in the frame of the joint term, both with the wrist at the origin.

        Args:
            joints_m: of the predicted hand, in the wrist's frame.
            prediction: with an orientation or without.
            target: of the same batch.
        """
        if self.config.joint_frame == "wrist":
            return joints_m, target.joints_m
        turned = joints_m if prediction.orient is None else joints_m @ prediction.orient.mT
        return turned, target.joints_m @ _there(target.orient).mT


def wrist_joints(hand: HandLayer, theta: Tensor, betas: Tensor) -> Tensor:
    """Joints (B, 21, 3) in metres in the wrist's frame: no global rotation, the wrist at the origin.

    In this frame the true theta has no error left. In the camera's frame a model that predicts only theta has one it
    can never remove, which then outweighs every other term.
    """
    joints = hand.joints(theta, betas)
    return joints - joints[:, :1]


def wrist_vertices(hand: HandLayer, theta: Tensor, betas: Tensor) -> Tensor:
    """Vertices (B, 778, 3) in metres in the frame of `wrist_joints`."""
    posed = hand.pose(theta, betas)
    return hand.vertices_of(posed) - hand.joints_of(posed)[:, :1]


def param_loss(theta: Tensor, theta_true: Tensor) -> Tensor:
    """Mean squared error of theta (B, 45), in rad^2."""
    return (theta - theta_true).square().mean()


def joint_loss(joints_m: Tensor, joints_true_m: Tensor, form: str) -> Tensor:
    """Error of joints (B, 21, 3) or vertices (B, 778, 3), given in metres.

    `l2_norm_m`: mean distance in m. `mse_m2`: mean squared coordinate in m^2. `l1_mm`: mean absolute coordinate in mm.
    """
    difference = joints_m - joints_true_m
    match form:
        case "l2_norm_m":
            squared = difference.square().sum(-1)
            # The root always has distance zero, where the square root has no slope: the clamp gives it the slope zero.
            return squared.clamp_min(torch.finfo(squared.dtype).tiny).sqrt().mean()
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


def shape_loss(betas: Tensor, betas_true: Tensor) -> Tensor:
    """Mean squared error of the shape (B, 10), in squared standard deviations of each component."""
    return (betas - betas_true).square().mean()


def orient_loss(orient: Tensor, orient_true: Tensor) -> Tensor:
    """Mean geodesic angle between predicted and true rotation (B, 3, 3) of the wrist, in rad."""
    return matrix_angle(orient, orient_true).mean()


def loss_weights(config: LossConfig) -> dict[str, float]:
    """Term -> weight, for the terms that count: a term of weight zero is not computed at all."""
    weights = {
        "param": config.lambda_param,
        "joint": config.lambda_joint,
        "angular": config.lambda_angular,
        "pca": config.lambda_pca,
        "reg": config.lambda_reg,
        "vertex": config.lambda_vertex,
        "procrustes": config.lambda_procrustes,
        "direct": config.lambda_direct,
        "shape": config.lambda_shape,
        "orient": config.lambda_orient,
        "variance": config.lambda_variance,
        "entropy": config.lambda_entropy,
    }
    return {name: weight for name, weight in weights.items() if weight > 0}


def needs_orient(config: LossConfig) -> bool:
    """Whether a term compares something in the camera's frame."""
    return config.joint_frame == "camera" or config.lambda_orient > 0


def loss_terms(criterion: Criterion, prediction: Prediction, target: Target) -> dict[str, Tensor]:
    """The unweighted terms of `loss_weights(criterion.config)`, as scalars.

    Args:
        criterion: what to compute.
        prediction: float32 or better: lower precision would round the millimetres away.
        target: the labels of the same batch.
    """
    config, hand, prior, theta = criterion.config, criterion.hand, criterion.prior, prediction.theta
    # Without a predicted shape the true one is on both sides: theta is not to make up for what it cannot see.
    betas = target.betas if prediction.betas is None else prediction.betas
    weights = loss_weights(config)
    predicted = _PredictedHand(hand, theta, betas)
    terms: dict[str, Tensor] = {}
    for name in weights:
        match name:
            case "param":
                terms[name] = param_loss(theta, target.theta)
            case "joint":
                terms[name] = joint_loss(
                    *criterion.joint_pair(predicted.joints_m(), prediction, target), config.joint_form
                )
            case "angular":
                terms[name] = angular_loss(theta, target.theta, prior.mean)
            case "pca":
                terms[name] = pca_loss(theta, prior, config.pca_components)
            case "reg":
                terms[name] = reg_loss(theta)
            case "vertex":
                with torch.no_grad():
                    verts_true_m = wrist_vertices(hand, target.theta, target.betas)
                verts_m = hand.vertices_of(predicted.posed()) - predicted.joints()[:, :1]
                terms[name] = joint_loss(verts_m, verts_true_m, config.joint_form)
            case "procrustes":
                terms[name] = aligned_loss(predicted.joints_m(), target.joints_m)
            case "direct":
                terms[name] = joint_loss(_there(prediction.joints_m), target.joints_m, config.joint_form)
            case "shape":
                terms[name] = shape_loss(betas, target.betas)
            case "orient":
                terms[name] = orient_loss(_there(prediction.orient), _there(target.orient))
            case "variance":
                terms[name] = variance_loss(theta, target.theta, config.variance_floor)
            case "entropy":
                assert criterion.codes is not None
                terms[name] = entropy_loss(theta, target.theta, criterion.codes)
    return terms


class _PredictedHand:
    """The predicted hand. The terms share one skeleton and its joints, forwards and backwards.

    Each part is computed where a term first needs it: the order of the operations is that in which gradients are added
    up. Not by `functools.cache`, which breaks the graph of `torch.compile`.
    """

    def __init__(self, layer: HandLayer, theta: Tensor, betas: Tensor) -> None:
        self._layer, self._theta, self._betas = layer, theta, betas
        self._posed: Posed | None = None
        self._joints: Tensor | None = None
        self._joints_m: Tensor | None = None

    def posed(self) -> Posed:
        """Its skeleton."""
        if self._posed is None:
            self._posed = self._layer.pose(self._theta, self._betas)
        return self._posed

    def joints(self) -> Tensor:
        """(B, 21, 3) metres, with the layer's origin."""
        if self._joints is None:
            self._joints = self._layer.joints_of(self.posed())
        return self._joints

    def joints_m(self) -> Tensor:
        """(B, 21, 3) metres, wrist at the origin."""
        if self._joints_m is None:
            self._joints_m = self.joints() - self.joints()[:, :1]
        return self._joints_m


def _there(output: Tensor | None) -> Tensor:
    assert output is not None, "TrainConfig refuses a term without the output it needs"
    return output
