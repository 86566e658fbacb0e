"""One validation of theta predictions: the reference made once from the labels, and every `val/` metric against it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mano_trainers.arrays import Array, Integers, Strings
from mano_trainers.data.load import LoadedData
from mano_trainers.data.readers.labels import joints_in_wrist_frame
from mano_trainers.data.split import validated_versions
from mano_trainers.evaluation import metrics
from mano_trainers.evaluation.intervals import interval, p_of_order
from mano_trainers.evaluation.procrustes import align, aligned_distances, similarity
from mano_trainers.evaluation.protocols import Protocols, make_protocols, protocol_names, protocol_scores
from mano_trainers.hand.layer import HandLayer
from mano_trainers.hand.model import FREIHAND_ORDER
from mano_trainers.losses.terms import wrist_joints
from mano_trainers.rotations import matrix_from_axis_angle

Align = Callable[[Array, Array], Array]
CONSTANT_POSES, CONSTANT_STEPS, CONSTANT_LR = 256, 60, 0.05


@dataclass(frozen=True)
class Outputs:
    """Predictions for N images: those of a model's `Prediction`, float64 on the CPU."""

    theta: Array
    betas: Array | None = None
    orient: Array | None = None
    joints_m: Array | None = None


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
    with torch.no_grad():
        some = val[_spread(len(val), mesh_images)]
        verts_m = hand.vertices(torch.from_numpy(labels.theta[some]), torch.from_numpy(labels.betas[some])).numpy()
    codebook = metrics.fit_codebook(labels.theta[train])
    constant = best_constant_theta(hand, labels.theta[train], joints_m[train])
    constant_m = joints_of(hand, constant[None], np.zeros((1, 10)))
    return Reference(
        hand=hand,
        theta=labels.theta[val],
        joints_m=joints_m[val],
        orient=rotation[val],
        verts_m=verts_m,
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


def _spread(count: int, most: int) -> Integers:
    """Up to `most` rows of `count` from all over: neighbours are of one video, or of one set of a mixture."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).astype(np.int64))


def evaluate(reference: Reference, outputs: Outputs) -> dict[str, float]:
    """Every `val/` metric of predictions, in the order of the reference's labels.

    A model that does not predict the shape gets zero shape: what the true one adds to the error stays in it.
    `val/mpjpe_mm` is root-centred (wrist) in the wrist's frame, since not every model has a global orientation to be
    judged by; of one that has, `val/mpjpe_camera_mm` is root-centred in the camera's frame. Joints predicted directly
    have `val/joints_mpjpe_mm` (wrist's frame) and `val/joints_pa_mpjpe_mm`; all other metrics are of theta's hand. AUC
    and F-scores are the aligned ones. Of a mixture every set has its `val/<name>/pa_mpjpe_mm` too, and so has every
    image version; HO-3D and DexYCB have the scores of their own tables, see `protocol_scores`. `val/pa_mpjpe_low_mm`
    and `val/pa_mpjpe_high_mm` are the 95 % interval over validation samples, by group. A prediction that is not finite
    makes every metric NaN.

    Args:
        reference: from `make_reference`.
        outputs: predictions.
    """
    theta = outputs.theta
    names = (
        "mpjpe_mm pa_mpjpe_mm pa_mpvpe_mm auc f5 f15 theta_variance_rad2 theta_var_ratio theta_r2 theta_min theta_max "
        "pose_entropy_bits pose_entropy_ratio gesture_macro_f1 skill skill_p"
    ).split()
    names += ["pa_mpjpe_low_mm", "pa_mpjpe_high_mm"] if reference.groups.any() else []  # one group has no interval
    parts = reference.sets | reference.versions
    names += [f"{name}/pa_mpjpe_mm" for name in parts]
    names += protocol_names(reference.protocols, outputs.orient is not None)
    names += ["mpjpe_camera_mm"] if outputs.orient is not None else []
    names += ["joints_mpjpe_mm", "joints_pa_mpjpe_mm"] if outputs.joints_m is not None else []
    if not all(np.isfinite(values).all() for values in vars(outputs).values() if values is not None):
        return {f"val/{name}": math.nan for name in names}
    betas = np.zeros((len(theta), 10)) if outputs.betas is None else outputs.betas
    joints_m = joints_of(reference.hand, theta, betas)
    distances_m = aligned_distances(joints_m, reference.aligned_to_m, reference.align)
    some = _spread(len(theta), len(reference.verts_m))
    verts_m = reference.align(_verts(reference.hand, theta[some], betas[some]), reference.verts_m)
    f5, f15 = metrics.f_scores(verts_m, reference.verts_m)
    codes = metrics.nearest_code(theta, reference.codebook)
    entropy_bits = metrics.entropy_bits(codes, len(reference.codebook))
    pa_mm = 1000.0 * float(distances_m.mean())
    low_m, high_m = interval(distances_m.mean(1), reference.groups)
    values = {
        "mpjpe_mm": _mean_distance_mm(joints_m, reference.joints_m),
        "pa_mpjpe_mm": pa_mm,
        "pa_mpvpe_mm": _mean_distance_mm(verts_m, reference.verts_m),
        "auc": metrics.auc(distances_m),
        "f5": f5,
        "f15": f15,
        **metrics.theta_spread(theta, reference.theta),
        "pose_entropy_bits": entropy_bits,
        "pose_entropy_ratio": entropy_bits / reference.entropy_bits if reference.entropy_bits > 0 else math.nan,
        "gesture_macro_f1": metrics.macro_f1(metrics.extended_fingers(joints_m), reference.gestures),
        "skill": 1.0 - pa_mm / (1000.0 * float(reference.constant_pa_m.mean())),
        "skill_p": _skill_p(reference, joints_m, distances_m.mean(1)),
        "pa_mpjpe_low_mm": 1000.0 * low_m,
        "pa_mpjpe_high_mm": 1000.0 * high_m,
        **{f"{name}/pa_mpjpe_mm": 1000.0 * float(distances_m[rows].mean()) for name, rows in parts.items()},
        **protocol_scores(reference.protocols, theta, betas, outputs.orient),
    }
    if outputs.orient is not None:
        turned, true = (
            each @ by.transpose(0, 2, 1)
            for each, by in ((joints_m, outputs.orient), (reference.joints_m, reference.orient))
        )
        values["mpjpe_camera_mm"] = _mean_distance_mm(turned, true)
    if outputs.joints_m is not None:
        values["joints_mpjpe_mm"] = _mean_distance_mm(outputs.joints_m, reference.joints_m)
        distances_m = aligned_distances(outputs.joints_m, reference.aligned_to_m, reference.align)
        values["joints_pa_mpjpe_mm"] = 1000.0 * float(distances_m.mean())
    return {f"val/{name}": values[name] for name in names}


def _skill_p(reference: Reference, joints_m: Array, errors_m: Array) -> float:
    """The larger of two p-values: that the error is no smaller than the constant pose's on the same images, and that
    it is no smaller than with the same predictions in another order. The first alone takes the frames of a recording
    for independent, and finds skill where there is none."""

    def error_in_order(order: Integers) -> float:
        return float(aligned_distances(joints_m[order], reference.aligned_to_m, reference.align).mean())

    p = metrics.p_of_smaller(errors_m, reference.constant_pa_m)
    return p if p > 0.5 else max(p, p_of_order(error_in_order, reference.groups))


def _mean_distance_mm(points_m: Array, true_m: Array) -> float:
    return 1000.0 * float(np.linalg.norm(points_m - true_m, axis=-1).mean())


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
    true = joints_m[np.unique(np.linspace(0, len(theta) - 1, CONSTANT_POSES).astype(int))]
    constant = torch.from_numpy(theta.mean(0)[None]).requires_grad_()
    optimizer = torch.optim.Adam([constant], lr=CONSTANT_LR)
    for _ in range(CONSTANT_STEPS):
        joints = wrist_joints(hand, constant, torch.zeros(1, 10).double())
        predicted = joints.detach().numpy()
        scale, rotation = similarity(predicted, true)
        residual = align(predicted, true) - true
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


def _verts(hand: HandLayer, theta: Array, betas: Array) -> Array:
    with torch.no_grad():
        verts: Array = hand.vertices(torch.from_numpy(theta), torch.from_numpy(betas)).numpy()
    return verts
