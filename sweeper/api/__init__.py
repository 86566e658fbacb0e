"""Sweeps from Python and notebooks: `sweeper.run`, `sweeper.load`, and what a study holds as data frames."""

from sweeper.api.study import Study, Trial, load, run

__all__ = ["Study", "Trial", "load", "run"]
