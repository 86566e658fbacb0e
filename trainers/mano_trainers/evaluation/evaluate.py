"""One validation of theta predictions: every `val/` metric of them against a reference."""

import math
from dataclasses import dataclass

import numpy as np

from mano_trainers.arrays import Array, Integers, evenly
from mano_trainers.evaluation import metrics
from mano_trainers.evaluation.intervals import interval, p_of_order
from mano_trainers.evaluation.procrustes import aligned_distances
from mano_trainers.evaluation.protocols import protocol_names, protocol_scores
from mano_trainers.evaluation.reference import Reference, joints_of, vertices_of


@dataclass(frozen=True)
class Outputs:
    """Predictions for N images: those of a model's `Prediction`, float64 on the CPU."""

    theta: Array
    betas: Array | None = None
    orient: Array | None = None
    joints_m: Array | None = None


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
    names, theta = _names(reference, outputs), outputs.theta
    if not all(np.isfinite(values).all() for values in vars(outputs).values() if values is not None):
        return {f"val/{name}": math.nan for name in names}
    betas = np.zeros((len(theta), 10)) if outputs.betas is None else outputs.betas
    joints_m = joints_of(reference.hand, theta, betas)
    distances_m = aligned_distances(joints_m, reference.aligned_to_m, reference.align)
    pa_mm = 1000.0 * float(distances_m.mean())
    values = {
        "mpjpe_mm": _mean_distance_mm(joints_m, reference.joints_m),
        "pa_mpjpe_mm": pa_mm,
        "auc": metrics.auc(distances_m),
        "skill": 1.0 - pa_mm / (1000.0 * float(reference.constant_pa_m.mean())),
        **{f"{name}/pa_mpjpe_mm": 1000.0 * float(distances_m[rows].mean()) for name, rows in _parts(reference).items()},
        **_of_meshes(reference, theta, betas),
        **_of_poses(reference, theta, joints_m),
        **_certainty(reference, joints_m, distances_m.mean(1)),
        **protocol_scores(reference.protocols, theta, betas, outputs.orient),
        **_of_other_outputs(reference, outputs, joints_m),
    }
    return {f"val/{name}": values[name] for name in names}


def _names(reference: Reference, outputs: Outputs) -> list[str]:
    """The names of the metrics, in the order in which they are reported."""
    names = (
        "mpjpe_mm pa_mpjpe_mm pa_mpvpe_mm auc f5 f15 theta_variance_rad2 theta_var_ratio theta_r2 theta_min theta_max "
        "pose_entropy_bits pose_entropy_ratio gesture_macro_f1 skill skill_p"
    ).split()
    names += ["pa_mpjpe_low_mm", "pa_mpjpe_high_mm"] if reference.groups.any() else []  # one group has no interval
    names += [f"{name}/pa_mpjpe_mm" for name in _parts(reference)]
    names += protocol_names(reference.protocols, outputs.orient is not None)
    names += ["mpjpe_camera_mm"] if outputs.orient is not None else []
    names += ["joints_mpjpe_mm", "joints_pa_mpjpe_mm"] if outputs.joints_m is not None else []
    return names


def _parts(reference: Reference) -> dict[str, Integers]:
    """Rows that have their own score."""
    return reference.sets | reference.versions


def _of_meshes(reference: Reference, theta: Array, betas: Array) -> dict[str, float]:
    some = evenly(np.arange(len(theta)), len(reference.verts_m))
    verts_m = reference.align(vertices_of(reference.hand, theta[some], betas[some]), reference.verts_m)
    f5, f15 = metrics.f_scores(verts_m, reference.verts_m)
    return {"pa_mpvpe_mm": _mean_distance_mm(verts_m, reference.verts_m), "f5": f5, "f15": f15}


def _of_poses(reference: Reference, theta: Array, joints_m: Array) -> dict[str, float]:
    """How much the poses spread, and which ones they are."""
    codes = metrics.nearest_code(theta, reference.codebook)
    entropy_bits = metrics.entropy_bits(codes, len(reference.codebook))
    return {
        **metrics.theta_spread(theta, reference.theta),
        "pose_entropy_bits": entropy_bits,
        "pose_entropy_ratio": entropy_bits / reference.entropy_bits if reference.entropy_bits > 0 else math.nan,
        "gesture_macro_f1": metrics.macro_f1(metrics.extended_fingers(joints_m), reference.gestures),
    }


def _certainty(reference: Reference, joints_m: Array, errors_m: Array) -> dict[str, float]:
    """How sure the aligned error is, and how sure it is that it shows skill."""
    low_m, high_m = interval(errors_m, reference.groups)
    return {
        "skill_p": _skill_p(reference, joints_m, errors_m),
        "pa_mpjpe_low_mm": 1000.0 * low_m,
        "pa_mpjpe_high_mm": 1000.0 * high_m,
    }


def _skill_p(reference: Reference, joints_m: Array, errors_m: Array) -> float:
    """The larger of two p-values: that the error is no smaller than the constant pose's on the same images, and that it
    is no smaller than with the same predictions in another order. The first alone treats the frames of a recording as
    independent, and finds skill where there is none."""

    def error_of(rows: Integers, of: Integers) -> float:
        return float(aligned_distances(joints_m[rows], reference.aligned_to_m[of], reference.align).mean())

    p = metrics.p_of_smaller(errors_m, reference.constant_pa_m)
    return p if p > 0.5 else max(p, p_of_order(error_of, reference.groups))


def _of_other_outputs(reference: Reference, outputs: Outputs, joints_m: Array) -> dict[str, float]:
    """Scores of the wrist's rotation and of joints, where a model predicts them beside theta."""
    values = {}
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
    return values


def _mean_distance_mm(points_m: Array, true_m: Array) -> float:
    return 1000.0 * float(np.linalg.norm(points_m - true_m, axis=-1).mean())
