"""Sums of the Python sources that train, which tell whether it is still the same code. Imports nothing slow."""

import hashlib
from importlib.util import find_spec
from pathlib import Path

import mano_trainers
import sweeper
from sweeper.entrypoint.resolve import current_name, load_trainer


def code_sums(trainer: str) -> dict[str, str]:
    """File -> sha256 of every Python source of `sweeper`, of `mano_trainers`, and of the trainer's own package."""
    return (
        _sums(Path(str(sweeper.__file__)).parent)
        | _sums(Path(str(mano_trainers.__file__)).parent)
        | trainer_sums(trainer)
    )


def trainer_sums(trainer: str) -> dict[str, str]:
    """The same of the package, or the single file, that the trainer is in."""
    package = current_name(trainer).partition(":")[0].partition(".")[0]
    if package != "mano_trainers":  # that one would import torch
        load_trainer(trainer)  # makes it importable
    found = find_spec(package)
    if found is None or found.origin is None:
        return {}
    origin = Path(found.origin)
    return _sums(origin.parent if origin.name == "__init__.py" else origin)


def _sums(root: Path) -> dict[str, str]:
    files = [root] if root.is_file() else sorted(root.rglob("*.py"))
    return {str(file.relative_to(root.parent)): hashlib.sha256(file.read_bytes()).hexdigest()[:16] for file in files}
