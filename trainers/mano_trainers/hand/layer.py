"""The hand layer: pose and shape to joints and vertices, differentiable, equal to smplx and many times cheaper.

A joint is a fixed linear function of the posed vertices, and linear blend skinning is linear in the rest vertices. So
the 21 joints are sum_k G_k (A[j,k] + B[j,k] betas + C[j,k] (R - I)) with tables made once from skinning weights and
regressor, and no vertex is built. Loper et al., "SMPL", 2015, equations 2-4; Romero et al., "MANO", 2017.

Shapes: B batch, K 16 joints of the chain, J 21 joints, V 778 vertices.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mano_trainers.hand.model import FREIHAND_ORDER, PARENTS, TIP_VERTICES, HandModel


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


@dataclass(frozen=True)
class Posed:
    """A posed skeleton, from which joints and vertices follow.

    Attributes:
        transforms: (B, K, 4, 3) of each joint's frame: the transposed rotation, below it the offset. A rest point
            x moved by joint k lands on (x, 1) @ transforms[k].
        blend: (B, 10) shape; where the hand has pose blend shapes (B, 10 + 135), with R - I of the finger joints.
    """

    transforms: Tensor
    blend: Tensor


class _Move(torch.autograd.Function):
    """Rest points (V, 3, B), each moved by its own transform (V, 4, 3, B), as in `Posed`: (V, 3, B).

    The gradient is written out: it passes over these large tensors half as often as one made of single operations.
    """

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *given: Tensor) -> tuple[Tensor, int]:
        """Networks side by side are a larger batch, (..., lanes * B)."""
        lanes = info.batch_size
        folded = [
            (value.unsqueeze(-2).expand(*value.shape[:-1], lanes, -1) if axis is None else value.movedim(axis, -2))
            for value, axis in zip(given, in_dims, strict=True)
        ]
        moved: Tensor = _Move.apply(*(value.flatten(-2) for value in folded))
        return moved.view(*moved.shape[:-1], lanes, -1), 2

    @staticmethod
    def forward(transforms: Tensor, rest: Tensor) -> Tensor:
        moved = transforms[:, 3].clone()
        for axis in range(3):
            moved.addcmul_(transforms[:, axis], rest[:, axis, None])
        return moved

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, Tensor | None]:
        transforms, rest = ctx.saved_tensors
        # With a fourth coordinate of 1 the same pass gives the slope of the offset.
        of_transforms = slope.unsqueeze(1) * F.pad(rest, (0, 0, 0, 1), value=1.0).unsqueeze(2)
        of_rest = (transforms[:, :3] * slope.unsqueeze(1)).sum(2) if ctx.needs_input_grad[1] else None
        return of_transforms, of_rest


class HandLayer(nn.Module):
    """Poses one hand model.

    Args:
        hand: the hand, with MANO's joint tree.
        dtype: of the tables; float32 for training, float64 for checks.
        joint_order: of the 21 joints among MANO's 16 and the 5 fingertips.
        tips: vertices of the fingertips from thumb to pinky.
    """

    rest_joints: Tensor
    rest_joints_shape: Tensor
    mean_pose: Tensor
    joint_rest: Tensor
    joint_blend: Tensor
    template: Tensor
    vertex_blend: Tensor
    weights: Tensor

    def __init__(
        self,
        hand: HandModel,
        dtype: torch.dtype = torch.float32,
        joint_order: Sequence[int] = FREIHAND_ORDER,
        tips: Sequence[int] = TIP_VERTICES,
    ) -> None:
        super().__init__()
        assert hand.parents == (-1, *PARENTS), "the reader of hand files refuses other trees"
        fingertips = np.eye(len(hand.v_template))[list(tips)]
        regressor = np.concatenate([hand.J_regressor, fingertips])[list(joint_order)]  # (J, V)
        spread = regressor[:, None, :] * hand.weights.T[None]  # (J, K, V): share of vertex v, moved by k, in joint j
        self.has_pose_blend = bool(np.any(hand.posedirs))
        blend = np.concatenate([hand.shapedirs, hand.posedirs], axis=2) if self.has_pose_blend else hand.shapedirs
        # A fourth coordinate, 1 for a point, weights the offsets of the transforms.
        joint_rest = np.concatenate([spread @ hand.v_template, spread.sum(-1, keepdims=True)], axis=2)  # (J, K, 4)
        joint_blend = np.pad(np.einsum("jkv,vcs->jkcs", spread, blend), [(0, 0), (0, 0), (0, 1), (0, 0)])
        tables = {
            "rest_joints": hand.J_regressor @ hand.v_template,  # (K, 3)
            "rest_joints_shape": np.einsum("kv,vcs->kcs", hand.J_regressor, hand.shapedirs).reshape(-1, 10),
            "mean_pose": hand.hands_mean,
            "joint_rest": joint_rest.reshape(-1),
            "joint_blend": joint_blend.reshape(joint_rest.size, -1),
            "template": hand.v_template.reshape(-1, 1),
            "vertex_blend": blend.reshape(hand.v_template.size, -1),
            "weights": hand.weights,
        }
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
        return self.joints_of(self.pose(theta, betas, global_orient))

    def vertices(self, theta: Tensor, betas: Tensor, global_orient: Tensor | None = None) -> Tensor:
        """The 778 vertices; arguments as for `joints`. Returns (B, 778, 3) metres."""
        return self.vertices_of(self.pose(theta, betas, global_orient))

    def chain_joints(self, theta: Tensor, betas: Tensor, global_orient: Tensor | None = None) -> Tensor:
        """The 16 ends of the kinematic chain, (B, 16, 3) metres in MANO's order: what smplx returns as joints."""
        transforms = self.pose(theta, betas, global_orient).transforms
        return (self._rest(betas).unsqueeze(2) @ transforms[:, :, :3] + transforms[:, :, 3:]).squeeze(2)

    def joints_of(self, posed: Posed) -> Tensor:
        """As `joints`, of a skeleton posed before."""
        count = len(posed.blend)
        rest = torch.addmm(self.joint_rest, posed.blend, self.joint_blend.T)  # (B, J * K * 4)
        return rest.view(count, 21, -1) @ posed.transforms.view(count, -1, 3)

    def vertices_of(self, posed: Posed) -> Tensor:
        """As `vertices`, of a skeleton posed before.

        The batch is the innermost axis in memory, so that both products are each one of large matrices.
        """
        count = len(posed.blend)
        rest = torch.addmm(self.template, self.vertex_blend, posed.blend.T).view(-1, 3, count)  # (V, 3, B)
        columns = posed.transforms.permute(1, 2, 3, 0).reshape(16, -1)  # (K, 4 * 3 * B)
        blended = (self.weights @ columns).view(-1, 4, 3, count)
        vertices: Tensor = _Move.apply(blended, rest)
        return vertices.permute(2, 0, 1)

    def pose(self, theta: Tensor, betas: Tensor, global_orient: Tensor | None = None) -> Posed:
        """The skeleton of a pose; arguments as for `joints`."""
        local = rotation_matrices((theta + self.mean_pose).view(-1, 15, 3)).mT  # transposed: rows times matrices
        rest = self._rest(betas)
        fingers = rest[:, 1:].view(-1, 5, 3, 1, 3)
        starts = torch.cat((rest[:, :1].view(-1, 1, 1, 1, 3).expand(-1, 5, 1, 1, 3), fingers[:, :, :2]), dim=2)
        bones = fingers - starts
        turns = local.reshape(-1, 5, 3, 3, 3)
        if global_orient is None:
            wrist = torch.eye(3, dtype=theta.dtype, device=theta.device).expand(len(theta), 1, 3, 3)
            turned, ends = turns[:, :, 0], bones[:, :, 0]
        else:
            wrist = rotation_matrices(global_orient).mT.unsqueeze(1)
            turned, ends = turns[:, :, 0] @ wrist, bones[:, :, 0] @ wrist
        place = rest[:, :1].unsqueeze(2)  # (B, 1, 1, 3): no bone leads to the wrist
        rotations, places = [turned], [place + ends]
        for level in (1, 2):  # the five fingers at once, outwards
            places.append(places[-1] + bones[:, :, level] @ rotations[-1])
            rotations.append(turns[:, :, level] @ rotations[-1])
        world = torch.cat((wrist, torch.stack(rotations, dim=2).flatten(1, 2)), dim=1)  # (B, K, 3, 3)
        ends = torch.cat((place, torch.stack(places, dim=2).flatten(1, 2)), dim=1)  # (B, K, 1, 3)
        transforms = torch.cat((world, ends - rest.unsqueeze(2) @ world), dim=2)
        if not self.has_pose_blend:
            return Posed(transforms, betas)
        eye = torch.eye(3, dtype=theta.dtype, device=theta.device)
        return Posed(transforms, torch.cat((betas, (local.mT - eye).flatten(1)), dim=1))

    def _rest(self, betas: Tensor) -> Tensor:
        """Joints (B, K, 3) of a shape at rest."""
        return torch.addmm(self.rest_joints.view(-1), betas, self.rest_joints_shape.T).view(-1, 16, 3)
