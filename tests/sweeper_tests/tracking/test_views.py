"""The prepared page for picking a winner: what is written, where it lands in MLflow, and the address that opens it."""

import base64
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow_helpers import start, uri_of
from studies import make_spec

from sweeper.errors import UserError
from sweeper.ledger.trial import TrialState
from sweeper.tracking import Tracker
from sweeper.tracking.callback import MLFLOW_STATUS
from sweeper.tracking.client import open_client
from sweeper.tracking.views import TAG, candidates_view, experiment_of, view_fragment

OpenTracker = Callable[..., Tracker]


def state_of(tag: str) -> dict[str, Any]:
    packed = json.loads(tag)["state"].removeprefix("deflate;")
    state: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(packed)))
    return state


def test_the_view_shows_candidates_best_first_with_what_decides() -> None:
    spec = make_spec()
    state = state_of(candidates_view(spec, 5)[TAG])
    assert state["searchFilter"] == "tags.`sweeper.role` = 'candidate'"
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`val/pa_mpjpe_mm`", True)
    columns = state["selectedColumns"]
    assert columns[:3] == ["metrics.`val/pa_mpjpe_mm`", "metrics.`val/theta_var_ratio`", "tags.`sweeper.state`"]
    assert columns[-1] == "tags.`sweeper.reason`"
    assert set(columns[3:-1]) == {f"params.`{path}`" for path in spec.search_space}
    assert all(state["columnWidths"][column] >= 8 * len(column.split("`")[1]) for column in columns)


def test_a_better_that_is_larger_is_first_too() -> None:
    spec = make_spec(objective={"metric": "val/accuracy", "mode": "max"})
    assert state_of(candidates_view(spec, 5)[TAG])["orderByAsc"] is False


def test_the_view_is_a_tag_of_the_experiment_and_the_address_names_it(home: Path, open_tracker: OpenTracker) -> None:
    tracker = open_tracker()
    start(tracker)
    tags = candidates_view(make_spec(), 5)
    tracker.tag_experiment(tags)
    assert tracker.flush(60) == 0
    experiment = open_client(uri_of(home)).get_experiment_by_name("toy")
    assert experiment.tags[TAG] == tags[TAG]
    address = view_fragment(experiment_of(uri_of(home), "toy"))
    assert address == (
        f"/experiments/{experiment.experiment_id}/runs?workflowType=machine_learning&viewStateShareKey=candidates"
    )
    with pytest.raises(UserError, match="MLflow has no experiment of the study `tyo`"):
        experiment_of(uri_of(home), "tyo")


def test_only_an_error_looks_like_an_error() -> None:
    red = {state for state, status in MLFLOW_STATUS.items() if status != "FINISHED"}
    assert red == {TrialState.FAILED}
