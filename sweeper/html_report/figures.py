"""The figures that every study has: curves, variance against error, objectives, gradient shares, cost."""

import math
from typing import Any, Final

from sweeper.html_report.data import GRAD_SHARE, StudyData, costs, device_of, metrics_of, share_terms, title_of
from sweeper.html_report.style import (
    DRAWN,
    Figure,
    Trace,
    by_state,
    colour,
    cut,
    log_ticks,
    marker,
    numbers,
    params_text,
    plain,
    short,
    value_axis,
    with_controls,
    wrapped,
)
from sweeper.ledger.trial import TrialRecord
from sweeper.pruning.asha import bracket_of, rung_epochs
from sweeper.spec.model import VARIANT
from sweeper.spec.sections import CollapseGuard
from sweeper.study.pareto import objective_values, pareto_front
from sweeper.study.usage.budget import duration_text
from sweeper.views.tables.trial_table import VARIANCE

LEAST_RATIO: Final = 1e-4
"""Where smaller variance ratios are drawn: a logarithmic axis has no zero."""
TERM_COLOURS: Final = 8
ID_LINE: Final = "<b>%{customdata}</b>"


def curves(data: StudyData) -> list[Figure]:
    """The objective by epoch: every trial in the colour of its state, with the rungs, and the controls as lines."""
    metric = data.spec.objective.metric
    drawn = [trial for trial in data.trials if any(math.isfinite(v) for _, v in _curve(data, trial))]
    if not drawn:
        return []
    traces: list[Trace] = []
    for state in DRAWN:
        own = [trial for trial in drawn if trial.state is state]
        if own:
            traces += [_lines(data, own), _ends(data, own, len(drawn))]
    if data.winner is not None and data.winner in drawn:
        traces.append(_lines(data, [data.winner]) | {"line": {"color": "var(--text)", "width": 2.5}, "opacity": 1})
    values = [value for trial in drawn for _, value in _curve(data, trial)]
    layout = with_controls(data, values)
    rungs = _rung_lines(data)
    layout |= {"xaxis": {"title": {"text": "epoch"}, "rangemode": "tozero", "zeroline": False}, "height": 460}
    layout["shapes"] += rungs
    said = f"{title_of(metric)} by epoch. A symbol ends each curve and says how the trial ended; the winner is bold."
    said += " Dotted lines are rungs, at which trials are ranked." if rungs else ""
    return [Figure("curves", said, traces, layout)]


def variance(data: StudyData) -> list[Figure]:
    """How varied the predictions are against the error: collapsed trials are on the left."""
    shown = [t for t in data.trials if VARIANCE in metrics_of(t) and data.objective_of(t) is not None]
    shown = [trial for trial in shown if math.isfinite(metrics_of(trial)[VARIANCE])]
    if not shown:
        return []
    guard = next((guard for guard in data.spec.guards if isinstance(guard, CollapseGuard)), None)
    hover = VARIANCE.removeprefix("val/") + " %{x:.3g}<br>" + plain(title_of(data.spec.objective.metric)) + " %{y:.4g}"
    ratios = [max(LEAST_RATIO, metrics_of(trial)[VARIANCE]) for trial in shown]
    traces = by_state(data, shown, numbers(ratios), numbers(map(data.objective_of, shown)), hover)
    layout = with_controls(data, [data.objective_of(trial) or 0.0 for trial in shown])
    layout["height"] = 420
    layout["xaxis"] = {
        "title": {"text": VARIANCE.removeprefix("val/") + " (1: as varied as the labels)"},
        "type": "log",
        "range": [math.log10(LEAST_RATIO) - 0.15, math.log10(max(1.0, *ratios)) + 0.15],
        "zeroline": False,
        **log_ticks(math.log10(LEAST_RATIO), math.log10(max(1.0, *ratios))),
    }
    said = (
        "Variance of the predicted poses over that of the labels, against the error, at each trial's last evaluation; "
        f"smaller values are drawn at {LEAST_RATIO:g}."
    )
    if guard is not None:
        region = {
            "type": "rect",
            "x0": LEAST_RATIO / 2,
            "x1": guard.var_ratio_below,
            "y0": 0,
            "y1": 1,
            "layer": "below",
        }
        fill = {"yref": "paper", "fillcolor": "var(--collapsed-area)", "line": {"width": 0}}
        layout["shapes"].insert(0, region | fill)
        said += f" Shaded: below {guard.var_ratio_below:g}, where the guard `{guard.name}` looks."
    return [Figure("variance", said, traces, layout)]


def variants(data: StudyData) -> list[Figure]:
    """The objective of every run, a row per variant."""
    names = list(data.spec.variants)
    shown = [trial for trial in data.trials if VARIANT in trial.params and data.objective_of(trial) is not None]
    if not names or not shown:
        return []
    # Upright names are easier to read than slanted ones, so the objective is on the x axis here.
    places = [names.index(str(trial.params[VARIANT])) for trial in shown]
    values = [data.objective_of(trial) for trial in shown]
    metric = plain(title_of(data.spec.objective.metric))
    points = by_state(data, shown, numbers(values), [float(place) for place in places], metric + " %{x:.4g}")
    axis = {"tickvals": list(range(len(names))), "ticktext": [plain(cut(name, 28)) for name in names]}
    layout = {
        "xaxis": value_axis(data, [value for value in values if value is not None]),
        "yaxis": axis | {"range": [len(names) - 0.5, -0.5], "automargin": True},
        "height": 90 + max(22 * len(names), 120),
    }
    return [Figure("variant-runs", "Every run at its last evaluation, in the colour of its state.", points, layout)]


def fronts(data: StudyData) -> list[Figure]:
    """With several objectives, the first against each of the others, with the Pareto front."""
    first, *others = data.spec.objectives
    front = {trial.id for trial in pareto_front(data.trials, data.spec.objectives)}
    figures = []
    for place, other in enumerate(others, start=1):
        shown = [t for t in data.trials if None not in _pair(data, t, place)]
        if not shown:
            continue
        best = sorted(_pair(data, trial, place) for trial in shown if trial.id in front)
        hover = f"{plain(title_of(first.metric))} %{{x:.4g}}<br>{plain(title_of(other.metric))} %{{y:.4g}}"
        pairs = [_pair(data, trial, place) for trial in shown]
        traces = by_state(data, shown, numbers(x for x, _ in pairs), numbers(y for _, y in pairs), hover)
        line = {"color": "var(--text)", "width": 1.5, "dash": "dot"}
        points = {"x": [x for x, _ in best], "y": [y for _, y in best], "hoverinfo": "skip", "name": "Pareto front"}
        traces.insert(0, {"type": "scatter", "mode": "lines", "line": line, **points})
        axes = {
            axis: {"title": {"text": plain(title_of(one.metric))}, "zeroline": False}
            for axis, one in (("xaxis", first), ("yaxis", other))
        }
        said = (
            f"{title_of(first.metric)} ({first.mode}) against {title_of(other.metric)} ({other.mode}). The dotted line "
            "joins the trials that no other is as good as in all objectives and better than in one."
        )
        figures.append(Figure(f"front-{place}", said, traces, {**axes, "height": 420}))
    return figures


def shares(data: StudyData) -> list[Figure]:
    """What share of the gradient each loss term has: for the winner by epoch, and for every trial at its end."""
    terms = share_terms(data.trials)
    if not terms:
        return []
    figures = []
    below = {"orientation": "h", "y": -0.22, "x": 0, "traceorder": "normal"}
    legend = {"showlegend": True, "legend": below, "height": 400}
    yaxis = {"title": {"text": "share of the gradient"}, "range": [0, 1], "tickformat": ".0%"}
    if data.winner is not None and len(data.winner.reports) > 1:
        reports = data.winner.reports
        area = {"type": "scatter", "mode": "lines", "stackgroup": "terms", "x": [short(r.epoch) for r in reports]}
        traces = [
            area | _term(term, index, [r.metrics.get(GRAD_SHARE + term) for r in reports])
            for index, term in enumerate(terms)
        ]
        layout = legend | {"xaxis": {"title": {"text": "epoch"}}, "yaxis": yaxis}
        figures.append(Figure("shares-winner", f"The winner, {data.winner.id}, by epoch.", traces, layout))
    objective = data.spec.objective
    shown = [trial for trial in data.trials if any(GRAD_SHARE + term in metrics_of(trial) for term in terms)]
    values = {trial.id: data.objective_of(trial) for trial in shown}
    shown.sort(key=lambda trial: math.inf if (value := values[trial.id]) is None else objective.loss(value))
    places = list(range(1, len(shown) + 1))
    bars = [
        {"type": "bar", "x": places, "customdata": [plain(trial.id) for trial in shown]}
        | _term(term, index, [metrics_of(trial).get(GRAD_SHARE + term) for trial in shown])
        for index, term in enumerate(terms)
    ]
    for bar in bars:
        bar["hovertemplate"] = "<b>%{customdata}</b><br>%{fullData.name} %{y:.1%}<extra></extra>"
    xaxis = {"title": {"text": f"rank by {plain(title_of(data.spec.objective.metric))}, best first"}, "nticks": 10}
    layout = legend | {"xaxis": xaxis, "yaxis": yaxis, "barmode": "stack", "bargap": 0.1 if len(shown) < 60 else 0}
    said = "Every trial at its last evaluation, best first."
    return [*figures, Figure("shares-trials", said, bars, layout)]


def cost(data: StudyData) -> list[Figure]:
    """Where the device-hours went, by state, and what stopping early saved."""
    rows = [row for row in costs(data) if row.used_s > 0 or row.saved_s > 0]
    if not rows:
        return []
    device, share = device_of(data.spec)
    longest = max(row.used_s + row.saved_s for row in rows) * share
    unit, seconds = ("hours", 3600.0) if longest >= 7200 else ("minutes", 60.0) if longest >= 120 else ("seconds", 1.0)
    names = [row.name for row in rows]
    colours = [colour(row.state) if row.state else "var(--muted)" for row in rows]
    bar: Trace = {"type": "bar", "orientation": "h", "y": names}
    used = bar | {"x": numbers(row.used_s * share / seconds for row in rows), "name": "used"}
    used["customdata"] = [f"{row.trials} trials, {duration_text(row.used_s * share)}" for row in rows]
    used |= {"marker": {"color": colours}, "hovertemplate": "<b>%{y}</b><br>used: %{customdata}<extra></extra>"}
    saved = bar | {"x": numbers(row.saved_s * share / seconds for row in rows), "name": "saved by stopping early"}
    saved["customdata"] = [duration_text(row.saved_s * share) for row in rows]
    pattern = {"shape": "/", "fgcolor": colours, "bgcolor": "var(--card)", "size": 7, "solidity": 0.35}
    saved |= {"marker": {"color": colours, "pattern": pattern}}
    saved["hovertemplate"] = "<b>%{y}</b><br>saved: %{customdata}<extra></extra>"
    layout = {
        "barmode": "stack",
        "xaxis": {"title": {"text": f"{device}-{unit}"}, "rangemode": "tozero"},
        "yaxis": {"automargin": True, "autorange": "reversed"},
        "height": 110 + 44 * len(rows),
    }
    said = f"{device}-{unit} that trials held, by how they ended; hatched: what stopping them early saved, about."
    return [Figure("cost", said, [used, saved], layout)]


def _curve(data: StudyData, trial: TrialRecord) -> list[tuple[float, float]]:
    metric = data.spec.objective.metric
    return trial.curve(metric)


def _lines(data: StudyData, trials: list[TrialRecord]) -> Trace:
    """The curves of trials of one state, in one trace; None lifts the pen."""
    state = trials[0].state
    x: list[float | None] = []
    y: list[float | None] = []
    ids: list[str] = []
    for trial in trials:
        points = _curve(data, trial)
        x += [*numbers(epoch for epoch, _ in points), None]
        y += [*numbers(value for _, value in points), None]
        ids += [plain(trial.id)] * (len(points) + 1)
    return {
        "type": "scatter",
        "mode": "lines",
        "x": x,
        "y": y,
        "customdata": ids,
        "line": {"color": colour(state), "width": 1.5 if len(trials) < 60 else 1},
        "opacity": 0.75 if len(trials) < 60 else 0.4,
        "name": data.state_names[state],
        "meta": {"state": state.value},
        "hovertemplate": f"{ID_LINE} {data.state_names[state]}<br>epoch %{{x:g}}: %{{y:.4g}}<extra></extra>",
    }


def _ends(data: StudyData, trials: list[TrialRecord], among: int) -> Trace:
    """The symbols at the ends of curves; a curve that ends with no number has its symbol at the last one."""
    state = trials[0].state
    name = data.state_names[state]
    last = [[point for point in _curve(data, trial) if math.isfinite(point[1])][-1] for trial in trials]
    return {
        "type": "scatter",
        "mode": "markers",
        "x": numbers(epoch for epoch, _ in last),
        "y": numbers(value for _, value in last),
        "customdata": [plain(trial.id) for trial in trials],
        "text": [f"{params_text(data, trial)}<br><i>{wrapped(trial.reason)}</i>" for trial in trials],
        "marker": marker(state, among),
        "name": name,
        "meta": {"state": state.value},
        "hovertemplate": f"{ID_LINE} {name}<br>epoch %{{x:g}}: %{{y:.4g}}<br>%{{text}}<extra></extra>",
    }


def _rung_lines(data: StudyData) -> list[dict[str, Any]]:
    scheduler = data.spec.scheduler
    ends = [report.total_epochs or report.epoch for trial in data.trials for report in trial.reports[-1:]]
    if scheduler.name == "none" or not ends:
        return []
    brackets = {bracket_of(scheduler, trial.number) for trial in data.trials}
    graces = {scheduler.grace_epochs * scheduler.eta**bracket for bracket in brackets}
    rungs = {rung for grace in graces for rung in rung_epochs(grace, scheduler.eta, max(ends))}
    line = {"color": "var(--muted)", "width": 1, "dash": "dot"}
    return [
        {"type": "line", "x0": rung, "x1": rung, "y0": 0, "y1": 1, "yref": "paper", "layer": "below", "line": line}
        for rung in sorted(rungs)
    ]


def _pair(data: StudyData, trial: TrialRecord, place: int) -> tuple[float | None, float | None]:
    values = objective_values(trial, data.spec.objectives)
    return values[0], values[place]


def _term(term: str, index: int, values: list[float | None]) -> Trace:
    tint = f"var(--term-{index % TERM_COLOURS})"
    named = {"name": plain(term), "y": numbers(values), "hovertemplate": "%{fullData.name} %{y:.1%}<extra></extra>"}
    return named | {"marker": {"color": tint}, "line": {"color": tint, "width": 0.5}, "fillcolor": tint}
