"""What a study found, for people who were not there: one HTML file that needs no network, or Markdown."""

from pathlib import Path
from typing import Literal

from sweeper.report.data import StudyData, study_data
from sweeper.report.markdown import preflight_line, study_csv, study_markdown
from sweeper.views import open_study

__all__ = ["REPORT_FILE", "StudyData", "preflight_line", "study_csv", "study_data", "study_markdown", "write_report"]

REPORT_FILE = "report.html"


def write_report(home: Path, study: str, out: Path | None = None, form: Literal["html", "md"] = "html") -> Path:
    """Write the report of a study, by default as `report.html` or `report.md` in its folder; returns the file.

    Raises:
        UserError: there is no such study.
    """
    ledger, spec = open_study(home, study)
    if form == "md":
        text = study_markdown(study, spec, ledger.trials(), ledger.controls(), preflight_line(ledger))
    else:
        from sweeper.report.page import render  # late: it imports jinja2

        text = render(study_data(ledger, spec))
    path = out or ledger.study_dir / (REPORT_FILE if form == "html" else "report.md")
    path.write_text(text, encoding="utf-8")
    return path
