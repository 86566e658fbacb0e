"""The metrics that a trainer reports beside its objective, as the constant `OFFERS` beside it names them."""

import sys
from typing import Final

from mano_trainers.report import OFFERS, TrainerOffers
from sweeper.entrypoint.resolve import current_name

DEFAULT_OFFERS: Final[TrainerOffers] = OFFERS
"""Of the default trainer, and of every trainer that declares none: it may report metrics by the same names."""


def offers_of(trainer: str) -> TrainerOffers:
    """What the trainer declares, if its module is loaded: reading a study must not run the code it names."""
    module = sys.modules.get(current_name(trainer).partition(":")[0])
    declared = getattr(module, "OFFERS", None)
    return declared if isinstance(declared, TrainerOffers) else DEFAULT_OFFERS
