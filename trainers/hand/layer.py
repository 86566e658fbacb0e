"""The hand layer: pose and shape to joints and vertices, differentiable, equal to smplx and many times cheaper.

A joint is a fixed linear function of the posed vertices, and linear blend skinning is linear in the rest vertices. So
the 21 joints are sum_k G_k (A[j,k] + B[j,k] betas + C[j,k] (R - I)) with tables made once from skinning weights and
regressor, and no vertex is built. Loper et al., "SMPL", 2015, equations 2-4; Romero et al., "MANO", 2017.

Shapes: B batch, K 16 joints of the chain, J 21 joints, V 778 vertices.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from trainers.hand.model import FREIHAND_ORDER, TIP_VERTICES, HandModel


def rotation_matrices(axis_angle: Tensor) -> Tensor:
    """Rodrigues' formula: (..., 3) axis-angle in radians -> (..., 3, 3), with a finite gradient at zero.

    The angle is floored by adding 1e-8 to every component, as smplx does, so that both agree to rounding.
    """
    angle = (axis_angle + 1e-8).norm(dim=-1, keepdim=True)
    axis = axis_angle / angle
    sine, cosine = angle.sin()[..., None], angle.cos()[..., None]
    x, y, z = axis.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).reshape(*axis_angle.shape, 3)
    eye = torch.eye(3, dtype=axis_angle.dtype, device=axis_angle.device)
    rotation: Tensor = eye + sine * cross + (1 - cosine) * (cross @ cross)
    return rotation


class HandLayer(nn.Module):
    """Poses one hand model.

    Args:
        hand: the hand.
        dtype: of the tables; float32 for training, float64 for checks.
        joint_order: of the 21 joints among MANO's 16 and the 5 fingertips.
    """

    rest_joints: Tensor
    rest_joints_shape: Tensor
    mean_pose: Tensor
    joint_weight: Tensor
    joint_rest: Tensor
    joint_shape: Tensor
    joint_pose: Tensor
    template: Tensor
    shapedirs: Tensor
    posedirs: Tensor
    weights: Tensor

    def __init__(
        self, hand: HandModel, dtype: torch.dtype = torch.float32, joint_order: Sequence[int] = FREIHAND_ORDER
    ) -> None:
        super().__init__()
        self.levels = _levels(hand.parents)
        tips = np.eye(len(hand.v_template))[list(TIP_VERTICES)]
        regressor = np.concatenate([hand.J_regressor, tips])[list(joint_order)]  # (J, V)
        spread = regressor[:, None, :] * hand.weights.T[None]  # (J, K, V): share of vertex v, moved by k, in joint j
        self.has_pose_blend = bool(np.any(hand.posedirs))
        tables = {
            "rest_joints": hand.J_regressor @ hand.v_template,  # (K, 3)
            "rest_joints_shape": np.einsum("kv,vcs->kcs", hand.J_regressor, hand.shapedirs),
            "mean_pose": hand.hands_mean,
            "joint_weight": spread.sum(-1),  # (J, K)
            "joint_rest": spread @ hand.v_template,  # (J, K, 3)
            "joint_shape": np.einsum("jkv,vcs->jkcs", spread, hand.shapedirs),
            "template": hand.v_template,
            "shapedirs": hand.shapedirs,
            "weights": hand.weights,
        }
        if self.has_pose_blend:
            tables["joint_pose"] = np.einsum("jkv,vcp->jkcp", spread, hand.posedirs)
            tables["posedirs"] = hand.posedirs
        for name, table in tables.items():
            self.register_buffer(name, torch.as_tensor(table, dtype=dtype), persistent=False)

    def joints(self, theta: Tensor, betas: Tensor, global_orient: Tensor | None = None) -> Tensor:
        """The 21 joints in FreiHAND's order.

        Args:
            theta: (B, 45) finger pose, mean excluded, rad.
            betas: (B, 10) shape.
            global_orient: (B, 3) rotation of the wrist, rad; None for no rotation.

        Returns:
            (B, 21, 3) metres, with smplx's origin (not centred on any joint).
        """
        rotations, offsets, pose_feature = self._chain(theta, betas, global_orient)
        rest = self.joint_rest + torch.einsum("jkcs,bs->bjkc", self.joint_shape, betas)
        if self.has_pose_blend:
            rest = rest + torch.einsum("jkcp,bp->bjkc", self.joint_pose, pose_feature)
        return torch.einsum("bkdc,bjkc->bjd", rotations, rest) + torch.einsum("jk,bkd->bjd", self.joint_weight, offsets)

    def vertices(self, theta: Tensor, betas: Tensor, global_orient: Tensor | None = None) -> Tensor:
        """The 778 vertices; arguments as for `joints`. Returns (B, 778, 3) metres."""
        rotations, offsets, pose_feature = self._chain(theta, betas, global_orient)
        rest = self.template + torch.einsum("vcs,bs->bvc", self.shapedirs, betas)
        if self.has_pose_blend:
            rest = rest + torch.einsum("vcp,bp->bvc", self.posedirs, pose_feature)
        blended = torch.einsum("vk,bkdc->bvdc", self.weights, rotations)
        return torch.einsum("bvdc,bvc->bvd", blended, rest) + torch.einsum("vk,bkd->bvd", self.weights, offsets)

    def chain_joints(self, theta: Tensor, betas: Tensor, global_orient: Tensor | None = None) -> Tensor:
        """The 16 ends of the kinematic chain, (B, 16, 3) metres in MANO's order: what smplx returns as joints."""
        rotations, offsets, _ = self._chain(theta, betas, global_orient)
        rest = self.rest_joints + torch.einsum("kcs,bs->bkc", self.rest_joints_shape, betas)
        return (rotations @ rest.unsqueeze(-1)).squeeze(-1) + offsets

    def _chain(self, theta: Tensor, betas: Tensor, global_orient: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """World rotation (B, K, 3, 3) and offset (B, K, 3) of each joint's frame, rest position taken out: a rest
        point x moved by joint k lands on R_k x + t_k. And the pose feature R - I, (B, 135)."""
        wrist = torch.zeros_like(theta[:, :3]) if global_orient is None else global_orient
        pose = torch.cat([wrist, theta + self.mean_pose], dim=1).reshape(-1, 16, 3)
        local = rotation_matrices(pose)
        rest = self.rest_joints + torch.einsum("kcs,bs->bkc", self.rest_joints_shape, betas)
        rotations, places = {0: local[:, 0]}, {0: rest[:, 0]}
        for joints, parents in self.levels:  # the five fingers at once, knuckles first
            turned = torch.stack([rotations[parent] for parent in parents], dim=1)
            start = torch.stack([places[parent] for parent in parents], dim=1)
            bones = (rest[:, joints] - rest[:, parents]).unsqueeze(-1)
            ends = start + (turned @ bones).squeeze(-1)
            turned = turned @ local[:, joints]
            rotations |= dict(zip(joints, turned.unbind(1), strict=True))
            places |= dict(zip(joints, ends.unbind(1), strict=True))
        world = torch.stack([rotations[joint] for joint in range(len(rotations))], dim=1)
        positions = torch.stack([places[joint] for joint in range(len(places))], dim=1)
        offsets = positions - (world @ rest.unsqueeze(-1)).squeeze(-1)
        eye = torch.eye(3, dtype=theta.dtype, device=theta.device)
        return world, offsets, (local[:, 1:] - eye).flatten(1)


def _levels(parents: tuple[int, ...]) -> list[tuple[list[int], list[int]]]:
    """Joints and their parents, grouped by distance from the wrist."""
    depth = [0]
    for parent in parents[1:]:
        depth.append(depth[parent] + 1)
    groups = [[joint for joint in range(len(parents)) if depth[joint] == level] for level in range(1, max(depth) + 1)]
    return [(joints, [parents[joint] for joint in joints]) for joints in groups]
