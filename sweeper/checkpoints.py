"""Whether a checkpoint on disk is still what its trainer wrote. Needs no torch: a manifest names the sums of files."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from sweeper.trial import TrialRecord


def damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint, or None if it is whole.

    A folder with a `manifest.json` is whole if every file it lists has the sha256 it lists. One without is another
    trainer's own layout, and is taken to be whole unless it is empty or gone.
    """
    try:
        if not any(folder.iterdir()):
            return "empty"
        manifest = folder / "manifest.json"
        if not manifest.exists():
            return None
        for name, entry in json.loads(manifest.read_bytes())["files"].items():
            if hashlib.sha256((folder / name).read_bytes()).hexdigest() != entry["sha256"]:
                return f"{name} does not match the manifest"
    except OSError as error:
        return error.strerror or str(error)
    except (ValueError, KeyError, TypeError, AttributeError):
        return "its manifest cannot be read"
    return None


def last_good(study_dir: Path, record: TrialRecord) -> tuple[Path | None, int, Sequence[str]]:
    """The newest whole checkpoint of a trial.

    Returns:
        The folder, or None to start anew; the evaluation it was written at, else 0; and what is wrong with each newer
        one, a line each.
    """
    passed_over: list[str] = []
    for report in reversed(record.reports):
        if report.checkpoint is None:
            continue
        folder = study_dir / report.checkpoint
        problem = damage(folder)
        if problem is None:
            return folder, report.step, passed_over
        passed_over.append(f"the checkpoint {report.checkpoint} is damaged: {problem}")
    return None, 0, passed_over
