"""Whether a study that is continued is still the same: its spec, the code that trains, and the data."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import sweeper
import trainers
from sweeper.errors import UserError
from sweeper.ledger import Ledger
from sweeper.spec import SweepSpec, spec_differences
from sweeper.trainer_ref import load_trainer

DRIFT = "drift"
"""The study's attribute that lists the differences that were accepted, and when."""


def code_sums(trainer: str) -> dict[str, str]:
    """File -> sha256 of every Python source of `sweeper`, of `trainers`, and of the trainer's own package."""
    return (
        _sums(Path(str(sweeper.__file__)).parent) | _sums(Path(str(trainers.__file__)).parent) | trainer_sums(trainer)
    )


def trainer_sums(trainer: str) -> dict[str, str]:
    """The same of the package, or the single file, that the trainer is in."""
    package = trainer.partition(":")[0].partition(".")[0]
    if package != "trainers":  # that one would import torch
        load_trainer(trainer)  # makes it importable
    found = find_spec(package)
    if found is None or found.origin is None:
        return {}
    origin = Path(found.origin)
    return _sums(origin.parent if origin.name == "__init__.py" else origin)


def _sums(root: Path) -> dict[str, str]:
    files = [root] if root.is_file() else sorted(root.rglob("*.py"))
    return {str(file.relative_to(root.parent)): hashlib.sha256(file.read_bytes()).hexdigest()[:16] for file in files}


def spec_drift(ledger: Ledger, spec: SweepSpec) -> list[str]:
    """What differs between the spec the study was started with and this one."""
    recorded = ledger.attributes.get("spec")
    return [] if recorded is None else spec_differences(recorded, spec.effective)


def refuse_other_choices(ledger: Ledger, spec: SweepSpec) -> None:
    """Refuse another kind of dimension, or other choices, even if drift is accepted: no ledger can hold both.

    Raises:
        UserError: a parameter of the study has them now.
    """
    recorded: Mapping[str, Mapping[str, Any]] = (ledger.attributes.get("spec") or {}).get("search_space", {})
    now = spec.effective["search_space"]
    for path, old in recorded.items():
        new = now.get(path, old)
        if (old.get("type"), old.get("choices")) != (new.get("type"), new.get("choices")):
            raise UserError(
                f"`{path}` of the study `{ledger.study}` has other choices now, and one study cannot hold both",
                where=str(spec.path),
                help="start another study beside it with --new, or undo the change",
            )


def changed(recorded: Mapping[str, str] | None, now: Mapping[str, str]) -> list[str]:
    """A line for each of the named sums that is not what it was; none if nothing was recorded."""
    if recorded is None:
        return []
    names = [name for name in {**recorded, **now} if recorded.get(name) != now.get(name)]
    return [f"{name} {_how(name, recorded, now)}" for name in names]


def refuse_or_record(ledger: Ledger, what: str, differences: Sequence[str], where: str | None, accept: bool) -> None:
    """Refuse to continue a study that has drifted; or, if the user accepts it, write into the ledger what differs.

    Raises:
        UserError: there are differences, and they are not accepted.
    """
    if not differences:
        return
    if not accept:
        raise UserError(
            f"the study `{ledger.study}` was started with {what}:\n  " + "\n  ".join(differences),
            where=where,
            help="undo the change to continue the study, start another one beside it with --new, or mix the two with "
            "--accept-drift, which the study remembers",
        )
    known: list[Any] = ledger.attributes.get(DRIFT, [])
    ledger.set_attribute(DRIFT, [*known, {"time_s": time.time(), "differences": list(differences)}])


def _how(name: str, recorded: Mapping[str, str], now: Mapping[str, str]) -> str:
    if name not in recorded:
        return "is new"
    return "has changed" if name in now else "is gone"
