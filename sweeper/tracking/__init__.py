"""MLflow: a projection of the ledger for people. The only package that imports MLflow, and it does so late.

The driver writes to a :class:`Tracker`; readers use :func:`find_trial`; people look through :func:`serve_ui`
and :func:`serve_dashboard`.
"""

from sweeper.tracking.recorded.artifacts import Inventory
from sweeper.tracking.recorded.find import fetch_checkpoint, find_trial, runs_of
from sweeper.tracking.recorded.recorded_trial import RecordedTrial
from sweeper.tracking.recorded.registry import register_winner
from sweeper.tracking.schema import trial_yaml
from sweeper.tracking.store.client import artifact_root, tracking_uri
from sweeper.tracking.tracker import Tracker
from sweeper.tracking.ui.dashboard import serve_dashboard
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
    "serve_dashboard",
    "serve_ui",
    "tracking_uri",
    "trial_yaml",
]
