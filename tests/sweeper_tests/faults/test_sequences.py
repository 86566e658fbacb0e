"""Fifteen sequences of verbs, kills and damage, each judged after every step; `tests/sequences.py` does hundreds."""

from pathlib import Path

import pytest
from state_machine import run_sequence

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SEEDS = range(15)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_sequence_breaks_a_study(seed: int, template_db: Path) -> None:
    print("\n".join(run_sequence(seed, template_db)))  # pytest shows it when the sequence fails
