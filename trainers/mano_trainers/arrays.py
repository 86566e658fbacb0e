"""Names for the arrays that the trainer passes around."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
Integers = NDArray[np.int64]
Pixels = NDArray[np.uint8]
Strings = NDArray[np.str_]
