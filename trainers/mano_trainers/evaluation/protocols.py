"""Scores by the joints and alignments used in each data set's published tables.

The headline metrics of all sets are by FreiHAND's definition of the joints, so that sets can be mixed. HO-3D and DexYCB
mean other points by the same names (`hand.definitions`), some 4 mm away, so their own scores stand beside them.
Sources: `eval.py` of shreyashampali/ho3d, `dex_ycb_toolkit/hpe_eval.py` of NVlabs/dex-ycb-toolkit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from mano_trainers.arrays import Array, Integers
from mano_trainers.data.load import LoadedData
from mano_trainers.data.readers.labels import Labels
from mano_trainers.evaluation import metrics
from mano_trainers.evaluation.procrustes import aligned_distances
from mano_trainers.hand.definitions import DEXYCB_TIPS, DEXYCB_TIPS_LEFT, HO3D_TIPS
from mano_trainers.hand.layer import HandLayer
from mano_trainers.hand.mirror import with_left_fault
from mano_trainers.hand.model import FREIHAND_ORDER, HandModel

TIPS: Final = {"ho3d": HO3D_TIPS, "dexycb": DEXYCB_TIPS, "dexycb_left": DEXYCB_TIPS_LEFT}
"""Fingertip vertices by `Labels.definition`; FreiHAND's own protocol is that of the headline metrics."""
PROTOCOL: Final = {"ho3d": "ho3d", "dexycb": "dexycb", "dexycb_left": "dexycb"}
ALIGNMENT: Final = {"ho3d": "st", "dexycb": "rr"}
"""Of each protocol's second score: `st` scale and translation, `rr` root-relative."""
MIDDLE_KNUCKLE: Final = 9
"""HO-3D scales by its distance from the wrist: joints 4 and 0 in HO-3D's order, which is MANO's."""
TIP_ROWS: Final = [4, 8, 12, 16, 20]
POSES_AT_ONCE: Final = 4096


@dataclass(frozen=True)
class Own:
    """Validation images whose data set defines joints in the same way.

    Attributes:
        rows: (n,) of the validation set.
        layer: the hand, with that definition's fingertips.
        joints_m: (n, 21, 3) the set's own joints, in the camera's frame and FreiHAND's order.
    """

    rows: Integers
    layer: HandLayer
    joints_m: Array


Protocols = dict[str, tuple[Own, ...]]
"""For each protocol, its images by definition: right and left hands of DexYCB have different fingertips."""


def make_protocols(data: LoadedData) -> Protocols:
    """The protocols of the sets that are validated on; empty if all are in FreiHAND's layout."""
    protocols: Protocols = {}
    for definition, name in PROTOCOL.items():
        rows = np.flatnonzero(data.labels.definition[data.val_poses] == definition)
        if len(rows):
            own = _own(data.hand, data.labels, data.val_poses[rows], definition)
            protocols[name] = (*protocols.get(name, ()), Own(rows, own[0], own[1]))
    return protocols


def _own(hand: HandModel, labels: Labels, poses: Integers, definition: str) -> tuple[HandLayer, Array]:
    """The layer of a definition, and the joints as the set stores them: the reader moved them to FreiHAND's places."""
    tips = TIPS[definition]
    layer = HandLayer(hand, torch.float64, tips=tips)
    annotated = HandLayer(with_left_fault(hand), torch.float64, tips=tips) if definition == "dexycb_left" else layer
    pose = labels.theta[poses], labels.betas[poses], labels.global_orient[poses]
    regressed = _joints(HandLayer(hand, torch.float64), *pose)
    return layer, labels.joints_m[poses] + chain_joints(annotated, *pose) - regressed


def chain_joints(layer: HandLayer, theta: Array, betas: Array, orient: Array) -> Array:
    """Ends of the kinematic chain and the layer's fingertips, (N, 21, 3) metres in FreiHAND's order."""
    parts = []
    with torch.no_grad():
        for start in range(0, len(theta), POSES_AT_ONCE):
            pose = [torch.from_numpy(each[start : start + POSES_AT_ONCE]) for each in (theta, betas, orient)]
            tips = layer.joints(*pose)[:, TIP_ROWS]
            parts.append(torch.cat([layer.chain_joints(*pose), tips], dim=1)[:, list(FREIHAND_ORDER)].numpy())
    return np.concatenate(parts)


def _joints(layer: HandLayer, theta: Array, betas: Array, orient: Array) -> Array:
    parts = []
    with torch.no_grad():
        for start in range(0, len(theta), POSES_AT_ONCE):
            pose = [torch.from_numpy(each[start : start + POSES_AT_ONCE]) for each in (theta, betas, orient)]
            parts.append(layer.joints(*pose).numpy())
    return np.concatenate(parts)


def protocol_scores(protocols: Protocols, theta: Array, betas: Array, orient: Array | None) -> dict[str, float]:
    """Scores of predictions by each protocol, named `protocol/<name>/...`.

    `pa_mpjpe_mm` and `pa_auc` after Procrustes alignment. Of a model that predicts the wrist's rotation also
    `rr_mpjpe_mm` (DexYCB: both wrists at the origin, camera's frame) or `st_mpjpe_mm` (HO-3D: and the prediction scaled
    to the true length from wrist to middle knuckle).

    Args:
        protocols: from `make_protocols`.
        theta: (N, 45) predictions for all validation images, rad.
        betas: (N, 10).
        orient: (N, 3, 3) predicted rotations of the wrist, if there are any.
    """
    scores: dict[str, float] = {}
    for name, parts in protocols.items():
        predicted, true = (np.concatenate(each) for each in zip(*_pairs(parts, theta, betas, orient), strict=True))
        aligned_m = aligned_distances(predicted, true)
        scores[f"protocol/{name}/pa_mpjpe_mm"] = 1000.0 * float(aligned_m.mean())
        scores[f"protocol/{name}/pa_auc"] = metrics.auc(aligned_m)
        if orient is not None:
            kind = ALIGNMENT[name]
            distances_m = _root_distances(predicted, true, scaled=kind == "st")
            scores[f"protocol/{name}/{kind}_mpjpe_mm"] = 1000.0 * float(distances_m.mean())
    return scores


def protocol_names(protocols: Protocols, has_orient: bool) -> list[str]:
    """The names of `protocol_scores`."""
    names = []
    for name in protocols:
        kinds = ["pa_mpjpe_mm", "pa_auc"] + ([f"{ALIGNMENT[name]}_mpjpe_mm"] if has_orient else [])
        names += [f"protocol/{name}/{kind}" for kind in kinds]
    return names


def _pairs(parts: Sequence[Own], theta: Array, betas: Array, orient: Array | None) -> list[tuple[Array, Array]]:
    pairs = []
    for own in parts:
        unturned = np.zeros((len(own.rows), 3))
        joints_m = chain_joints(own.layer, theta[own.rows], betas[own.rows], unturned)
        if orient is not None:
            wrist = joints_m[:, :1]
            joints_m = (joints_m - wrist) @ orient[own.rows].transpose(0, 2, 1)
        pairs.append((joints_m, own.joints_m))
    return pairs


def _root_distances(predicted: Array, true: Array, scaled: bool) -> Array:
    """(N, 21) distances with both wrists at the origin, the prediction scaled to the true hand if asked for."""
    predicted, true = (points - points[:, :1] for points in (predicted, true))
    if scaled:
        length, true_length = (np.linalg.norm(points[:, MIDDLE_KNUCKLE], axis=-1) for points in (predicted, true))
        predicted = predicted * (true_length / length)[:, None, None]
    distances: Array = np.linalg.norm(predicted - true, axis=-1)
    return distances
