"""Ablation and sweep orchestration for training image -> MANO hand-pose models.

`report`, `config`, `resume_from` and `workdir` are for training code, inside a sweep or outside.
"""

from sweeper.reporting.push import TrialStopped, config, report, resume_from, workdir

__all__ = ["TrialStopped", "__version__", "config", "report", "resume_from", "workdir"]

__version__ = "0.1.0"
