"""Whether a trainer trains several trials in one process: the constant `LANES = "package.module:function"` beside it
names the function, `train_lanes(next_round)`, which yields each lane's reports (`mano_trainers.lanes`). A function
`lanes_problem(configs, on_gpu) -> str | None` beside it, if there is one, says which trials it does not take together.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from mano_trainers import lane_rules
from mano_trainers.report import EpochReport, Lane
from sweeper.entrypoint.config_model import with_model
from sweeper.entrypoint.error_text import LONGEST_REASON, described
from sweeper.entrypoint.resolve import DEFAULT_TRAINER, config_class, current_name, load_trainer
from sweeper.redaction import plain

LANES: Final = "LANES"

TrainLanes = Callable[[Callable[[], Sequence[Lane]]], Iterator[tuple[Lane, EpochReport | BaseException | None]]]


def lanes_problem(trainer: str, configs: Sequence[Mapping[str, Any]], *, on_gpu: bool) -> str | None:
    """Why trials with these configs cannot share a process, or should not; None if they can. The default
    trainer is asked without importing it, because it imports torch.

    Raises:
        UserError: the trainer cannot be imported.
        ValidationError: its config model refuses a config.
    """
    if current_name(trainer) == DEFAULT_TRAINER:
        model = config_class(trainer)
        assert model is not None
        return lane_rules.lanes_problem([model.model_validate(dict(config)) for config in configs], on_gpu=on_gpu)  # type: ignore[misc]
    function = load_trainer(trainer)
    beside = vars(sys.modules[current_name(trainer).partition(":")[0]])
    if not isinstance(beside.get(LANES), str):
        return f"the trainer `{trainer}` declares no `{LANES}`"
    if (problem := beside.get("lanes_problem")) is None:
        return None
    taken = [with_model(function, config) for config in configs]
    try:
        said = problem(taken, on_gpu=on_gpu)
    except Exception as error:  # a function of the user may raise anything
        return f"`lanes_problem` of the trainer `{trainer}` failed: {described(error)}"
    return None if said is None else plain(str(said), LONGEST_REASON)


def lanes_function(trainer: str) -> TrainLanes:
    """The function that the trainer declares.

    Raises:
        UserError: the trainer or the function cannot be imported.
    """
    load_trainer(trainer)
    return load_trainer(getattr(sys.modules[current_name(trainer).partition(":")[0]], LANES))
