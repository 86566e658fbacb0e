"""Stub."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class RecordedTrial:
    """A trial as MLflow remembers it."""

    study: str
    trial_id: str
    run_id: str
    config: dict[str, Any]
    trainer: str
    metrics: dict[int, dict[str, float]]
    provenance: dict[str, Any]
    tags: dict[str, str]


def find_trial(uri: str, selector: str) -> RecordedTrial:
    """Find."""
    raise NotImplementedError
