"""A study in a home made by a stranger, and code in it that must not run."""

from pathlib import Path
from typing import Any

import pytest
from finished import OBJECTIVE

from sweeper.cli.main import main
from sweeper.ledger.ledger import Ledger

SPEC = f"""
name: toy
trainer: scripted_trainer:train
search_space:
  scale: {{low: 0.5, high: 10.0, log: true}}
objective: {{metric: {OBJECTIVE}, mode: min}}
trials: 3
controls: []
"""
TRAP = "import os, pathlib\npathlib.Path(os.environ['CANARY']).touch()\n\n\ndef train(config, workdir, resume): ...\n"


def set_spec(home: Path, **changes: Any) -> None:
    ledger = Ledger.create(home / "studies" / "toy", "toy")
    ledger.attributes.spec = ledger.attributes.spec | changes


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = main(list(arguments))
    return code, capsys.readouterr().err
