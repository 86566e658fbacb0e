"""What a study found, for people who were not there: one HTML file that needs no network, or Markdown."""

from pathlib import Path
from typing import Literal

from sweeper.errors import UserError
from sweeper.files import write_atomic
from sweeper.html_report.data import study_data
from sweeper.html_report.markdown import preflight_line, study_csv, study_markdown
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.studies import open_study
from sweeper.spec.model import SpecFile

__all__ = ["REPORT_FILE", "preflight_line", "study_csv", "study_markdown", "write_page", "write_report"]

REPORT_FILE = "report.html"


def write_report(home: Path, study: str, out: Path | None = None, form: Literal["html", "md"] = "html") -> Path:
    """Write the report of a study, by default as `report.html` or `report.md` in its folder; returns the file.

    Raises:
        UserError: there is no such study, or no such folder to write to.
    """
    ledger, spec = open_study(home, study)
    if form == "html":
        return write_page(ledger, spec, out)
    text = study_markdown(study, spec, ledger.trials(), ledger.controls(), preflight_line(ledger))
    return _write(out or ledger.study_dir / "report.md", text)


def write_page(ledger: Ledger, spec: SpecFile, out: Path | None = None) -> Path:
    """As `write_report`, of a ledger that is open, as HTML."""
    from sweeper.html_report.page import render  # late: it imports jinja2 and scipy

    return _write(out or ledger.study_dir / REPORT_FILE, render(study_data(ledger, spec)))


def _write(path: Path, text: str) -> Path:
    """Write a file whole or not at all: another process may be copying it."""
    try:
        write_atomic(path, text)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError) as error:
        what = f"cannot write the report: {error.strerror}"
        raise UserError(what, str(path), "use --out to name a file in an existing folder") from error
    return path
