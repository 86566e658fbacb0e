"""Left hands as right ones: everything mirrored in the plane x = 0."""

from dataclasses import replace
from typing import Final

import numpy as np

from mano_trainers.arrays import Array
from mano_trainers.hand.model import HandModel

POSITION: Final = np.array([-1.0, 1.0, 1.0])
ROTATION: Final = np.array([1.0, -1.0, -1.0])
"""A rotation vector is an axial vector: its part along the mirror's normal stays."""


def mirror_pose(rotations: Array) -> Array:
    """Axis-angles (..., 3 K) in rad, mirrored."""
    mirrored: Array = rotations * np.tile(ROTATION, rotations.shape[-1] // 3)
    return mirrored


def with_left_fault(hand: HandModel) -> HandModel:
    """The mirror image of the published left hand of MANO, whose `shapedirs` are not mirrored (smplx issue 48).

    DexYCB's left hands were labelled with it, and with the shape of the right one (dex-ycb-toolkit issue 28).
    """
    return replace(hand, shapedirs=hand.shapedirs * POSITION[:, None])


def mirror_hand(hand: HandModel) -> HandModel:
    """The other hand of the same person, in the same vertex order."""
    entry = np.tile(np.outer(POSITION, POSITION).ravel(), 15)  # of R - I, which becomes S R S - I
    return HandModel(
        side="left" if hand.side == "right" else "right",
        v_template=hand.v_template * POSITION,
        f=hand.f[:, ::-1].copy(),
        shapedirs=hand.shapedirs * POSITION[:, None],
        posedirs=hand.posedirs * POSITION[:, None] * entry,
        J_regressor=hand.J_regressor,
        weights=hand.weights,
        kintree_table=hand.kintree_table,
        hands_components=mirror_pose(hand.hands_components),
        hands_mean=mirror_pose(hand.hands_mean),
        hands_std=hand.hands_std,
    )
