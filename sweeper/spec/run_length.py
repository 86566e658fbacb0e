"""How long a full run is, by the trainer's config; and the grace period that a spec gives as a fraction of it."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sweeper.errors import SpecError, UserError
from sweeper.search_space.dimensions import extremes
from sweeper.search_space.paths import leaves
from sweeper.spec.model import VARIANT, SpecFile
from sweeper.spec.reading.yaml_reader import SpecFinding
from sweeper.spec.resolve import SweepSpec, accepted_example, resolve

GRACE: Final = ("scheduler", "grace")


def full_epochs_of(spec: SweepSpec) -> float:
    """The length of a full run: the config's field `epochs`, wherever it is; the largest it may take.

    Raises:
        UserError: the trainer's config has no such field, or several.
    """
    points: Sequence[Mapping[str, Any]] = [{VARIANT: name} for name in spec.variants] or [accepted_example(spec)]
    longest = 0.0
    for params in points:
        found = {
            path: value for path, value in leaves(resolve(spec, params)).items() if path.rpartition(".")[2] == "epochs"
        }
        if len(found) != 1:
            fields = ", ".join(found) or "no field `epochs`"
            raise UserError(f"cannot tell how long a full run is: the trainer's config has {fields}")
        [(path, value)] = found.items()
        dimension = spec.search_space.get(path)
        candidates = [value] if dimension is None else [choice for _, choice in extremes(dimension)]
        longest = max(longest, *(float(epochs) for epochs in candidates if epochs is not None))
    return longest


def with_grace_epochs(spec: SpecFile) -> tuple[SpecFile, list[SpecFinding]]:
    """The spec with the epochs that its `grace`, a fraction of a full run, amounts to: everything else knows only
    these, and a study records them, so that it ranks at the same epochs however it is continued."""
    grace = spec.scheduler.grace
    if grace is None or spec.scheduler.name == "none":
        return spec, []
    try:
        full_epochs = full_epochs_of(SweepSpec(**dict(spec)))
    except SpecError:
        return spec, []  # of the config, which is reported at its own place
    except UserError as error:
        what = f"`grace: {grace:g}` is a part of a full run, but {error.problems[0].what}"
        return spec, [SpecFinding(GRACE, what, "say the first rung in epochs: `grace_epochs`")]
    scheduler = spec.scheduler.model_copy(update={"grace_epochs": grace * full_epochs})
    return spec.model_copy(update={"scheduler": scheduler}), []


def two_graces(data: Mapping[str, Any]) -> list[SpecFinding]:
    """Whether a file says in two ways when trials are first ranked."""
    section = data.get("scheduler")
    if not isinstance(section, dict) or not {"grace", "grace_epochs"} <= section.keys():
        return []
    return [
        SpecFinding(GRACE, "`grace` and `grace_epochs` both say when trials are first ranked", "leave one of them out")
    ]
