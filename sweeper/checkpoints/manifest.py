"""The files of a checkpoint, and whether they are still what the trainer wrote. Needs no torch."""

import json
from pathlib import Path
from typing import Final

from sweeper.files import inside, reread, sha256_of

MANIFEST: Final = "manifest.json"
PICTURES: Final = (".jpg", ".jpeg", ".png", ".svg", ".gif")
"""Files beside a checkpoint that people look at: any trainer may write some."""


def is_picture(name: str) -> bool:
    """Whether a file of a checkpoint is for people."""
    return Path(name).suffix.lower() in PICTURES


def damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint, or None if it is complete.

    A folder with a `manifest.json` is complete if it contains every file listed there with the sha256 listed. One
    without has another trainer's own layout, and is assumed to be complete unless it is empty or missing.
    """
    try:
        if not any(folder.iterdir()):
            return "empty"
        manifest = folder / MANIFEST
        if not manifest.exists():
            return None
        for name, entry in json.loads(reread(manifest.read_bytes))["files"].items():
            if not inside(folder, folder / name):
                return f"its manifest names {name}, which is elsewhere"
            if sha256_of(folder / name) != entry["sha256"]:
                return f"{name} does not match the manifest"
    except OSError as error:
        return error.strerror or str(error)
    except (ValueError, KeyError, TypeError, AttributeError):
        return "its manifest cannot be read"
    return None
