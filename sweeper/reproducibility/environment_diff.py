"""What a recorded run and a rerun are based on, row by row, and which row explains a difference."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from sweeper.entrypoint.source_hashes import counted
from sweeper.entrypoint.versions import IMPORTED
from sweeper.search_space.paths import leaves

MOST_NAMED: Final = 6

Kind = Literal["config", "data", "code", "environment", "numerics", "packages", "machine", "label"]
CAUSES: Final[tuple[Kind, ...]] = ("config", "data", "code", "environment", "numerics", "packages", "machine")
"""From what most certainly changes a result to what usually does not. A `label` (a commit whose sources are the same, a
lock file) changes nothing on its own."""
_UNRECORDED: Final = (
    "a seed that the config does not hold, a file that the trainer reads beside its data, the time, the network, or "
    "the machine itself. Reproduce it once more: does it differ in the same place?"
)
NO_CAUSE: Final = f"nothing that is recorded differs; {_UNRECORDED}"
LEFT_OVER: Final = (
    "nothing that is recorded differs; state that an earlier trial left in the process (the trainer's REUSE_PROCESS "
    f"lets trials share one, and a rerun has one of its own), {_UNRECORDED}"
)
AMONG_LANES: Final = (
    "it trained as one of several lanes in a process (resources.lanes), whose sums round otherwise than those of a "
    "training alone"
)
SET_BY_SWEEPER: Final = frozenset({"OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"})
"""A trial's process sets these itself, whatever the user's values are."""


@dataclass(frozen=True)
class EnvironmentDifference:
    """One thing a run is based on, then and now. `detail`: the difference, or the common value."""

    what: str
    same: bool
    detail: str
    kind: Kind = "label"


def drift(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[EnvironmentDifference]:
    """Two provenances of :func:`sweeper.provenance.collect`, row by row; what one of them lacks is left out."""
    before, after = (side.get("sources") and counted(side["sources"]) for side in (then, now))
    sources = _changed_names("sources", before, after, "code")
    # A user's trainer may import more than its package; for ours everything it imports is covered.
    complete = bool(sources) and all(
        name.startswith(("sweeper/", "mano_trainers/", "trainers/")) for name in then["sources"]
    )
    environment = [
        *_changed_names("environment", *_variables(then, now, ours=False), kind="environment", with_values=True),
        *_changed_names("environment", *_variables(then, now, ours=True), kind="label", with_values=True),
    ]
    (imported, numerics), (imported_now, numerics_now) = map(_split_numerics, (then, now))
    versions = _changed_names("imported", *_in_both(imported, imported_now), kind="packages", with_values=True)
    return [
        *_config_drift(then.get("config"), now.get("config")),
        *sources,
        *_code_drift(then.get("code") or {}, now.get("code") or {}, "label" if complete else "code"),
        *_row("lock", then.get("lock_sha256"), now.get("lock_sha256"), "label", shorten=12),
        *_row("python", then.get("python"), now.get("python"), "packages"),
        *_changed_names("packages", then.get("packages"), now.get("packages"), "packages", with_values=True),
        *_row("platform", then.get("platform"), now.get("platform"), "machine"),
        *_mapping_drift("", then.get("hardware") or {}, now.get("hardware") or {}, "machine"),
        *_mapping_drift("", numerics, numerics_now, "numerics"),
        *(row for row in (*versions, *environment) if not row.same),
        *_mapping_drift("data: ", then.get("data") or {}, now.get("data") or {}, "data", shorten=12),
    ]


def _variables(
    then: Mapping[str, Any], now: Mapping[str, Any], *, ours: bool
) -> tuple[Mapping[str, str] | None, Mapping[str, str] | None]:
    """Recorded environment variables of two sides: those that every trial sets itself, or the others."""

    def chosen(side: Mapping[str, Any]) -> Mapping[str, str] | None:
        recorded = side.get("environment")
        return (
            recorded
            if not recorded
            else {name: value for name, value in recorded.items() if (name in SET_BY_SWEEPER) == ours}
        )

    return chosen(then), chosen(now)


def _split_numerics(side: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """Versions of imported libraries by name, and the other numerics."""
    numerics = side.get("numerics") or {}
    imported = {name.removeprefix(IMPORTED): text for name, text in numerics.items() if name.startswith(IMPORTED)}
    return imported, {name: text for name, text in numerics.items() if not name.startswith(IMPORTED)}


def _in_both(then: Mapping[str, str], now: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """The names that both mappings have: a library that only one process has imported is not a different version."""
    return {name: then[name] for name in then if name in now}, {name: now[name] for name in now if name in then}


def _row(what: str, then: Any, now: Any, kind: Kind, shorten: int | None = None) -> Iterator[EnvironmentDifference]:
    if then is None or now is None:
        return
    before, after = str(then)[:shorten], str(now)[:shorten]
    yield EnvironmentDifference(what, then == now, before if then == now else f"{before} -> {after}", kind)


def _mapping_drift(
    prefix: str, then: Mapping[str, Any], now: Mapping[str, Any], kind: Kind, shorten: int | None = None
) -> Iterator[EnvironmentDifference]:
    for key in then:
        yield from _row(prefix + key, then[key], now.get(key), kind, shorten)


def _config_drift(then: Mapping[str, Any] | None, now: Mapping[str, Any] | None) -> list[EnvironmentDifference]:
    """Floats by their shortest text that reads back to the last bit."""
    if then is None or now is None:
        return []
    before, after = ({key: repr(value) for key, value in leaves(side).items()} for side in (then, now))
    return _changed_names("config", before, after, "config", with_values=True)


def _code_drift(then: Mapping[str, Any], now: Mapping[str, Any], kind: Kind) -> Iterator[EnvironmentDifference]:
    yield from _row("commit", then.get("commit"), now.get("commit"), kind, shorten=12)
    if then.get("dirty") is None or now.get("dirty") is None:
        return
    keys = ("diff_sha256", "untracked")
    if all(then.get(key) == now.get(key) for key in keys):
        yield EnvironmentDifference("uncommitted changes", True, "the same ones" if then["dirty"] else "none", kind)
    else:
        was, is_now = ("some" if side["dirty"] else "none" for side in (then, now))
        files, other_files = (_changed_files(side) for side in (then, now))
        named = sorted(name for name in {*files, *other_files} if files.get(name) != other_files.get(name))
        detail = f"{was} -> {'others' if was == is_now else is_now}: {', '.join(named[:MOST_NAMED])}"
        yield EnvironmentDifference("uncommitted changes", False, detail.removesuffix(": "), kind)


def _changed_files(code: Mapping[str, Any]) -> dict[str, str]:
    """Name -> what it was changed to: the part of the diff, or the checksum of a new file."""
    parts = re.split(r"^diff --git a/.* b/(.*)$", code.get("diff", ""), flags=re.MULTILINE)[1:]
    return {**dict(zip(parts[::2], parts[1::2], strict=True)), **code.get("untracked", {})}


def _changed_names(
    what: str,
    then: Mapping[str, str] | None,
    now: Mapping[str, str] | None,
    kind: Kind,
    *,
    with_values: bool = False,
) -> list[EnvironmentDifference]:
    """One row for many things, which names those that have changed."""
    if then is None or now is None:
        return []
    changed = [
        f"{name} {then.get(name, 'absent')} -> {now.get(name, 'absent')}" if with_values else name
        for name in sorted({*then, *now}, key=lambda name: (name.startswith("sweeper/"), name))  # what trains first
        if then.get(name) != now.get(name)
    ]
    more = f" and {len(changed) - MOST_NAMED} more" if len(changed) > MOST_NAMED else ""
    detail = ", ".join(changed[:MOST_NAMED]) + more if changed else f"all {len(now)}"
    return [EnvironmentDifference(what, not changed, detail, kind)]


def drift_table(rows: Sequence[EnvironmentDifference]) -> str:
    """The rows as text: what, same or differs, the detail."""
    if not rows:
        return "  nothing was recorded to compare"
    width = max(len(row.what) for row in rows)
    return "\n".join(f"  {row.what:<{width}}  {'same   ' if row.same else 'DIFFERS'}  {row.detail}" for row in rows)


def likely_cause(
    rows: Sequence[EnvironmentDifference], *, reuses_process: bool = False, among_lanes: bool = False
) -> str:
    """The row that most likely explains a difference, then the others that may.

    Args:
        rows: what the two runs are based on.
        reuses_process: whether trials of the study shared a process.
        among_lanes: whether they trained at the same time in it.
    """
    changed = sorted((row for row in rows if not row.same and row.kind in CAUSES), key=_rank)
    if not changed:
        return AMONG_LANES if among_lanes else LEFT_OVER if reuses_process else NO_CAUSE
    first, *others = changed
    also = f"; less likely: {', '.join(row.what for row in others)}" if others else ""
    return f"{first.what} ({first.detail}){also}"


def _rank(row: EnvironmentDifference) -> int:
    return CAUSES.index(row.kind)
