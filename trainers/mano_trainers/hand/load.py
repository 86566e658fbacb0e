"""The one call by which the rest of the trainer gets its hand."""

from pathlib import Path
from typing import Final

from mano_trainers.hand.mano_file import read_mano
from mano_trainers.hand.model import HandModel, load_embedded_hand

EMBEDDED: Final = "embedded"


def load_hand(name_or_path: str) -> HandModel:
    """The hand that a config names.

    Args:
        name_or_path: "embedded", the licence-free right hand; or the path of a licensed MANO file (`~` is the home
            folder), right or left by its content.

    Raises:
        DataError: the file is missing or is not a MANO hand.
    """
    if name_or_path == EMBEDDED:
        return load_embedded_hand()
    return read_mano(Path(name_or_path).expanduser())
