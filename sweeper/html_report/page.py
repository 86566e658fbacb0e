"""The report as one HTML file: no network, no second file. It carries plotly.js, which is in `vendor/`.

Everything is escaped by the template; what goes into a figure is escaped for Plotly's own tags in `style.py`.
"""

import datetime
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from sweeper.analysis.ablation import ablation_result
from sweeper.html_report import figures, maps
from sweeper.html_report.data import StudyData, pictures
from sweeper.html_report.downloads import downloads
from sweeper.html_report.next_steps import next_steps
from sweeper.html_report.style import GLYPHS, Figure
from sweeper.html_report.tables import PageTable, control_table, cost_table, trial_table, variant_tables
from sweeper.ledger.trial import TrialState
from sweeper.views import ablation as ablation_view

FILES: Final = {"css": "page.css", "script": "page.js", "plotly": "vendor/plotly-cartesian.min.js"}


@dataclass(frozen=True)
class Section:
    """One part of the page. Of `blocks` (title, text) one with a title is folded."""

    id: str
    title: str
    text: str = ""
    figures: Sequence[Figure] = ()
    grid: bool = False
    tables: Sequence[PageTable] = ()
    pictures: Sequence[tuple[str, str]] = ()
    blocks: Sequence[tuple[str, str]] = ()

    @property
    def is_empty(self) -> bool:
        return not (self.figures or any(table.rows for table in self.tables) or self.pictures or self.blocks)


@functools.cache
def template() -> Template:
    """The page's template. Compiling it takes most of the time needed for a small study's page."""
    environment = Environment(
        loader=PackageLoader("sweeper.html_report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html")


def render(data: StudyData) -> str:
    """The whole page."""
    sections = [section for section in _sections(data) if not section.is_empty]
    drawn = [figure.to_json() for section in sections for figure in section.figures]
    ours = {
        name: Markup((files("sweeper.html_report") / path).read_text(encoding="utf-8")) for name, path in FILES.items()
    }
    counts = {state.value: sum(trial.state is state for trial in data.trials) for state in TrialState}
    return template().render(
        data=data,
        sections=sections,
        figures=drawn,
        states={state: count for state, count in counts.items() if count},
        glyphs={state.value: glyph for state, glyph in GLYPHS.items()},
        names=data.state_names,
        next=next_steps(data),
        downloads=downloads(data) if data.trials else [],
        controls=control_table(data),
        written=datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        **ours,
    )


def _sections(data: StudyData) -> list[Section]:
    smoothed = "Shaded: at least half of the trials nearby collapsed."
    return [
        Section("trials", "Trials", tables=[trial_table(data)]),
        *([_variants(data)] if data.spec.variants else []),
        Section("learning", "Learning curves", figures=figures.curves(data)),
        Section("objectives", "Objectives", figures=figures.fronts(data)),
        Section("coordinates", "Parallel coordinates", figures=[] if data.spec.variants else maps.parallel(data)),
        Section("matters", "Parameter importance", figures=maps.importance(data)),
        Section(
            "parameters",
            "Objective against each parameter",
            f"The objective at each trial's last evaluation, early for a stopped trial. {smoothed}",
            [] if data.spec.variants else maps.against_parameters(data),
            grid=True,
        ),
        Section(
            "collapse",
            "Where trials collapse",
            "The stronger the colour, the more of the trials nearby collapsed; on the line half of them did. "
            "Blank where no trial is near.",
            maps.collapse_maps(data),
            grid=True,
        ),
        Section("variance-error", "Variance against error", figures=figures.variance(data)),
        Section("gradients", "What the loss terms contribute", figures=figures.shares(data)),
        Section("predictions", "Predictions of the winner", pictures=pictures(data)),
        Section("used", "Cost", figures=figures.cost(data), tables=[cost_table(data)]),
        Section("again", "How to reproduce", blocks=_commands(data)),
    ]


def _variants(data: StudyData) -> Section:
    result = ablation_result(data.study, data.spec, data.trials, controls=data.controls)
    words = [("The comparisons in words", "\n".join((*result.opening, *result.sentences)))]
    text = f"{ablation_view.title_of(result)}. {ablation_view.NOTE}."
    return Section("variants", "Variants", text, figures.variants(data), tables=variant_tables(result), blocks=words)


def _commands(data: StudyData) -> list[tuple[str, str]]:
    lines = [data.command("show", data.study), data.command("report", data.study)]
    if data.winner is not None:
        again = data.command("reproduce", data.winner.id)
        lines.insert(0, f"{again}    # runs the winner again and compares every metric")
    spec = [("The spec of the study", data.spec_text)] if data.spec_text else []
    return [("", "\n".join(lines)), *spec]
