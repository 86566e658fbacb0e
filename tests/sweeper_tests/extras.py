"""Libraries that an extra installs."""

from importlib.util import find_spec

import pytest


def skip_without(library: str) -> None:
    """Skip the test where a library is not installed. Unlike `importorskip` it does not import the library, which
    takes this process up to seven seconds, and the script that the test starts as long again."""
    if find_spec(library) is None:
        pytest.skip(f"{library}, of an extra, is not installed")
