"""Checksums of the Python sources that train, to see whether it is still the same code. Imports nothing slow."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import mano_trainers
import sweeper
from sweeper.entrypoint.resolve import current_name, load_trainer
from sweeper.files import sha256_of

DECIDES_OR_TRAINS: Final = (
    "entrypoint",
    "executor/worker/trainable.py",
    "pruning",
    "reporting",
    "samplers",
    "search_space",
    "spec",
    "study",
)
"""The parts of `sweeper` that a result depends on: which configs are proposed, which trials are stopped, how a trainer
is called. A report page, a view or the tracking may change while a study runs."""


def code_sums(trainer: str) -> dict[str, str]:
    """File -> sha256 of every Python source that decides or trains: of `sweeper`, of `mano_trainers`, and of the
    trainer's own package."""
    root = Path(str(sweeper.__file__)).parent
    own = [_sums(root / part, root.parent) for part in DECIDES_OR_TRAINS]
    return (
        {name: digest for sums in own for name, digest in sums.items()}
        | _sums(Path(str(mano_trainers.__file__)).parent)
        | trainer_sums(trainer)
    )


def counted(recorded: Mapping[str, str]) -> dict[str, str]:
    """The recorded checksums that count: studies of earlier versions recorded every file of `sweeper`."""
    parts = [f"sweeper/{part}" if part.endswith(".py") else f"sweeper/{part}/" for part in DECIDES_OR_TRAINS]
    return {
        name: digest
        for name, digest in recorded.items()
        if not name.startswith("sweeper/") or name.startswith(tuple(parts))
    }


def trainer_sums(trainer: str) -> dict[str, str]:
    """The same for the package, or the single file, that the trainer is in; for `sweeper` itself, which runs commands,
    everything relevant is covered already."""
    package = current_name(trainer).partition(":")[0].partition(".")[0]
    if package == sweeper.__name__:
        return {}
    if package != "mano_trainers":  # that one would import torch
        load_trainer(trainer)  # makes it importable
    found = find_spec(package)
    if found is None or found.origin is None:
        return {}
    origin = Path(found.origin)
    return _sums(origin.parent if origin.name == "__init__.py" else origin)


def _sums(root: Path, names_from: Path | None = None) -> dict[str, str]:
    files = [root] if root.is_file() else sorted(root.rglob("*.py"))
    return {str(file.relative_to(names_from or root.parent)): sha256_of(file)[:16] for file in files}
