"""The report as one HTML file: no network, no second file. It carries plotly.js, which is in `vendor/`.

Everything is escaped by the template; what goes into a figure is escaped for Plotly's own tags in `style.py`.
"""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from sweeper.report import figures, maps
from sweeper.report.data import StudyData, pictures, title_of
from sweeper.report.style import GLYPHS, Figure
from sweeper.report.tables import COST_HEADERS, VARIANT_HEADERS, Row, cost_rows, trial_headers, trial_row, variant_rows
from sweeper.trial import TrialState

FILES: Final = {"css": "page.css", "script": "page.js", "plotly": "vendor/plotly-cartesian.min.js"}


@dataclass(frozen=True)
class Section:
    """One part of the page. Of `blocks` (title, text) one with a title is folded."""

    id: str
    title: str
    text: str = ""
    figures: Sequence[Figure] = ()
    grid: bool = False
    headers: Sequence[str] = ()
    rows: Sequence[Row] = ()
    pictures: Sequence[tuple[str, str]] = ()
    blocks: Sequence[tuple[str, str]] = ()

    @property
    def is_empty(self) -> bool:
        return not (self.figures or self.rows or self.pictures or self.blocks)


def render(data: StudyData) -> str:
    """The whole page."""
    sections = [section for section in _sections(data) if not section.is_empty]
    drawn = [figure.to_json() for section in sections for figure in section.figures]
    ours = {name: Markup((files("sweeper.report") / path).read_text(encoding="utf-8")) for name, path in FILES.items()}
    counts = {state.value: sum(trial.state is state for trial in data.trials) for state in TrialState}
    environment = Environment(
        loader=PackageLoader("sweeper.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(
        data=data,
        sections=sections,
        figures=drawn,
        states={state: count for state, count in counts.items() if count},
        glyphs={state.value: glyph for state, glyph in GLYPHS.items()},
        control_headers=trial_headers(data, with_params=False),
        control_rows=[trial_row(data, control, with_params=False) for control in data.controls],
        written=datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        **ours,
    )


def _sections(data: StudyData) -> list[Section]:
    smoothed = "Shaded: at least half of the trials nearby collapsed."
    return [
        Section(
            "trials",
            "Trials",
            headers=trial_headers(data),
            rows=[trial_row(data, trial) for trial in data.trials],
        ),
        Section(
            "variants",
            "Variants",
            f"{title_of(data.spec.objective.metric)} of the runs that came to their end, over each variant's seeds.",
            figures=figures.variants(data),
            headers=VARIANT_HEADERS,
            rows=variant_rows(data),
        ),
        Section("learning", "Learning curves", figures=figures.curves(data)),
        Section("objectives", "Objectives", figures=figures.fronts(data)),
        Section("coordinates", "Parallel coordinates", figures=[] if data.spec.variants else maps.parallel(data)),
        Section("matters", "Parameter importance", figures=maps.importance(data)),
        Section(
            "parameters",
            "Objective against each parameter",
            f"The objective at each trial's last evaluation, which a stopped trial had early. {smoothed}",
            [] if data.spec.variants else maps.against_parameters(data),
            grid=True,
        ),
        Section(
            "collapse",
            "Where trials collapse",
            "The stronger the colour, the more of the trials nearby collapsed; on the line half of them did. "
            "Nothing is said where no trial is near.",
            maps.collapse_maps(data),
            grid=True,
        ),
        Section("variance-error", "Variance against error", figures=figures.variance(data)),
        Section("gradients", "What the loss terms weigh", figures=figures.shares(data)),
        Section("predictions", "Predictions of the winner", pictures=pictures(data)),
        Section("used", "Cost", figures=figures.cost(data), headers=COST_HEADERS, rows=cost_rows(data)),
        Section("again", "How to reproduce", blocks=_commands(data)),
    ]


def _commands(data: StudyData) -> list[tuple[str, str]]:
    lines = [f"sweeper show {data.study}", f"sweeper report {data.study}"]
    if data.winner is not None:
        lines.insert(0, f"sweeper reproduce {data.winner.id}    # runs the winner again and compares every metric")
    spec = [("The spec of the study", data.spec_text)] if data.spec_text else []
    return [("", "\n".join(lines)), *spec]
