"""The figures of the search space: parallel coordinates, importance, each parameter, maps of collapse."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sweeper.analysis.importance import importances_of
from sweeper.html_report.collapse import GRID, collapse_share, collapsed_regions
from sweeper.html_report.data import Axis, StudyData, title_of
from sweeper.html_report.style import (
    DRAWN,
    Figure,
    Trace,
    axis_layout,
    axis_values,
    by_state,
    colour,
    cut,
    numbers,
    plain,
    short,
    value_axis,
)
from sweeper.ledger.trial import TrialRecord
from sweeper.samplers.importance import NOISE
from sweeper.search_space.value_text import value_text

LAMBDA: Final = "lambda_"
MOST_MAPPED: Final = 8
"""Parameters of the maps, which come in pairs."""
AXIS_PX: Final = 140


def parallel(data: StudyData) -> list[Figure]:
    """Every trial as a line through its parameters to its objective."""
    values = {trial.id: value for trial in data.trials if (value := data.objective_of(trial)) is not None}
    axes = data.axes
    if not axes or not data.trials:
        return []
    ends = _ends(list(values.values()), data.spec.objective.mode)
    traces: list[Trace] = []
    for state in DRAWN:
        own = [trial for trial in data.trials if trial.state is state]
        if own:
            traces.append(_parallel_lines(data, own, axes, values, ends))
    if data.winner is not None:
        bold = {"line": {"color": "var(--text)", "width": 2.5}, "opacity": 1}
        traces.append(_parallel_lines(data, [data.winner], axes, values, ends) | bold)
    columns = [*axes, *([Axis("", title_of(data.spec.objective.metric), "linear", *ends)] if values else [])]
    upright = {"type": "line", "y0": 0, "y1": 1, "layer": "below", "line": {"color": "var(--muted)", "width": 1}}
    notes = [note for place, axis in enumerate(columns) for note in _parallel_ticks(axis, place)]
    layout = {
        "xaxis": {"visible": False, "range": [-0.5, len(columns) - 0.5], "fixedrange": True},
        "yaxis": {"visible": False, "range": [-0.09, 1.14], "fixedrange": True},
        "shapes": [upright | {"x0": place, "x1": place} for place in range(len(columns))],
        "annotations": notes,
        "height": 420,
        "margin": {"l": 10, "r": 10, "t": 10, "b": 10},
    }
    said = "Every trial is a line through its parameters to its objective, at the right; the winner is bold."
    return [Figure("parallel", said, traces, layout, min_width_px=AXIS_PX * len(columns))]


def importance(data: StudyData) -> list[Figure]:
    """How much each parameter determines the objective, next to a meaningless one."""
    if data.spec.variants:
        return []
    found = importances_of(data.study, data.spec, data.trials, "ped-anova")
    if not found.shares:
        return []
    names = {axis.path: axis.name for axis in data.axes}
    shares = [(plain(cut(names[path], 24)), share, "var(--complete)") for path, share in found.shares.items()]
    shares.append((plain(NOISE), found.noise, "var(--muted)"))
    bars: Trace = {
        "type": "bar",
        "orientation": "h",
        "y": [name for name, _, _ in shares],
        "x": numbers(share for _, share, _ in shares),
        "marker": {"color": [tint for _, _, tint in shares]},
        "hovertemplate": "<b>%{y}</b> %{x:.0%}<extra></extra>",
    }
    layout = {
        "xaxis": {"title": {"text": "share of the objective"}, "tickformat": ".0%", "rangemode": "tozero"},
        "yaxis": {"automargin": True, "autorange": "reversed"},
        "height": 110 + 26 * len(shares),
    }
    at = "at the end" if found.epoch is None else f"up to epoch {found.epoch:g}"
    said = f"What {title_of(found.metric)} {at} depends on, by {found.evaluator} over {found.trials} trials."
    said += f" {NOISE} means nothing: what scores no higher was not found to matter."
    if found.left_out:
        said += f" Left out, because only some trials have them: {', '.join(found.left_out)}."
    said += f" Warning: {found.warning}." if found.warning else ""
    return [Figure("importance", said, [bars], layout)]


def against_parameters(data: StudyData) -> list[Figure]:
    """The objective against each parameter, with the region where most trials collapsed."""
    scored = [trial for trial in data.trials if data.objective_of(trial) is not None]
    figures = []
    for place, axis in enumerate(data.axes):
        shown = [trial for trial in scored if axis.path in trial.params]
        if not shown:
            continue
        metric = plain(title_of(data.spec.objective.metric))
        x = "%{x:.3g}" if axis.kind != "category" else "%{x}"
        hover = f"{plain(axis.name)} {x}<br>{metric} %{{y:.4g}}"
        values = [data.objective_of(trial) for trial in shown]
        traces = by_state(data, shown, axis_values(axis, shown), numbers(values), hover)
        region = {"type": "rect", "y0": 0, "y1": 1, "yref": "paper", "layer": "below"}
        region |= {"fillcolor": "var(--collapsed-area)", "line": {"width": 0}}
        layout = {
            "xaxis": axis_layout(axis),
            "yaxis": value_axis(data, [value for value in values if value is not None]),
            "shapes": [
                region | {"x0": short(low), "x1": short(high)} for low, high in collapsed_regions(data.trials, axis)
            ],
            "height": 300,
        }
        figures.append(Figure(f"parameter-{place}", "", traces, layout))
    return figures


def collapse_maps(data: StudyData) -> list[Figure]:
    """Where trials collapse, for each pair of loss weights, or of numbers where there are no two weights."""
    figures = []
    for first, second in combinations(mapped_axes(data), 2):
        shown = [t for t in data.trials if first.path in t.params and second.path in t.params]
        share = collapse_share(shown, [first, second])
        if np.isfinite(share).any():
            figures.append(_map(data, first, second, shown, share))
    return figures


def mapped_axes(data: StudyData) -> list[Axis]:
    """The parameters of the maps: the loss weights, or if there are fewer than two, all numbers; the first few."""
    axes = [axis for axis in data.axes if axis.kind != "category"]
    weights = [axis for axis in axes if axis.path.rpartition(".")[2].startswith(LAMBDA)]
    return (weights if len(weights) > 1 else axes)[:MOST_MAPPED]


def _map(
    data: StudyData, first: Axis, second: Axis, shown: Sequence[TrialRecord], share: NDArray[np.float64]
) -> Figure:
    hover = f"{plain(first.name)} %{{x:.3g}}<br>{plain(second.name)} %{{y:.3g}}"
    points = by_state(data, shown, axis_values(first, shown), axis_values(second, shown), hover)
    line = [step / (GRID - 1) for step in range(GRID)]
    area: Trace = {
        "type": "contour",
        "x": [short(first.at(unit)) for unit in line],
        "y": [short(second.at(unit)) for unit in line],
        "z": [[None if z != z else round(float(z), 2) for z in row] for row in share],
        "zmin": 0,
        "zmax": 1,
        "autocontour": False,
        "contours": {"start": 0.5, "end": 0.5, "size": 1, "coloring": "heatmap"},
        "line": {"color": "var(--text)", "width": 1.5},
        "colorscale": [[0, "var(--collapsed-none)"], [1, "var(--collapsed-strong)"]],
        "showscale": False,
        "connectgaps": False,
        "hoverinfo": "skip",
        "name": "share collapsed",
    }
    layout = {"xaxis": axis_layout(first), "yaxis": axis_layout(second), "height": 320}
    return Figure(f"map-{first.path}-{second.path}", "", [area, *points], layout)


def _parallel_lines(
    data: StudyData,
    trials: Sequence[TrialRecord],
    axes: Sequence[Axis],
    values: dict[str, float],
    ends: tuple[float, float],
) -> Trace:
    state = trials[0].state
    x: list[float | None] = []
    y: list[float | None] = []
    ids: list[str] = []
    texts: list[str] = []
    low, high = ends
    for trial in trials:
        for place, axis in enumerate(axes):
            x.append(place)
            y.append(short(axis.unit(trial.params[axis.path])) if axis.path in trial.params else None)
        value = values.get(trial.id)
        x += [len(axes), None]
        y += [None if value is None else short(min(1.03, max(-0.03, (value - low) / (high - low)))), None]
        ids += [plain(trial.id)] * (len(axes) + 2)
        objective = data.spec.objective
        said = "" if value is None else f"{plain(title_of(objective.metric))} {objective.number(value)}"
        texts += [said] * (len(axes) + 2)
    many = len(data.trials) >= 60
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "x": x,
        "y": y,
        "customdata": ids,
        "text": texts,
        "line": {"color": colour(state), "width": 1 if many else 1.5},
        "marker": {"size": 4, "color": colour(state)},
        "opacity": 0.35 if many else 0.7,
        "name": data.state_names[state],
        "meta": {"state": state.value},
        "hovertemplate": f"<b>%{{customdata}}</b> {data.state_names[state]}<br>%{{text}}<extra></extra>",
    }


def _parallel_ticks(axis: Axis, place: int) -> list[dict[str, Any]]:
    """The name above an upright, and the values along it."""
    note = {"x": place, "showarrow": False, "font": {"size": 11}}
    name = note | {"y": 1.06, "yanchor": "bottom", "text": f"<b>{plain(cut(axis.name, 20))}</b>"}
    if axis.kind == "category":
        count = max(1, len(axis.categories) - 1)
        step = -(-len(axis.categories) // 12)
        marks = [(i / count if len(axis.categories) > 1 else 0.5, t) for i, t in enumerate(axis.categories)][::step]
    else:
        marks = [(unit, value_text(axis.at(unit))) for unit in (0, 0.25, 0.5, 0.75, 1)]
    tick = note | {"xanchor": "right", "xshift": -5, "bgcolor": "var(--card-veil)", "borderpad": 1}
    return [name, *(tick | {"y": unit, "text": plain(cut(text, 14))} for unit, text in marks)]


def _ends(values: list[float], mode: str) -> tuple[float, float]:
    """The ends of the objective's upright; the worst twentieth is beyond them."""
    if not values:
        return (0.0, 1.0)
    ordered = sorted(values)
    cut = len(ordered) // 20
    low, high = (ordered[0], ordered[-1 - cut]) if mode == "min" else (ordered[cut], ordered[-1])
    return (low, high) if high > low else (low - 0.5, low + 0.5)
