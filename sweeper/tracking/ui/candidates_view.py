"""The MLflow page for choosing a winner: candidates only, best first, with what matters as columns.

MLflow keeps such a page, a shared view, as a tag of the experiment; an address that names it opens it. Tried with
MLflow 3.17: an older or newer one that does not know the tag ignores it.
"""

import base64
import json
import zlib
from collections.abc import Mapping
from typing import Any, Final

from sweeper.entrypoint.offers import offers_of
from sweeper.errors import UserError
from sweeper.search_space.paths import column_names
from sweeper.spec.resolve import SweepSpec
from sweeper.tracking.recorded.find import answering
from sweeper.tracking.schema import CHART_FIRST, metric_key
from sweeper.tracking.store.client import open_client

KEY: Final = "candidates"
OBJECTIVE: Final = "objective"
"""ID of the first section of charts."""
TAG: Final = f"mlflow.sharedViewState.{KEY}"
CHART_PX: Final = 420
"""Height of the objective's chart, with room for its legend."""
LETTER_PX: Final = 7.5
"""Of a column's head, which is bold."""
PADDING_PX: Final = 34
SORTED_PX: Final = 16
"""For the arrow beside the head by which rows are sorted."""
NARROWEST_PX: Final = 84
REASON_PX: Final = 300
WIDTHS_PX: Final = {"attributes.`Run Name`": 160, "runDateAndNestInfo": 84}
"""Of MLflow's own first columns; of the date its head and the icon of the run's state are left, so that all the rest
has room."""


def candidates_view(spec: SweepSpec, now_ms: int) -> dict[str, str]:
    """The tag of the experiment that holds the view of a study.

    Args:
        spec: of the study.
        now_ms: when the view is made, in milliseconds since 1970.
    """
    view = {
        "name": "Candidates, best first",
        "createdAt": now_ms,
        "updatedAt": now_ms,
        "state": "deflate;" + base64.b64encode(zlib.compress(json.dumps(_state(spec)).encode())).decode(),
    }
    return {TAG: json.dumps(view)}


def experiment_of(uri: str, study: str) -> str:
    """ID of the experiment of a study.

    Raises:
        UserError: MLflow has none, or does not answer.
    """
    with answering(uri):
        experiment = open_client(uri).get_experiment_by_name(study)
    if experiment is None:
        help = f"`sweeper list` names the studies; `sweeper sync {study}` sends what MLflow lacks"
        raise UserError(f"MLflow has no experiment of the study `{study}`", help=help)
    return str(experiment.experiment_id)


def experiments_fragment() -> str:
    """What follows # in the address of the list of experiments, of which each study has one."""
    return "/experiments?workflowType=machine_learning"


def view_fragment(experiment_id: str) -> str:
    """What follows # in the address of an experiment's view; the page opens as that of model training."""
    return f"/experiments/{experiment_id}/runs?workflowType=machine_learning&viewStateShareKey={KEY}"


def _state(spec: SweepSpec) -> Mapping[str, Any]:
    objective = f"metrics.`{metric_key(spec.objective.metric)}`"
    columns = [
        objective,
        "tags.`sweeper.state`",
        *(f"tags.`{name}`" for name in column_names(spec.search_space).values()),
        "tags.`sweeper.reason`",
        f"metrics.`{metric_key(offers_of(spec.trainer).variance_ratio)}`",
    ]
    return {
        "searchFilter": "tags.`sweeper.role` = 'candidate'",
        "orderByKey": objective,
        "orderByAsc": spec.objective.mode == "min",
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
        "columnOrder": [*WIDTHS_PX, *columns],
        "columnWidths": WIDTHS_PX | {column: _width_px(column) for column in columns},
        "runsHiddenMode": "FIRST_10_RUNS",
        "viewMaximized": True,
        "runListHidden": False,
        "isAccordionReordered": True,  # otherwise MLflow sorts the sections of charts by name
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "groupBy": None,
        "groupsExpanded": {},
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
        "compareRunSections": [
            {"uuid": OBJECTIVE, "name": "Objective", "display": True, "isReordered": True}
            | {"columns": len(spec.objectives), "cardHeight": CHART_PX}
        ],
        "compareRunCharts": [
            *(_line_chart(metric_key(each.metric)) for each in spec.objectives),
            # Marked as removed: MLflow adds a chart for each metric that has none.
            *(_line_chart(metric_key(f"{CHART_FIRST}{each.metric}"), is_removed=True) for each in spec.objectives),
        ],
    }


def _line_chart(metric: str, *, is_removed: bool = False) -> Mapping[str, Any]:
    """A metric over steps, a line for each trial; below it MLflow puts the metrics that have no chart."""
    return {
        "type": "LINE",
        "uuid": f"{OBJECTIVE}-{metric}",
        "metricSectionId": OBJECTIVE,
        "metricKey": metric,
        "displayName": metric,
        "deleted": is_removed,
        "isGenerated": True,
        "lineSmoothness": 0,
        "xAxisScaleType": "linear",
        "scaleType": "linear",
        "range": {},
        "xAxisKey": "step",
        "selectedXAxisMetricKey": "",
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "ignoreOutliers": False,
        "useGlobalXaxisKey": True,
        "useGlobalLineSmoothing": True,
    }


def _width_px(column: str) -> int:
    if column == "tags.`sweeper.reason`":
        return REASON_PX
    arrow_px = SORTED_PX if column.startswith("metrics.") else 0
    return round(max(NARROWEST_PX, LETTER_PX * len(column.split("`")[1]) + PADDING_PX + arrow_px))
