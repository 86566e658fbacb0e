"""Whether the command of a spec names parameters that its trials have."""

import shlex
from typing import Final

from sweeper.entrypoint.program.command import ALL_PARAMETERS, PLACEHOLDER, PLACES
from sweeper.search_space.paths import leaves
from sweeper.spec.command import COMMAND
from sweeper.spec.draft import Draft
from sweeper.spec.reading.messages import did_you_mean
from sweeper.spec.reading.yaml_reader import SpecFinding

PLACE: Final = (COMMAND,)


def check_command(command: object, draft: Draft) -> list[SpecFinding]:
    """Findings about the words of a command: quotes that are not closed, and placeholders that no trial can fill."""
    if not isinstance(command, str):
        return []
    try:
        words = shlex.split(command)
    except ValueError as error:
        return [SpecFinding(PLACE, f"the command cannot be split into words: {str(error).lower()}")]
    variants = [settings or {} for settings in (draft.variants or {}).values()]
    known = {*leaves(draft.base or {}), *(draft.search_space or {}), *(path for each in variants for path in each)}
    names = [*sorted(known), *(["seed"] if draft.seeds else []), *PLACES]
    used = [name for word in words if word not in ALL_PARAMETERS for name in PLACEHOLDER.findall(word)]
    return [
        SpecFinding(PLACE, f"`{{{name}}}` names no parameter", did_you_mean(name, names))
        for name in dict.fromkeys(used)
        if name not in names
    ][:1]
