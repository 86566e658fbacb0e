"""MLflow is imported late, by whichever thread needs it first."""

import subprocess
import sys
from pathlib import Path

TWO_THREADS = """
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from sweeper.tracking.delivery.run_change import input_datasets
from sweeper.tracking.store.client import open_client

both = Barrier(2)

def deliver():
    both.wait()
    open_client(sys.argv[1])

def name_data():
    both.wait()
    return input_datasets({"training": "0" * 64})

with ThreadPoolExecutor(2) as pool:
    for done in [pool.submit(deliver), pool.submit(name_data)]:
        done.result()
"""


def test_two_threads_that_import_mlflow_at_once_both_get_all_of_it(tmp_path: Path) -> None:
    """Each would hold the lock of another part of the package, and Python then gives both what is there so far."""
    command = [sys.executable, "-c", TWO_THREADS, f"sqlite:///{tmp_path / 'mlflow.db'}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
