"""Where tests find the files beside them."""

from pathlib import Path
from typing import Final

TESTS: Final = Path(__file__).parent
"""The folder of the scripted trainer and of all helpers; on the PYTHONPATH of processes that tests start."""
ROOT: Final = TESTS.parents[1]
"""The root of the repository."""
