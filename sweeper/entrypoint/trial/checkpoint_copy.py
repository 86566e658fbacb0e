"""Keeps a checkpoint as it was when it was reported.

One with a `manifest.json` of checksums was written completely and is not written again, so it stays where it is. Any
other file or folder may be overwritten by the next evaluation (`last.pt`), or be anywhere: it is copied into the
trial's folder, with a manifest, and training continues from the copy.
"""

import json
import shutil
from pathlib import Path
from typing import Any, Final

from sweeper.files import sha256_of

MANIFEST: Final = "manifest.json"
PREFIX: Final = "checkpoint_"
SINGLE_FILE: Final = "single_file"
"""Field of a copy's manifest: the name of the file in it that was reported, or of the folder, where that has a
`manifest.json` of another kind."""


def kept_checkpoint(path: Path, workdir: Path, step: int, epoch: float) -> Path:
    """The folder that keeps the checkpoint.

    Args:
        path: the file or folder that was reported.
        workdir: the trial's folder.
        step: of the report.
        epoch: of the report.
    """
    if path.is_dir() and _is_written_whole(path / MANIFEST):
        return path
    folder = workdir.absolute() / f"{PREFIX}{step:06d}"
    if (folder / MANIFEST).is_file():  # an evaluation that is repeated after a kill
        return folder
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
    is_within = path.is_file() or (path / MANIFEST).exists()
    if path.is_dir():
        # The trial's own folder may be reported as the checkpoint: copies of earlier ones are not part of it.
        ours = shutil.ignore_patterns(f"{PREFIX}*", f".{PREFIX}*")
        shutil.copytree(path, partial / path.name if is_within else partial, ignore=ours, ignore_dangling_symlinks=True)
    else:
        partial.mkdir(parents=True)
        shutil.copy2(path, partial / path.name)
    manifest: dict[str, Any] = {"step": step, "epoch": epoch, "files": _sums(partial)}
    if is_within:
        manifest[SINGLE_FILE] = path.name
    (partial / MANIFEST).write_text(json.dumps(manifest))
    partial.rename(folder)
    return folder


def _is_written_whole(manifest: Path) -> bool:
    """Whether it lists files with their checksums; a trainer may use the name for something else."""
    try:
        return all(isinstance(each["sha256"], str) for each in json.loads(manifest.read_bytes())["files"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def as_reported(folder: Path | None) -> Path | None:
    """What the trainer continues from, as it reported it."""
    if folder is None:
        return None
    try:
        name = json.loads((folder / MANIFEST).read_bytes())[SINGLE_FILE]
    except (OSError, ValueError, KeyError, TypeError):
        return folder
    return folder / Path(str(name)).name


def _sums(folder: Path) -> dict[str, dict[str, Any]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): {"bytes": path.stat().st_size, "sha256": sha256_of(path)} for path in files}
