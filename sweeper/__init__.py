"""Ablation and sweep orchestration for training image -> MANO hand-pose models.

`run` and `load` are for notebooks and scripts that sweep; `report`, `config`, `resume_from` and `workdir` for training
code, inside a sweep or outside; a trainer that is a generator may yield `EpochReport`s.
"""

from typing import TYPE_CHECKING, Any

from mano_trainers.report import EpochReport
from sweeper.reporting.push import TrialStopped, config, report, resume_from, workdir

if TYPE_CHECKING:
    from sweeper.api import Study, Trial, load, run

__all__ = [
    "EpochReport",
    "Study",
    "Trial",
    "TrialStopped",
    "__version__",
    "config",
    "load",
    "report",
    "resume_from",
    "run",
    "workdir",
]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`run`, `load`, `Study`, `Trial`: imported when asked for, since a training script that reports needs none."""
    if name not in ("Study", "Trial", "load", "run"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from sweeper import api

    return getattr(api, name)
