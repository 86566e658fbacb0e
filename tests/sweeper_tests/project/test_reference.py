"""The reference pages in docs/ match the code."""

import inspect
import re
from pathlib import Path

import pytest

from mano_trainers.config import TrainConfig
from sweeper import errors
from sweeper.cli import main as cli
from sweeper.spec.model import SpecFile
from tools.reference import PAGES, cli_page, spec_page


@pytest.mark.parametrize("page", PAGES)
def test_the_pages_match_the_code(page: str) -> None:
    command = f"python -m tools.reference {page} > docs/{page}.md"
    assert Path(f"docs/{page}.md").read_text() == PAGES[page](), f"run `{command}`"


def test_every_verb_is_listed() -> None:
    page = cli_page()
    assert [verb for verb in cli.sweeper.commands if f"### sweeper {verb}\n" not in page] == []
    assert "### sweeper data make\n" in page


def test_every_exit_code_is_listed() -> None:
    codes = {str(value) for name, value in inspect.getmembers(errors) if name.startswith("EXIT_")}
    listed = set(re.findall(r"\d+", " ".join(re.findall(r"^\| ([\d, ]+) \|", cli_page(), re.M))))
    assert codes - {str(errors.EXIT_SIGNAL)} <= listed


@pytest.mark.parametrize(
    "row",
    [
        "| `trials` | whole number >= 1 | required | Number of trials of the study. May be left out",
        "| `low` | number | required | Lower bound, included. |",
        "| `wall_clock_s` | number > 0 | none | Seconds a driver of the study may run. |",
        "| `lr` | number > 0 | `0.003` | Peak learning rate of AdamW. |",
        "| `mode` | `min`, `max` | required |",
    ],
)
def test_a_row_gives_type_default_and_meaning(row: str) -> None:
    assert f"\n{row}" in spec_page()


def test_every_key_has_a_meaning() -> None:
    sections = [SpecFile, *(field.annotation for field in TrainConfig.model_fields.values())]
    keys = {name for model in sections if hasattr(model, "model_fields") for name in model.model_fields}
    page = spec_page()
    assert "|  |" not in page
    assert {key for key in keys - {"objectives"} if f"| `{key}` |" not in page} == set()
