"""The parts of a spec file that are valid on their own, as typed values.

So checks between the parts see everything that is right although something else is wrong, and all errors are reported
at once. What is wrong with a single part is reported by the model of the spec, which accepts all or nothing.
"""

from functools import cached_property
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from sweeper.entrypoint.resolve import DEFAULT_TRAINER
from sweeper.search_space.dimensions import AnyDimension, dimensions_of
from sweeper.spec.model import TRAINER_PATTERN
from sweeper.spec.sections import SamplerConfig
from sweeper.spec.warm_start import WarmStart


def _none_if_wrong(value: object, handler: ValidatorFunctionWrapHandler) -> object:
    try:
        return handler(value)
    except ValidationError:
        return None


OrNone = WrapValidator(_none_if_wrong)
Text = Annotated[str | None, OrNone]
Settings = Annotated[dict[str, Any] | None, OrNone]


class Draft(BaseModel):
    """A spec file as far as it is valid. None replaces what is not, also as an entry of a list or mapping."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    name: Text = None
    trainer: Annotated[str | None, Field(pattern=TRAINER_PATTERN), OrNone] = DEFAULT_TRAINER
    base: Settings = None
    search_space: Settings = None
    """As the file has it."""
    variants: Annotated[dict[str, Settings] | None, OrNone] = None
    seeds: Annotated[tuple[Any, ...] | None, Field(strict=False), OrNone] = None
    constraints: Annotated[tuple[Text, ...] | None, Field(strict=False), OrNone] = None
    enqueue: Annotated[tuple[Settings, ...] | None, Field(strict=False), OrNone] = None
    warm_start: Annotated[WarmStart | None, OrNone] = None
    trials: Annotated[int | None, OrNone] = None
    sampler: Annotated[SamplerConfig | None, OrNone] = SamplerConfig()
    controls: Annotated[tuple[Text, ...] | None, Field(strict=False), OrNone] = None
    replicate_seed: Text = None
    replicate: Text = None
    objective: Any = None

    @cached_property
    def dimensions(self) -> dict[str, AnyDimension]:
        """The dimensions of the search space that are valid on their own."""
        return dimensions_of(self.search_space or {})

    @property
    def objectives(self) -> int:
        """How many objectives the file names."""
        return len(self.objective) if isinstance(self.objective, list) else 1

    @property
    def valid_constraints(self) -> list[str]:
        """The constraints that are strings."""
        return [text for text in self.constraints or () if text is not None]
