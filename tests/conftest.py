"""How tests are spread over processes (`pytest -n N --dist loadfile --no-loadscope-reorder`)."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file's tests run in one process, which makes its fixtures once. Files with slow tests come first, those on
    machines of their own before all others, so that none of them is left for the end."""
    machines, slow = ({item.path for item in items if item.get_closest_marker(name)} for name in ("machines", "slow"))
    items.sort(key=lambda item: (item.path not in machines, item.path not in slow))  # stable: a file keeps its order
