"""The tags and descriptions of a study's runs in MLflow, and the names of their metrics."""

import hashlib
from typing import Any, Final

from sweeper.ledger.trial import Report, TrialRecord
from sweeper.search_space.paths import column_names
from sweeper.search_space.value_text import value_text
from sweeper.spec.resolve import SweepSpec
from sweeper.tracking.schema import CHART_FIRST, CONTROL, TAG_LANES, TAG_RUN_TYPE, UNFOLDED

WINNER: Final = "sweeper.winner"
"""On the study's run the winner's ID; on a trial's, that it is the best, or no longer is."""


def note_of(record: TrialRecord) -> str:
    """The description on the run's page."""
    return f"{record.state.value}: {record.reason}"


def study_tags(spec: SweepSpec) -> dict[str, str]:
    """Of the study's run, when it starts."""
    return {
        "sweeper.objective": f"{spec.objective.metric}:{spec.objective.mode}",
        "sweeper.sampler": spec.sampler.name,
        "sweeper.retention": spec.retention,
        "sweeper.spec_sha256": hashlib.sha256(spec.text.encode()).hexdigest(),
    }


def trial_tags(spec: SweepSpec, record: TrialRecord) -> dict[str, Any]:
    """Of a trial's run, when it starts."""
    return {
        "sweeper.state": record.state,
        "sweeper.role": record.role,
        "sweeper.control": record.control,
        "sweeper.sampler": None if record.control else spec.sampler.name,
        TAG_RUN_TYPE: None if record.control else UNFOLDED,
        TAG_LANES: spec.resources.lanes if spec.resources.lanes > 1 and not record.control else None,
        "sweeper.gpus": spec.resources.gpus,  # without one, a rerun must not take one either
        **shown_params(spec, record),
    }


def shown_params(spec: SweepSpec, record: TrialRecord) -> dict[str, str]:
    """The parameters as tags for people, under the names of a table's columns and with three digits: MLflow's page
    shows a param's whole path, and all 17 digits."""
    names = column_names(spec.search_space)
    return {names[path]: value_text(value) for path, value in record.params.items() if path in names}


def shown_metrics(spec: SweepSpec, record: TrialRecord, report: Report) -> dict[str, float]:
    """The metrics of an evaluation, under names by which MLflow's lists and charts show the candidates."""
    if record.control:
        return {f"{CONTROL}{name}": value for name, value in report.metrics.items()}
    judged_by = [each.metric for each in spec.objectives if each.metric in report.metrics]
    first = {f"{CHART_FIRST}{name}": report.metrics[name] for name in judged_by}
    return {**first, **report.metrics}  # MLflow's page of compared runs opens on the first
