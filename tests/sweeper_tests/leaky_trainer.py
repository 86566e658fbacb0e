"""A trainer that changes everything a process has, and reports what it found."""

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mano_trainers.report import EpochReport

TABLE: dict[str, int] = {}


def leaky(config: dict[str, Any], workdir: Path, resume: Path | None) -> Iterator[EpochReport]:
    """Reports what it finds, then changes everything that a process has."""
    found = {
        "dtype": float(torch.get_default_dtype() is torch.float64),
        "grad": float(torch.is_grad_enabled()),
        "numpy_errors": float(np.geterr()["divide"] == "raise"),
        "recursion": float(sys.getrecursionlimit()),
        "cudnn": float(torch.backends.cudnn.benchmark),
        "deterministic": float(torch.are_deterministic_algorithms_enabled()),
        "torch_threads": float(torch.get_num_threads()),
        "table": float(len(TABLE)),
        "threads": float(threading.active_count()),
        "children": float(len(sleepers())),
        "environment": float("LEAKY" in os.environ),
        "home": float("HOME" in os.environ),
        "folder": float(Path.cwd() == workdir),
        "drawn": random.random() + np.random.rand() + float(torch.rand(())),
        "modules": float("colorsys" in sys.modules),
        "umask": float(_umask()),
    }
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)
    torch.backends.cudnn.benchmark = True
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(7)
    np.seterr(divide="raise")
    sys.setrecursionlimit(5000)
    TABLE["trial"] = 1
    threading.Thread(target=time.sleep, args=(3600,)).start()
    subprocess.Popen(["sleep", "3601"])
    subprocess.Popen(["sleep", "3601"], start_new_session=True)
    daemonise(["sleep", "3601"])
    os.environ["LEAKY"] = "yes"
    os.environ.pop("HOME", None)
    os.chdir(workdir)
    os.umask(0)
    import colorsys  # noqa: F401

    yield EpochReport(1, 1.0, found)


def daemonise(command: list[str]) -> None:
    """Start as daemons do: in a new session, with a second fork, and with no file of the process that started it."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.closerange(0, 1024)
            os.execvp(command[0], command)
        os._exit(0)
    os.wait()


def _umask() -> int:
    old = os.umask(0)
    os.umask(old)
    return old


def sleepers() -> list[str]:
    lines = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout.splitlines()
    return [line for line in lines if line == "sleep 3601"]


def quiet(config: dict[str, Any], workdir: Path, resume: Path | None) -> Iterator[EpochReport]:
    """In a module that takes seconds to import; computes a little."""
    yield EpochReport(1, 1.0, {"sum": float(torch.ones(1000).sum())})
