"""A report's page as the tests read it: its elements, words and figures."""

import json
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from sweeper.html_report import write_report

WINNER_WIDTH = 2.5
"""Width of the winner's line among the curves."""


class Page(HTMLParser):
    """A page as a browser without scripts sees it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.raw: dict[str, str] = {}
        self.words: list[str] = []
        self.rows: dict[str, list[str]] = {}
        self._open = ""
        self._row: list[str] | None = None
        self.feed(text)
        self.close()
        constants = {"parse_constant": lambda name: pytest.fail(f"{name} is no JSON")}
        self.figures = {each["id"]: each for each in json.loads(self.raw["application/json"], **constants)}
        self.words = [word for word in self.words if word]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {key: value or "" for key, value in attrs}
        self.tags.append((tag, found))
        self._open = found.get("type", tag) if tag in ("script", "style") else ""
        if tag == "tr":
            self._row = self.rows.setdefault(found["data-id"], []) if "data-id" in found else None
        if tag == "td" and self._row is not None:
            self._row.append("")

    def handle_endtag(self, tag: str) -> None:
        self._open = ""
        if tag == "tr":
            self._row = None

    def handle_data(self, data: str) -> None:
        if self._open:
            self.raw[self._open] = self.raw.get(self._open, "") + data
            return
        self.words.append(data.strip())
        if self._row:
            self._row[-1] += data

    def ids(self, tag: str) -> list[str]:
        return [attrs["id"] for name, attrs in self.tags if name == tag and "id" in attrs]


def page_of(home: Path, study: str = "toy") -> Page:
    return Page(write_report(home, study).read_text(encoding="utf-8"))


def drawn_ids(figure: Mapping[str, Any]) -> set[str]:
    return {trial_id for trace in figure["data"] for trial_id in trace.get("customdata", [])}
