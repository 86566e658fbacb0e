"""MLflow: a projection of the ledger for people. The only package that imports MLflow, and it does so late.

The driver writes to a :class:`Tracker`; readers use :func:`find_trial`; people look through :func:`serve_ui`.
"""

from sweeper.tracking.artifacts import Inventory
from sweeper.tracking.client import artifact_root, tracking_uri
from sweeper.tracking.find import RecordedTrial, fetch_checkpoint, find_trial, runs_of
from sweeper.tracking.registry import register_winner
from sweeper.tracking.schema import trial_yaml
from sweeper.tracking.tracker import Tracker
from sweeper.tracking.ui.server import serve_ui

__all__ = [
    "Inventory",
    "RecordedTrial",
    "Tracker",
    "artifact_root",
    "fetch_checkpoint",
    "find_trial",
    "register_winner",
    "runs_of",
    "serve_ui",
    "tracking_uri",
    "trial_yaml",
]
