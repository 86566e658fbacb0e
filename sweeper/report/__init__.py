"""What a study found, for people who were not there: one HTML file that needs no network, or Markdown."""

from pathlib import Path
from typing import Literal

from sweeper.ledger import Ledger
from sweeper.report.data import study_data
from sweeper.report.markdown import preflight_line, study_csv, study_markdown
from sweeper.spec_model import SpecFile
from sweeper.views import open_study

__all__ = ["REPORT_FILE", "preflight_line", "study_csv", "study_markdown", "write_page", "write_report"]

REPORT_FILE = "report.html"


def write_report(home: Path, study: str, out: Path | None = None, form: Literal["html", "md"] = "html") -> Path:
    """Write the report of a study, by default as `report.html` or `report.md` in its folder; returns the file.

    Raises:
        UserError: there is no such study.
    """
    ledger, spec = open_study(home, study)
    if form == "html":
        return write_page(ledger, spec, out)
    path = out or ledger.study_dir / "report.md"
    text = study_markdown(study, spec, ledger.trials(), ledger.controls(), preflight_line(ledger))
    path.write_text(text, encoding="utf-8")
    return path


def write_page(ledger: Ledger, spec: SpecFile, out: Path | None = None) -> Path:
    """As `write_report`, of a ledger that is open, as HTML."""
    from sweeper.report.page import render  # late: it imports jinja2 and scipy

    path = out or ledger.study_dir / REPORT_FILE
    path.write_text(render(study_data(ledger, spec)), encoding="utf-8")
    return path
