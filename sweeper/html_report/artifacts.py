"""What the study's run in MLflow shows about the study: a description, a table of trials, the report."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sweeper.checkpoints.locate import store_of
from sweeper.checkpoints.manifest import is_picture
from sweeper.checkpoints.object_store import CheckpointMissing, StoreUnavailable
from sweeper.errors import UserError
from sweeper.html_report import preflight_line, study_csv, study_markdown, write_page
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.trial import TrialRecord
from sweeper.spec.model import SpecFile
from sweeper.spec.objective import Objective
from sweeper.study.pareto import winner_of
from sweeper.views import ablation
from sweeper.views.study import best_first
from sweeper.views.winners import winners_markdown

MOST_LINKS: Final = 5
"""Trials that the description of the study's run links to."""


@dataclass(frozen=True)
class StudyArtifacts:
    """Attributes:
    description: Markdown, for the run's first page.
    texts: name -> text of each small artifact.
    page: the HTML report, a file of some megabytes.
    """

    description: str
    texts: Mapping[str, str]
    page: Path


def study_artifacts(ledger: Ledger, spec: SpecFile) -> StudyArtifacts:
    """Render the study as it stands."""
    trials, controls = ledger.trials(), ledger.controls()
    _bring_pictures(ledger, winner_of(trials, spec.objective))
    report = study_markdown(ledger.study, spec, trials, controls, preflight_line(ledger))
    texts = {"report.md": report, "trials.csv": study_csv(spec, trials, controls)}
    description = "\n".join(
        [report, *_comparison(ledger, spec, trials, controls), *_links(trials, controls, spec.objective)]
    )
    return StudyArtifacts(description, texts, write_page(ledger, spec))


def _comparison(
    ledger: Ledger, spec: SpecFile, trials: Sequence[TrialRecord], controls: Sequence[TrialRecord]
) -> list[str]:
    """What a study with variants says: each variant over its seeds, and the verdict."""
    if not spec.variants:
        return []
    from sweeper.analysis.ablation import ablation_result  # imports scipy
    from sweeper.analysis.winners import source_of, winners_result

    home = ledger.study_dir.parent.parent
    with suppress(UserError):  # the study these are the best of is gone
        if source := source_of(home, ledger.study):
            return [winners_markdown(winners_result(home, source, ledger.study)), ""]
    result = ablation_result(ledger.study, spec, trials, None, controls)
    tables = [
        line
        for title, header, rows in ablation.tables(result)
        for line in (f"## {title.capitalize()}", "", *ablation.markdown_table(header, rows), "")
    ]
    return [*tables, *(f"- {line}" for line in result.sentences), ""]


def _links(trials: Sequence[TrialRecord], controls: Sequence[TrialRecord], objective: Objective) -> list[str]:
    """Links to the runs of the best trials and of the controls; the delivering side knows their addresses."""
    best = [trial for trial in best_first(trials, objective) if trial.value(objective.metric) is not None]
    shown = [*best[:MOST_LINKS], *controls]
    values = [objective.format(trial.value(objective.metric) or 0.0) for trial in shown]
    lines = [f"- [{trial.id}](run:{trial.id}): {value}" for trial, value in zip(shown, values, strict=True)]
    return ["## Runs", "", *lines] if lines else []


def _bring_pictures(ledger: Ledger, winner: TrialRecord | None) -> None:
    """Those of the winner, which the report shows, from a store of checkpoints; it does without if they cannot come."""
    written = [report.checkpoint for report in (winner.reports if winner else ()) if report.checkpoint]
    store = store_of(ledger)
    if store and written:
        with suppress(StoreUnavailable, CheckpointMissing):
            store.fetch(written[-1], ledger.study_dir / written[-1], is_picture)
