"""Processes that render and decode."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mano_trainers.data.pool import started_pool
from mano_trainers.errors import DataError

TRAINERS = Path(__file__).parents[3] / "trainers"
SCRIPT = """
from mano_trainers.config import DataConfig
from mano_trainers.data.load import load_data

load_data(DataConfig(embedded_count=40, image_size=32))
"""


@pytest.mark.slow
def test_a_script_without_a_guard_is_refused_and_does_not_wait_for_itself(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = os.environ | {"PYTHONPATH": str(TRAINERS), "TRAINERS_CACHE_DIR": str(tmp_path / "cache")}
    ran = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False, timeout=240
    )
    assert ran.returncode == 1
    assert 'put the call under `if __name__ == "__main__":`' in ran.stderr
    assert "DataError: a process that renders or decodes images ended before its work was done" in ran.stderr


def end_at_once() -> None:
    os._exit(1)


def test_a_process_that_is_killed_is_reported() -> None:
    with pytest.raises(DataError, match="ended before its work was done"), started_pool(1) as pool:
        pool.submit(end_at_once).result()
    assert "TRAINERS_POOL_OF" not in os.environ
