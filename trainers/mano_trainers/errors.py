"""Errors of the trainer that a person can fix. Imports nothing."""


class TrainerError(Exception):
    """Bad input to a training run. No traceback is shown.

    Args:
        what: what is wrong, in one sentence without a full stop.
        where: the place: a file, or a key of the config.
        help: how to fix it.
    """

    def __init__(self, what: str, where: str | None = None, help: str | None = None) -> None:
        super().__init__(what if where is None else f"{where}: {what}")
        self.what, self.where, self.help = what, where, help


class ConfigError(TrainerError):
    """The config asks for something that does not exist or does not fit."""


class DataError(TrainerError):
    """A file of the data or of the hand is missing, damaged, or not in its format."""


class CheckpointError(TrainerError):
    """A checkpoint is missing, incomplete, damaged, or belongs to something else."""
