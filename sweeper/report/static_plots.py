"""The plots of a study, as SVG texts: how each trial went, and what each parameter did."""

import io
import math
from collections.abc import Sequence
from typing import Any, Final

from sweeper.ledger.trial import TrialRecord, TrialState
from sweeper.search_space.dimensions import short_names
from sweeper.spec.model import SpecFile
from sweeper.study.controls import control_values, spoken, value_of

COLOURS: Final = {
    TrialState.COMPLETE: "tab:green",
    TrialState.PRUNED: "tab:gray",
    TrialState.COLLAPSED: "tab:orange",
    TrialState.STOPPED: "tab:blue",
    TrialState.FAILED: "tab:red",
    TrialState.RUNNING: "tab:cyan",
    TrialState.PAUSED: "tab:cyan",
}
MOST_PARAMETERS: Final = 12


def study_figures(spec: SpecFile, trials: Sequence[TrialRecord], controls: Sequence[TrialRecord]) -> dict[str, str]:
    """Name -> SVG: `curves` (objective by epoch), `parameters` (objective by each parameter); without values none."""
    curved = [trial for trial in trials if any(math.isfinite(value) for _, value in _curve(spec, trial))]
    if not curved:
        return {}
    figures = {"curves": _curves(spec, curved, controls)}
    scored = [trial for trial in curved if value_of(trial, spec.objective) is not None]
    if scored:
        figures["parameters"] = _parameters(spec, scored)
    return figures


def _curve(spec: SpecFile, trial: TrialRecord) -> list[tuple[float, float]]:
    return [(report.epoch, report.metrics.get(spec.objective.metric, math.nan)) for report in trial.reports]


def _curves(spec: SpecFile, trials: Sequence[TrialRecord], controls: Sequence[TrialRecord]) -> str:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    for trial in trials:
        epochs, values = zip(*_curve(spec, trial), strict=True)
        axes.plot(epochs, values, color=COLOURS[trial.state], marker="o", markersize=3, linewidth=1)
    for control, value in control_values(controls, spec.objective).items():
        axes.axhline(value, color="black", linewidth=0.8, linestyle="--")
        axes.annotate(spoken(control), (1, value), xycoords=("axes fraction", "data"), ha="right", va="bottom")
    for state in dict.fromkeys(trial.state for trial in trials):
        axes.plot([], [], color=COLOURS[state], label=f"{sum(trial.state is state for trial in trials)} {state}")
    axes.legend()
    axes.set(xlabel="epoch", ylabel=spec.objective.metric)
    return _svg(figure)


def _parameters(spec: SpecFile, trials: Sequence[TrialRecord]) -> str:
    from matplotlib.figure import Figure

    paths = list(spec.search_space)[:MOST_PARAMETERS]
    columns = min(3, len(paths))
    rows = -(-len(paths) // columns)
    figure = Figure(figsize=(3.4 * columns, 2.8 * rows), layout="constrained")
    names = short_names(spec.search_space)
    for place, path in enumerate(paths, start=1):
        axes = figure.add_subplot(rows, columns, place)
        shown = [trial for trial in trials if path in trial.params]
        values = [trial.params[path] for trial in shown]
        numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        axes.scatter(
            values if numeric else [str(value) for value in values],
            [value_of(trial, spec.objective) or 0.0 for trial in shown],
            c=[COLOURS[trial.state] for trial in shown],
            s=16,
        )
        if numeric and getattr(spec.search_space[path], "log", False):
            axes.set_xscale("log")
        if not numeric:
            axes.tick_params("x", rotation=30)
        axes.set_xlabel(names[path])
    figure.supylabel(spec.objective.metric)
    return _svg(figure)


def _svg(figure: Any) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()
