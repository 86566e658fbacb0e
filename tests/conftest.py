"""How tests are spread over processes (`pytest -n`)."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file's tests run in one process, which makes its fixtures once; those on machines of their own each anywhere,
    for they mostly wait. Files with slow tests come first, so that none of them is left for the end."""
    slow_files = {item.path for item in items if item.get_closest_marker("slow") or item.get_closest_marker("machines")}
    items.sort(key=lambda item: item.path not in slow_files)  # stable: the order inside a file stays
    for item in items:
        if not item.get_closest_marker("machines") and not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(str(item.path)))
