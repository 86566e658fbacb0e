"""Whether a study that is continued is still the same: its spec, the code that trains, and the data."""

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from sweeper.entrypoint.resolve import config_class, current_name
from sweeper.errors import UserError
from sweeper.ledger.ledger import Ledger
from sweeper.search_space.paths import leaves, set_path
from sweeper.spec.model import SpecFile
from sweeper.spec.resolve import NOT_COMPARED, SweepSpec


def spec_drift(ledger: Ledger, spec: SweepSpec) -> list[str]:
    """What differs between the spec the study was started with and this one."""
    recorded = ledger.attributes.spec
    return [] if recorded is None else spec_differences(with_new_defaults(recorded), spec.effective)


def with_new_defaults(recorded: Mapping[str, Any]) -> Mapping[str, Any]:
    """A recorded spec with what has been added to specs and to the trainer's config since then: a field that did not
    exist gets its default, so a new version of the sweeper does not make another spec."""
    trainer = current_name(str(recorded.get("trainer")))
    try:
        known = SpecFile.model_validate(dict(recorded), strict=False)
    except ValidationError:  # written by another version, and shown as it is
        return recorded
    completed = known.model_dump(mode="json", exclude=NOT_COMPARED) | {
        "trainer": trainer,
        "controls": recorded.get("controls"),
    }
    if not known.variants:
        varied = set(known.search_space)
        fields = {path: value for path, value in _defaults(trainer).items() if path not in varied}
        fields |= leaves(known.base)
        completed["base"] = {}
        for path, value in fields.items():
            set_path(completed["base"], path, value)
    return completed


def _defaults(trainer: str) -> dict[str, Any]:
    """Path -> default of each field of the trainer's config; empty if it cannot be made from defaults alone."""
    try:
        model = config_class(trainer)
        return leaves(model().model_dump(mode="json")) if model else {}
    except (UserError, ValidationError):
        return {}


def refuse_other_objective(ledger: Ledger, spec: SweepSpec) -> None:
    """Refuse other objectives, even if drift is accepted: the sampler learns from values in the ledger, ranks compare
    them, and both would go the wrong way with another direction or another metric.

    Raises:
        UserError: the study has different ones, or in another order.
    """
    recorded, now = (ledger.attributes.spec or {}).get("objective"), spec.effective["objective"]
    if recorded is None or recorded == now:
        return
    old, new = (
        ", ".join(f"{one['metric']} ({one['mode']})" for one in (each if isinstance(each, list) else [each]))
        for each in (recorded, now)
    )
    raise UserError(
        f"the study `{ledger.study}` is judged by {old}, not by {new}, and one study cannot hold both",
        where=str(spec.path),
        help="undo the change; or start another study beside it with --new, whose `warm_start` names this one to learn "
        "from its trials",
    )


def changed(recorded: Mapping[str, str] | None, now: Mapping[str, str]) -> list[str]:
    """A line for each named checksum that has changed; none if nothing was recorded."""
    if recorded is None:
        return []
    names = [name for name in {**recorded, **now} if recorded.get(name) != now.get(name)]
    return [f"{name} {_how(name, recorded, now)}" for name in names]


def refuse_or_record(ledger: Ledger, what: str, differences: Sequence[str], where: str | None, accept: bool) -> None:
    """Refuse to continue a study that has drifted; or, if the user accepts it, record in the ledger what differs.

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
            "--accept-drift, which the study records",
        )
    known = ledger.attributes.drift
    if not known or known[-1]["differences"] != list(differences):  # a run that was refused reports it again
        ledger.attributes.drift = [*known, {"time_s": time.time(), "differences": list(differences)}]


def _how(name: str, recorded: Mapping[str, str], now: Mapping[str, str]) -> str:
    if name not in recorded:
        return "is new"
    return "has changed" if name in now else "is gone"


def spec_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What changed between two effective specs, a line per value: `trials: 14 -> 20`, in the order of the keys."""
    before, after = _flat(old), _flat(new)
    return [
        f"{key}: {before.get(key, '(absent)')} -> {after.get(key, '(absent)')}"
        for key in dict.fromkeys((*before, *after))
        if before.get(key) != after.get(key)
    ]


def _flat(value: object, path: str = "") -> dict[str, str]:
    """Dotted path -> JSON text of each value that is not a mapping or list."""
    match value:
        case Mapping() if value:
            items = [(str(key), below) for key, below in value.items()]
        case list() | tuple() if value:
            items = [(str(index), below) for index, below in enumerate(value)]
        case _:
            return {path: json.dumps(value)}
    return {
        key: text for name, below in items for key, text in _flat(below, f"{path}.{name}" if path else name).items()
    }
