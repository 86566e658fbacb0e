"""Libraries that an extra installs."""

from importlib.util import find_spec

import pytest


def skip_without(library: str) -> None:
    """Skip the test if a library is not installed. Unlike `importorskip`, this does not import the library, which would
    take this process up to seven seconds, and the script that the test starts just as long."""
    if find_spec(library) is None:
        pytest.skip(f"{library}, of an extra, is not installed")
