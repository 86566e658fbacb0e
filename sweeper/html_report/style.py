"""What all figures share: how a state looks, how an axis is drawn, how numbers and words get into a figure.

A figure is Plotly's JSON. Colours are the names of variables of `page.css`, `var(--complete)`, which the page replaces,
so that light and dark have their own.
"""

import html
import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sweeper.html_report.data import Axis, StudyData, title_of
from sweeper.ledger.trial import TrialRecord, TrialState
from sweeper.search_space.value_text import value_text
from sweeper.study.controls import control_values, spoken

SYMBOLS: Final = {
    TrialState.COMPLETE: "circle",
    TrialState.PRUNED: "triangle-down",
    TrialState.COLLAPSED: "x",
    TrialState.STOPPED: "diamond",
    TrialState.FAILED: "square",
    TrialState.INFEASIBLE: "cross",
    TrialState.RUNNING: "circle-open",
    TrialState.PAUSED: "diamond-open",
}
GLYPHS: Final = dict(zip(SYMBOLS, "●▼✖◆■✚○◇", strict=True))
"""The same symbols as characters, for the text of the page."""
DRAWN: Final = (
    TrialState.PRUNED,
    TrialState.STOPPED,
    TrialState.FAILED,
    TrialState.INFEASIBLE,
    TrialState.PAUSED,
    TrialState.RUNNING,
    TrialState.COLLAPSED,
    TrialState.COMPLETE,
)
"""The states in the order in which they are drawn: the last is on top."""
LINE: Final = 46

Trace = dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """One figure of the page.

    Attributes:
        id: of its element.
        caption: what it shows, in a sentence.
        traces: Plotly's `data`.
        layout: Plotly's `layout`; colours and fonts of the page come on top.
        min_width_px: on a narrower screen the figure scrolls on its own.
    """

    id: str
    caption: str
    traces: Sequence[Trace]
    layout: dict[str, Any] = field(default_factory=dict)
    min_width_px: int = 0

    def to_json(self) -> dict[str, Any]:
        """As the page's script reads it."""
        return {"id": self.id, "data": list(self.traces), "layout": self.layout}


def colour(state: TrialState) -> str:
    """The colour of a state, the same in every figure and in the table."""
    return f"var(--{state.value.lower()})"


def plain(text: str) -> str:
    """Text for a figure: Plotly reads some tags, so none may be left."""
    return html.escape(text, quote=False)


def cut(text: str, length: int) -> str:
    """The start of a text that is too long for its place."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def wrapped(text: str) -> str:
    """A long sentence in lines, for a hover label."""
    return "<br>".join(plain(line) for line in textwrap.wrap(text, LINE, max_lines=6))


def short(value: float | None) -> float | None:
    """Five digits of a number, which is more than a figure shows; None for one that is not finite."""
    return float(f"{value:.5g}") if value is not None and math.isfinite(value) else None


def numbers(values: Iterable[float | None]) -> list[float | None]:
    """`short` of each."""
    return [short(value) for value in values]


def axis_values(axis: Axis, trials: Iterable[TrialRecord]) -> list[Any]:
    """A parameter's values as its axis takes them: a number, or the index of a category."""
    values = [trial.params[axis.path] for trial in trials]
    return [axis.index(value) if axis.kind == "category" else short(float(value or 0.0)) for value in values]


def axis_layout(axis: Axis) -> dict[str, Any]:
    """Plotly's axis for a parameter, from end to end."""
    layout: dict[str, Any] = {"title": {"text": plain(cut(axis.name, 36))}, "zeroline": False}
    if axis.kind == "category":
        texts = [plain(cut(text, 16)) for text in axis.categories]
        if sum(map(len, texts)) > 40:
            layout["tickangle"] = -35  # otherwise Plotly leaves out what is too long
        ends = [-0.5, len(texts) - 0.5]
        return layout | {"tickvals": list(range(len(texts))), "ticktext": texts, "range": ends, "automargin": True}
    low, high = (math.log10(end) if axis.kind == "log" else end for end in (axis.low, axis.high))
    margin = 0.03 * (high - low) or 0.5
    layout |= {"type": axis.kind, "range": [short(low - margin), short(high + margin)]}
    return layout | (log_ticks(low, high) if axis.kind == "log" else {"nticks": 6})


def log_ticks(low: float, high: float) -> dict[str, Any]:
    """Ticks of a logarithmic axis: whole decades, or where there are few of them 1, 2, 5. `low`, `high`: exponents."""
    first, last = math.floor(low), math.ceil(high)
    step = max(1, math.ceil((high - low) / 6))
    digits = (1, 2, 5) if high - low < 1.5 else (1,)
    ticks = [digit * 10.0**decade for decade in range(first, last + 1, step) for digit in digits]
    return {"tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}


def value_axis(data: StudyData, values: Sequence[float], rulers: Sequence[float] = ()) -> dict[str, Any]:
    """The axis of the objective: logarithmic where values span far more than a decade; a few wild ones are cut off.

    `rulers`: values of controls, which are in view too, and decide nothing: an oracle's 1e-6 is not worth six decades.
    """
    layout: dict[str, Any] = {"title": {"text": plain(title_of(data.spec.objective.metric))}, "zeroline": False}
    finite = sorted(value for value in values if math.isfinite(value))
    if not finite:
        return layout
    is_log = finite[0] > 0 and finite[-1] > 50 * finite[0]
    finite = sorted([*finite, *(value for value in rulers if value > 0 or not is_log)])
    if is_log:
        return layout | {"type": "log"} | log_ticks(math.log10(finite[0]), math.log10(finite[-1]))
    low, high = finite[0], finite[-1]
    inner_low, inner_high = finite[int(0.02 * (len(finite) - 1))], finite[math.ceil(0.98 * (len(finite) - 1))]
    reach = 3 * (inner_high - inner_low)
    if len(finite) >= 20 and reach > 0:
        low, high = max(low, inner_low - reach), min(high, inner_high + reach)
    margin = 0.06 * (high - low) or abs(high) * 0.05 or 1.0
    return layout | {"range": [short(low - margin), short(high + margin)]}


def with_controls(data: StudyData, values: Sequence[float]) -> dict[str, Any]:
    """A layout whose y axis is the objective, with a dashed line and its name for each control that is not far from
    what the trials have; the names of lines that lie close together stand side by side."""
    finite = [value for value in values if math.isfinite(value)]
    far = max(finite) - min(finite) + 1e-9
    rulers = sorted(control_values(data.controls, data.spec.objective).items(), key=lambda pair: pair[1])
    near = [(name, value) for name, value in rulers if min(finite) - far <= value <= max(finite) + far]
    axis = value_axis(data, values, [value for _, value in near])
    line = {
        "type": "line",
        "xref": "paper",
        "x0": 0,
        "x1": 1,
        "line": {"color": "var(--text)", "width": 1.2, "dash": "dash"},
    }
    shapes = [line | {"y0": short(value), "y1": short(value)} for _, value in near]
    is_log = axis.get("type") == "log"
    near = [(name, value) for name, value in near if value > 0 or not is_log]
    groups: list[list[tuple[str, float]]] = []
    for name, value in near:
        if groups and value - groups[-1][-1][1] < 0.06 * (max(finite) - min(finite) + far / 2):
            groups[-1].append((name, value))
        else:
            groups.append([(name, value)])
    note = {"xref": "paper", "x": 1, "xanchor": "right", "yanchor": "bottom", "showarrow": False, "font": {"size": 11}}
    note |= {"bgcolor": "var(--card-veil)", "borderpad": 0}
    notes = [
        note
        | {"text": " · ".join(f"{spoken(name)} {data.spec.objective.number(value)}" for name, value in group)}
        | {"y": short(math.log10(group[-1][1]) if is_log else group[-1][1])}
        for group in groups
    ]
    return {"yaxis": axis, "shapes": shapes, "annotations": notes}


def by_state(
    data: StudyData, trials: Sequence[TrialRecord], x: Sequence[Any], y: Sequence[float | None], hover: str
) -> list[Trace]:
    """One trace of points per state, and a ring around the winner.

    Args:
        data: the study.
        trials: those that are drawn.
        x: of each of them, as its axis takes it.
        y: of each.
        hover: Plotly's template of the lines after the trial's ID and state.
    """
    places = dict(zip((trial.id for trial in trials), zip(x, y, strict=True), strict=True))
    traces: list[Trace] = []
    for state in DRAWN:
        own = [trial.id for trial in trials if trial.state is state]
        if own:
            traces.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "x": [places[trial_id][0] for trial_id in own],
                    "y": [places[trial_id][1] for trial_id in own],
                    "customdata": [plain(trial_id) for trial_id in own],
                    "marker": marker(state, len(trials)),
                    "cliponaxis": False,
                    "name": data.state_names[state],
                    "meta": {"state": state.value},
                    "hovertemplate": f"<b>%{{customdata}}</b> {data.state_names[state]}<br>{hover}<extra></extra>",
                }
            )
    if data.winner is not None and data.winner.id in places:
        ring = {"symbol": "circle-open", "size": 17, "color": "var(--text)", "line": {"width": 2}}
        place = {
            "x": [places[data.winner.id][0]],
            "y": [places[data.winner.id][1]],
            "name": "winner",
            "cliponaxis": False,
        }
        traces.append({"type": "scatter", "mode": "markers", "marker": ring, "hoverinfo": "skip", **place})
    return traces


def marker(state: TrialState, among: int) -> dict[str, Any]:
    """The symbol of a state, smaller where there are many."""
    size = 9 if among <= 60 else 7
    return {"symbol": SYMBOLS[state], "size": size, "color": colour(state), "opacity": 0.9 if among <= 60 else 0.7}


def params_text(data: StudyData, trial: TrialRecord) -> str:
    """The parameters of a trial for a hover label, a line each, ten at most."""
    names = {axis.path: axis.name for axis in data.axes}
    lines = [f"{plain(names.get(path, path))} {plain(value_text(value))}" for path, value in trial.params.items()]
    return "<br>".join(lines[:10] + (["…"] if len(lines) > 10 else []))
