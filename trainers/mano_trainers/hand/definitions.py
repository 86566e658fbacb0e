"""The joints that other data sets mean by the same 21 names, converted to FreiHAND's.

FreiHAND takes its joints from the posed mesh (J_regressor @ vertices). HO-3D and DexYCB take the ends of the kinematic
chain, and other vertices for the fingertips. The two differ by millimetres, which would be an error that no model can
remove. Sources: `setup_mano.py` of the HO-3D repository, which appends its tips to the chain's transforms, and
`manolayer.py` of manopth, which DexYCB's toolkit uses.
"""

from typing import Final

import numpy as np
import torch

from mano_trainers.arrays import Array
from mano_trainers.hand.layer import HandLayer
from mano_trainers.hand.model import FREIHAND_ORDER

HO3D_TIPS: Final = (744, 333, 444, 555, 672)
DEXYCB_TIPS: Final = (745, 317, 444, 556, 673)
DEXYCB_TIPS_LEFT: Final = (745, 317, 445, 556, 673)
POSES_AT_ONCE: Final = 256


def chain_joints(layer: HandLayer, theta: Array, betas: Array, global_orient: Array, tips: tuple[int, ...]) -> Array:
    """Ends of the kinematic chain and fingertip vertices.

    Args:
        layer: the hand in float64.
        theta: (N, 45) finger pose, mean excluded, rad.
        betas: (N, 10) shape.
        global_orient: (N, 3) rad.
        tips: vertices of the fingertips from thumb to pinky.

    Returns:
        (N, 21, 3) metres, in FreiHAND's order.
    """
    parts = []
    with torch.no_grad():
        for start in range(0, len(theta), POSES_AT_ONCE):
            pose = [torch.as_tensor(each[start : start + POSES_AT_ONCE]) for each in (theta, betas, global_orient)]
            ends, vertices = layer.chain_joints(*pose), layer.vertices(*pose)
            parts.append(torch.cat([ends, vertices[:, list(tips)]], dim=1)[:, list(FREIHAND_ORDER)].numpy())
    return np.concatenate(parts)


def freihand_joints(layer: HandLayer, theta: Array, betas: Array, global_orient: Array) -> Array:
    """Joints (N, 21, 3) as FreiHAND defines them; arguments as for `chain_joints`."""
    with torch.no_grad():
        poses = zip(*(torch.split(torch.as_tensor(each), 4096) for each in (theta, betas, global_orient)), strict=True)
        return np.concatenate([layer.joints(*pose).numpy() for pose in poses])


def redefine_joints(
    layer: HandLayer,
    joints_m: Array,
    theta: Array,
    betas: Array,
    global_orient: Array,
    tips: tuple[int, ...],
    annotated: HandLayer | None = None,
) -> Array:
    """Joints (N, 21, 3) of a data set that uses chain and `tips`, moved to where FreiHAND's are on the same hand.

    `annotated` is the hand that the data set was labelled with, where it is not `layer`'s.
    """
    chain = chain_joints(annotated or layer, theta, betas, global_orient, tips)
    moved: Array = joints_m + freihand_joints(layer, theta, betas, global_orient) - chain
    return moved
