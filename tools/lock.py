"""requirements.lock as data, for what audits it, lists it and tests it."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LOCK: Final = Path(__file__).parents[1] / "requirements.lock"
UV: Final = str(Path(sys.executable).with_name("uv"))
"""As `make setup` has installed it."""


@dataclass(frozen=True)
class Locked:
    """One package of the lock: `numpy` may be there twice, with a marker each."""

    name: str
    version: str
    marker: str
    sha256: tuple[str, ...]


def locked(text: str) -> list[Locked]:
    """The packages of a requirements file that pins every one with `==`.

    Raises:
        ValueError: a line is not a pin: an option, a URL, a range.
    """
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        line = line.partition(" #")[0].strip()
        if not line or line.startswith("#"):
            continue
        requirement, *hashes = line.split(" --hash=sha256:")
        pin = Requirement(requirement)
        (specifier,) = pin.specifier
        if pin.url or specifier.operator != "==":
            raise ValueError(f"no pin: {requirement}")
        sums = tuple(each.strip() for each in hashes)
        found.append(Locked(canonicalize_name(pin.name), specifier.version, str(pin.marker or ""), sums))
    return found
