"""From the numbers that a backbone puts out to a hand.

Shapes: B batch; theta has 45 values, 15 joint rotations as axis-angle, mean pose excluded.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mano_trainers.config import ModelConfig
from mano_trainers.hand.layer import HandLayer
from mano_trainers.hand.model import HandModel
from mano_trainers.precision import full
from mano_trainers.rotations import (
    axis_angle_from_matrix,
    matrix_from_axis_angle,
    matrix_from_six,
    six_from_matrix,
)

SHAPE, ORIENT, JOINTS = 10, 6, 63
JOINT_SCALE_M = 0.1
"""Joints lie this far from the wrist: in this unit the network's outputs are about as large as theta is in rad."""


@dataclass(frozen=True)
class Prediction:
    """What a network says about a batch of images.

    Attributes:
        theta: (B, 45) rad.
        betas: (B, 10) shape, where it is predicted.
        orient: (B, 3, 3) rotation of the wrist in the camera's frame, where it is predicted.
        joints_m: (B, 21, 3) metres in the wrist's frame, wrist at the origin, where joints are predicted directly.
    """

    theta: Tensor
    betas: Tensor | None = None
    orient: Tensor | None = None
    joints_m: Tensor | None = None


class Head(nn.Module):
    """Turns outputs (B, `outputs`) into a `Prediction`. Outputs of zero are the mean pose. Has no weights.

    Args:
        config: which head.
        hand: its mean pose and pose components.
    """

    mean_six: Tensor
    components: Tensor
    mean_pose: Tensor
    mean_joints_m: Tensor
    identity_six: Tensor

    def __init__(self, config: ModelConfig, hand: HandModel) -> None:
        super().__init__()
        self.kind = config.head
        pose = {"theta": 45, "rot6d": 90, "pca": config.pca_components, "joints": 45}[config.head]
        joints = JOINTS if config.head == "joints" else 0
        shape = SHAPE if config.predict_shape else 0
        orient = ORIENT if config.predict_orient else 0
        self.sizes = (pose, joints, shape, orient)
        self.outputs = sum(self.sizes)
        mean = torch.from_numpy(hand.hands_mean)
        count = config.pca_components
        constants = {
            "mean_pose": mean,
            "mean_six": six_from_matrix(matrix_from_axis_angle(mean.view(15, 3))),
            "components": torch.from_numpy(hand.hands_std[:count, None] * hand.hands_components[:count]),
            "mean_joints_m": _mean_joints(hand),
            "identity_six": six_from_matrix(torch.eye(3)),
        }
        for name, value in constants.items():
            self.register_buffer(name, value.float(), persistent=False)

    def forward(self, outputs: Tensor) -> Prediction:
        """In float32 or better whatever the autocast: millimetres would be rounded away in bfloat16."""
        with full(outputs.device):
            exact = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
            pose, joints, shape, orient = torch.split(exact, list(self.sizes), dim=1)
            return Prediction(
                theta=self._theta(pose),
                betas=shape if shape.shape[1] else None,
                orient=self._orient(orient) if orient.shape[1] else None,
                joints_m=self._joints(joints) if joints.shape[1] else None,
            )

    def _theta(self, pose: Tensor) -> Tensor:
        match self.kind:
            case "rot6d":
                # The six values are of the whole rotation of a joint, mean pose included; theta excludes it.
                rotations = matrix_from_six(pose.view(-1, 15, 6) + self.mean_six)
                return axis_angle_from_matrix(rotations).flatten(1) - self.mean_pose
            case "pca":
                return pose @ self.components  # in standard deviations of each component
            case _:
                return pose

    def _orient(self, six: Tensor) -> Tensor:
        return matrix_from_six(six + self.identity_six)

    def _joints(self, joints: Tensor) -> Tensor:
        joints_m = self.mean_joints_m + JOINT_SCALE_M * joints.view(-1, 21, 3)
        return joints_m - joints_m[:, :1]


def _mean_joints(hand: HandModel) -> Tensor:
    """Joints (21, 3) of the mean pose and shape in metres, wrist at the origin."""
    joints = HandLayer(hand, torch.float64).joints(torch.zeros(1, 45).double(), torch.zeros(1, 10).double())[0]
    return joints - joints[:1]
