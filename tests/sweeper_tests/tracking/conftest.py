"""A real browser for MLflow's pages."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A headless browser with a fresh profile."""
    reason = "so MLflow's UI is not looked at in a browser"
    playwright = pytest.importorskip("playwright.sync_api", reason=f"playwright is not installed, {reason}")
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip(f"no chromium is installed, {reason}: apt-get install -y chromium")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()
