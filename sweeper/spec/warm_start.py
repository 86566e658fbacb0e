"""The part of a sweep file that names an earlier study to learn from."""

import re
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from sweeper.search_space.dimensions import SpecModel
from sweeper.spec.sections import NAME_PATTERN, WARM_TRIALS_PATTERN, refuse_password


class WarmStart(SpecModel):
    """An earlier study whose finished trials inform the sampler. They do not count as trials of this one."""

    study: Annotated[str, Field(min_length=1)]
    """Name of the earlier study, in the same study home or in `storage`. Only the first start of this one reads it."""
    storage: Annotated[str, Field(min_length=1), AfterValidator(refuse_password)] | None = None
    """URL of an Optuna storage that another program filled, `sqlite:///optuna.db` or `postgresql://user@host/database`.
    There, the last part of a parameter's name is enough: `lr` for `optim.lr`."""
    trials: Annotated[str, Field(pattern=WARM_TRIALS_PATTERN)] = "all"
    """`all`, or `best N`: the N best that ran to their end, by this study's objective."""

    @model_validator(mode="after")
    def _named_as_a_study_is(self) -> Self:
        if self.storage is None and not re.fullmatch(NAME_PATTERN, self.study):
            raise ValueError(f"`study` must match {NAME_PATTERN}, but got {self.study!r}")
        return self
