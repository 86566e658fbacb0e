"""The ways in that docs/guide.md shows, by its own text."""

import re
import sys
from pathlib import Path

import pytest
from places import ROOT

from sweeper.entrypoint.call import start_training
from sweeper.spec.load import parse_spec
from sweeper.spec.resolve import resolve

GUIDE = (ROOT / "docs" / "guide.md").read_text()
SCRIPT = """
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float)
parser.add_argument("--hidden", type=int)
arguments = parser.parse_args()
for epoch in (1, 2):
    print(f"epoch {epoch}")
    print(f"acc={arguments.lr * epoch:.3f}", flush=True)
"""


def block(name: str, language: str) -> str:
    found = re.search(rf"```{language}\n# {re.escape(name)}\n(.*?)```", GUIDE, re.DOTALL)
    assert found is not None, name
    return found[1]


def test_a_function_that_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = block("square.py", "python")
    assert len(text.strip().splitlines()) < 12
    (tmp_path / "square.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    monkeypatch.delitem(sys.modules, "square", raising=False)
    reports = list(start_training("square:train", {"x": 2.0}, tmp_path / "trial", None))
    assert [report.metrics["val/error"] for report in reports] == [1.0, 1 / 2, 1 / 3, 1 / 4]


def test_an_unchanged_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = block("script.yaml", "yaml")
    assert len(text.strip().splitlines()) < 12
    spec = parse_spec(text, tmp_path / "script.yaml")
    (tmp_path / "train.py").write_text(SCRIPT)
    monkeypatch.chdir(tmp_path)
    config = resolve(spec, {"lr": 0.25, "hidden": 16})
    reports = list(start_training(spec.trainer, config, tmp_path / "trial", None))
    assert [(report.epoch, report.metrics["val/acc"]) for report in reports] == [(1, 0.25), (2, 0.5)]
