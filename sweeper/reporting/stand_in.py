"""Lets a script written for W&B report to the sweep, without an account: its `import wandb` finds a stand-in."""

import os
from pathlib import Path
from typing import Final

OBJECTIVE: Final = "SWEEPER_OBJECTIVE"
"""Variable with the metric whose logging is a report."""


def environment(objective: str) -> dict[str, str]:
    """Variables for a process that is to find the stand-in before any installed wandb."""
    folder = str(Path(__file__).parent / "stand_in_modules")
    return {OBJECTIVE: objective, "PYTHONPATH": os.pathsep.join([folder, os.environ.get("PYTHONPATH", "")])}
