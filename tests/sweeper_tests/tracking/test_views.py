"""The prepared page for picking a winner: what is written, where it lands in MLflow, and the address that opens it."""

import base64
import json
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from mlflow_helpers import start, uri_of
from studies import make_spec

from mano_trainers.report import TrainerOffers
from sweeper.errors import UserError
from sweeper.ledger.trial import Report, TrialRecord, TrialState
from sweeper.search_space.paths import column_names
from sweeper.tracking import Tracker
from sweeper.tracking.callback import MLFLOW_STATUS
from sweeper.tracking.store.client import open_client
from sweeper.tracking.tags import shown_metrics, shown_params
from sweeper.tracking.ui.candidates_view import TAG, candidates_view, experiment_of, view_fragment

OpenTracker = Callable[..., Tracker]


def state_of(tag: str) -> dict[str, Any]:
    packed = json.loads(tag)["state"].removeprefix("deflate;")
    state: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(packed)))
    return state


def test_the_view_shows_candidates_best_first_with_the_decisive_columns() -> None:
    spec = make_spec()
    state = state_of(candidates_view(spec, 5)[TAG])
    assert state["searchFilter"] == "tags.`sweeper.role` = 'candidate'"
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`val/pa_mpjpe_mm`", True)
    columns = state["selectedColumns"]
    assert columns[:2] == ["metrics.`val/pa_mpjpe_mm`", "tags.`sweeper.state`"]
    assert columns[-2:] == ["tags.`sweeper.reason`", "metrics.`val/theta_var_ratio`"]
    assert set(columns[2:-2]) == {f"tags.`{name}`" for name in column_names(spec.search_space).values()}
    assert state["columnOrder"][-len(columns) :] == columns
    assert all(state["columnWidths"][column] >= 7.5 * len(column.split("`")[1]) for column in columns)


def test_the_view_shows_the_variance_that_the_trainer_names(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("own_trainer")
    module.OFFERS = TrainerOffers("val/spread", "val/r2", "val/gain", "val/gain_p", "train/share_")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "own_trainer", module)
    spec = make_spec().model_copy(update={"trainer": "own_trainer:train"})
    assert state_of(candidates_view(spec, 5)[TAG])["selectedColumns"][-1] == "metrics.`val/spread`"


def test_parameters_are_tags_as_a_table_shows_them() -> None:
    space = {"loss.lambda_pca": {"low": 0.1, "high": 1.0}, "optim.lr": {"low": 0.1, "high": 1.0}}
    space |= {"a.size": {"values": [1, 2]}, "b.size": {"choices": ["x", None]}}
    params = {"loss.lambda_pca": 0.123456, "optim.lr": 0.000123456, "a.size": 12345, "b.size": None}
    record = TrialRecord("toy-0000", 0, params)
    shown = shown_params(make_spec(search_space=space), record)
    assert shown == {"pca": "0.123", "lr": "0.000123", "a.size": "12345", "b.size": "null"}


def test_only_candidates_have_the_objective_under_the_name_that_sorts_first_as_well() -> None:
    spec, report = make_spec(), Report(1, 1.0, {"train/loss": 2.0, "val/pa_mpjpe_mm": 15.0}, None, 0)
    shown = shown_metrics(spec, TrialRecord("toy-0000", 0, {}), report)
    assert shown == {"train/loss": 2.0, "val/pa_mpjpe_mm": 15.0, "0_objective/val/pa_mpjpe_mm": 15.0}
    assert min(shown) == "0_objective/val/pa_mpjpe_mm"
    shown = shown_metrics(spec, TrialRecord("toy-zero", 0, {}, control="zero"), report)
    assert shown == {"control/train/loss": 2.0, "control/val/pa_mpjpe_mm": 15.0}


def test_an_objective_to_maximise_is_sorted_in_descending_order() -> None:
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
