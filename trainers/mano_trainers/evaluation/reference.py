"""What predictions on the validation images are compared with: computed once from the labels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mano_trainers.arrays import Array, Integers, Strings, evenly
from mano_trainers.data.load import LoadedData
from mano_trainers.data.readers.labels import joints_in_wrist_frame
from mano_trainers.data.split import validated_versions
from mano_trainers.evaluation import metrics
from mano_trainers.evaluation.procrustes import align, aligned_distances, laid_on, similarity
from mano_trainers.evaluation.protocols import Protocols, make_protocols
from mano_trainers.hand.layer import HandLayer
from mano_trainers.hand.model import FREIHAND_ORDER
from mano_trainers.losses.terms import wrist_joints
from mano_trainers.rotations import matrix_from_axis_angle

Align = Callable[[Array, Array], Array]
CONSTANT_POSES, CONSTANT_STEPS, CONSTANT_LR = 256, 60, 0.05


@dataclass(frozen=True)
class Reference:
    """What predictions on the validation images are compared with. float64; lengths in metres, theta in rad.

    Attributes:
        hand: forward kinematics in float64 on the CPU.
        theta: (N, 45) labels.
        joints_m: (N, 21, 3) labels in the wrist's frame, wrist at the origin.
        orient: (N, 3, 3) rotation of the wrist in the camera's frame.
        verts_m: (M, 778, 3) vertices of M of the labels, any frame: they are only compared after alignment.
        codebook: (32, 45) representative training poses.
        entropy_bits: entropy of the validation labels over the codebook.
        gestures: (N,) gesture of each label.
        constant_theta: (45,) the best constant pose.
        constant_pa_m: (N,) its aligned error on each image.
        sets: rows of each data set, where there are several.
        versions: rows of each image version, `version_0` and so on, where there are several.
        groups: (N,) number of the recording, subject or pose that a sample belongs to, as its reader says.
        aligned_to_m: (N, 21, 3) what predicted joints are aligned with, in any frame.
        align: the alignment itself.
        protocols: of data sets whose results are published by other joints.
    """

    hand: HandLayer
    theta: Array
    joints_m: Array
    orient: Array
    verts_m: Array
    codebook: Array
    entropy_bits: float
    gestures: Integers
    constant_theta: Array
    constant_pa_m: Array
    sets: dict[str, Integers]
    versions: dict[str, Integers]
    groups: Integers
    aligned_to_m: Array
    align: Align
    protocols: Protocols


def make_reference(
    data: LoadedData,
    mesh_images: int,
    joint_order: Sequence[int] = FREIHAND_ORDER,
    align: Align = align,
    aligned_to_m: Array | None = None,
) -> Reference:
    """Prepare what every evaluation of a run shares.

    The true joints are the data set's own, turned back into the wrist's frame, not computed ones: a hand layer that
    disagrees with the data shows as an error. The true vertices are computed.

    Args:
        data: whose validation poses are evaluated, in their order, and whose training poses give the codebook and the
            constant pose.
        mesh_images: M.
        joint_order: of the predicted joints; labels have FreiHAND's.
        align: the alignment of every aligned metric.
        aligned_to_m: (N, 21, 3) what predicted joints are aligned with, for each validation pose; the labels' joints
            in the wrist's frame if None.
    """
    labels, val, train = data.labels, data.val_poses, data.train_poses
    hand = HandLayer(data.hand, torch.float64, joint_order)
    rotation = matrix_from_axis_angle(torch.from_numpy(labels.global_orient)).numpy()
    joints_m = joints_in_wrist_frame(labels)
    aligned_to_m = joints_m[val] if aligned_to_m is None else aligned_to_m
    some = evenly(val, mesh_images)
    codebook = metrics.fit_codebook(labels.theta[train])
    constant = best_constant_theta(hand, labels.theta[train], joints_m[train])
    constant_m = joints_of(hand, constant[None], np.zeros((1, 10)))
    return Reference(
        hand=hand,
        theta=labels.theta[val],
        joints_m=joints_m[val],
        orient=rotation[val],
        verts_m=vertices_of(hand, labels.theta[some], labels.betas[some]),
        codebook=codebook,
        entropy_bits=metrics.entropy_bits(metrics.nearest_code(labels.theta[val], codebook), len(codebook)),
        gestures=metrics.extended_fingers(joints_m[val]),
        constant_theta=constant,
        constant_pa_m=aligned_distances(constant_m, aligned_to_m, align).mean(1),
        sets=_rows_of_sets(labels.set_name[val]),
        versions=_rows_of_versions(labels.pose_index, len(val)),
        groups=np.unique(labels.group[val], return_inverse=True)[1].reshape(-1),
        aligned_to_m=aligned_to_m,
        align=align,
        protocols=make_protocols(data),
    )


def _rows_of_sets(set_name: Strings) -> dict[str, Integers]:
    names = np.unique(set_name).tolist()
    return {name: np.flatnonzero(set_name == name) for name in names} if len(names) > 1 else {}


def _rows_of_versions(pose_index: Integers, count: int) -> dict[str, Integers]:
    """Rows of the validated poses that are shown in each image version."""
    versions = int(np.lcm.reduce(np.unique(np.bincount(pose_index))))
    shown = validated_versions(count, versions)
    if versions < 2:
        return {}
    return {f"version_{version}": np.flatnonzero(shown == version) for version in np.unique(shown).tolist()}


def best_constant_theta(hand: HandLayer, theta: Array, joints_m: Array) -> Array:
    """The one theta (45,) with nearly the smallest PA-MPJPE if predicted for every training label.

    An approximation: 60 steps of Adam from the mean label on 256 evenly spaced labels. The alignment is held fixed
    within a step.

    Args:
        hand: forward kinematics in float64 on the CPU.
        theta: (T, 45) labels, rad.
        joints_m: (T, 21, 3) their joints, any frame.
    """
    true = joints_m[evenly(np.arange(len(theta)), CONSTANT_POSES)]
    constant = torch.from_numpy(theta.mean(0)[None]).requires_grad_()
    optimizer = torch.optim.Adam([constant], lr=CONSTANT_LR)
    for _ in range(CONSTANT_STEPS):
        joints = wrist_joints(hand, constant, torch.zeros(1, 10).double())
        predicted = joints.detach().numpy()
        scale, rotation = similarity(predicted, true)
        residual = laid_on(predicted, true, scale, rotation) - true
        unit = residual / (np.linalg.norm(residual, axis=-1, keepdims=True) + 1e-12)
        slope = (scale * unit @ rotation).mean(0, keepdims=True)
        optimizer.zero_grad()
        joints.backward(torch.from_numpy(slope - slope.mean(1, keepdims=True)))  # type: ignore[no-untyped-call]
        optimizer.step()
    result: Array = constant.detach()[0].numpy()
    return result


def joints_of(hand: HandLayer, theta: Array, betas: Array) -> Array:
    """Joints (N, 21, 3) of theta (N, 45) and shape (N, 10), in the wrist's frame, wrist at the origin."""
    with torch.no_grad():
        joints: Array = wrist_joints(hand, torch.from_numpy(theta), torch.from_numpy(betas)).numpy()
    return joints


def vertices_of(hand: HandLayer, theta: Array, betas: Array) -> Array:
    """Vertices (N, 778, 3) of theta (N, 45) and shape (N, 10), in the wrist's frame."""
    with torch.no_grad():
        verts: Array = hand.vertices(torch.from_numpy(theta), torch.from_numpy(betas)).numpy()
    return verts
