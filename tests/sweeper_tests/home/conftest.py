"""Fixtures for a study home that a stranger has made."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from finished import finish_study
from hostile import SPEC, TRAP, set_spec

from sweeper.spec.load import parse_spec


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that code from the home would create."""
    path = tmp_path / "canary"
    monkeypatch.setenv("CANARY", str(path))
    return path


@pytest.fixture
def toy(home: Path) -> Path:
    """A home with a finished study."""
    finish_study(home, parse_spec(SPEC, home / "spec.yaml"), lambda params: params["scale"])
    return home


@pytest.fixture
def evil(toy: Path, canary: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The home, whose record names a trainer that is in it, as code in the working folder."""
    (toy / "evil.py").write_text(TRAP)
    monkeypatch.setattr(sys, "path", list(sys.path))
    set_spec(toy, trainer="evil:train")
    yield toy
    for name in ("evil", "homes", "homes.evil"):
        sys.modules.pop(name, None)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder with a private file of the person who opens the home."""
    folder = tmp_path / "private"
    folder.mkdir()
    (folder / "key").write_text("private")
    return folder
