"""What a trainer says about the work of an epoch: the function `epoch_work(config)` beside it."""

from collections.abc import Mapping
from contextlib import redirect_stdout
from sys import modules, stderr
from typing import Any

from mano_trainers import epoch_work as of_hands
from mano_trainers.report import EpochWork
from sweeper.entrypoint.config_model import with_model
from sweeper.entrypoint.error_text import described
from sweeper.entrypoint.resolve import DEFAULT_TRAINER, config_class, current_name, load_trainer
from sweeper.errors import UserError


def epoch_work(trainer: str, config: Mapping[str, Any]) -> EpochWork | None:
    """The images of an epoch of this config, and the GPUs' rates; None if the trainer says nothing. The default
    trainer is asked without importing it, because it imports torch.

    Raises:
        UserError: the trainer cannot be imported, or what it has beside it fails, or returns something else.
    """
    if current_name(trainer) == DEFAULT_TRAINER:
        model = config_class(trainer)
        assert model is not None
        return of_hands.epoch_work(model.model_validate(dict(config)))  # type: ignore[arg-type]
    load_trainer(trainer)
    function = getattr(modules[current_name(trainer).partition(":")[0]], "epoch_work", None)
    if function is None:
        return None
    try:
        with redirect_stdout(stderr):
            work = function(with_model(function, config))
    except Exception as error:  # a function of the user may raise anything
        raise UserError(f"`epoch_work` of trainer `{trainer}` failed: {described(error)}") from error
    if work is not None and not isinstance(work, EpochWork):
        help = "return a `mano_trainers.report.EpochWork`, or None"
        raise UserError(f"`epoch_work` of trainer `{trainer}` returned a {type(work).__name__}", help=help)
    return work
