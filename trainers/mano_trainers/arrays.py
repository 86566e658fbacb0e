"""Names for the arrays that the trainer passes around."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
Integers = NDArray[np.int64]
Pixels = NDArray[np.uint8]
Strings = NDArray[np.str_]


def evenly(values: Integers, most: int) -> Integers:
    """At most this many of the values, evenly spaced: neighbours are often from one recording, or one set."""
    chosen: Integers = values[np.unique(np.linspace(0, len(values) - 1, min(most, len(values))).astype(np.int64))]
    return chosen
