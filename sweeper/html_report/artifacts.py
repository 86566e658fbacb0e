"""What the study's run in MLflow shows of the study: a description, a table of trials, the report."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sweeper.checkpoints.locate import store_of
from sweeper.checkpoints.manifest import is_picture
from sweeper.checkpoints.object_store import CheckpointMissing, StoreUnavailable
from sweeper.html_report import preflight_line, study_csv, study_markdown, write_page
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.trial import TrialRecord
from sweeper.spec.model import SpecFile
from sweeper.study.pareto import winner_of


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
    return StudyArtifacts(report, texts, write_page(ledger, spec))


def _bring_pictures(ledger: Ledger, winner: TrialRecord | None) -> None:
    """Those of the winner, which the report shows, from a store of checkpoints; it does without if they cannot come."""
    written = [report.checkpoint for report in (winner.reports if winner else ()) if report.checkpoint]
    store = store_of(ledger)
    if store and written:
        with suppress(StoreUnavailable, CheckpointMissing):
            store.fetch(written[-1], ledger.study_dir / written[-1], is_picture)
