"""The published hand layer, which ours is compared with."""

from dataclasses import fields
from typing import Any

import smplx
from smplx.utils import Struct

from mano_trainers.hand.model import HandModel


def smplx_layer(hand: HandModel, batch_size: int = 1) -> Any:
    """The unmodified `smplx.MANO` on this hand: the reference `HandLayer` is tested against.

    It takes theta with the mean excluded (`flat_hand_mean=False` adds it) and returns 16 joints in MANO's order.
    """
    fields_of_mano = {item.name: getattr(hand, item.name) for item in fields(hand) if item.name != "side"}
    return smplx.MANO(
        model_path="",
        data_struct=Struct(**fields_of_mano),
        is_rhand=hand.side == "right",
        use_pca=False,
        flat_hand_mean=False,
        batch_size=batch_size,
    )
