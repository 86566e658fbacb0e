"""How a trainer ended, as text that can be kept."""

import signal
import traceback
from typing import Final

from sweeper.entrypoint.reports import ReportError
from sweeper.redaction import plain
from sweeper.reporting.place import place_text

LONGEST_REASON: Final = 1000
LONGEST_TRACEBACK: Final = 20_000


NO_GPU_MEMORY: Final = ("CUDA out of memory", "CUDA error: out of memory", "STATUS_ALLOC_FAILED")
"""What torch says; the second if not even CUDA's own context fits, the third if a library finds no room."""
NO_DRIVER: Final = (
    "Found no NVIDIA driver",
    "No CUDA GPUs are available",
    "The NVIDIA driver on your system is too old",
)
LOST_GPU: Final = ("CUDA error:", "cuDNN error:")
"""A GPU that fell off the bus, an uncorrectable memory error, or a kernel that went wrong: the process can no longer
use it."""


class FunctionFailed(Exception):
    """A training function in a separate process raised. The text is the result of `described` there, and `trace` that
    of `traced`."""

    def __init__(self, text: str, trace: str) -> None:
        super().__init__(text)
        self.trace = trace


def described(error: BaseException) -> str:
    """What a trainer raised, in a line; out of memory and a GPU that fails are recognised, with what helps."""
    try:
        first_line = plain(str(error).strip().split("\n")[0], LONGEST_REASON)
    except Exception:  # the error's own text cannot be made
        first_line = ""
    if isinstance(error, ReportError | FunctionFailed):
        return first_line
    text = f"{type(error).__name__}: {first_line}" if first_line else type(error).__name__ + _where(error)
    if type(error).__name__ == "OutOfMemoryError" or any(said in first_line for said in NO_GPU_MEMORY):
        return f"out of GPU memory: {text}; use smaller batches, or more of a GPU (resources.gpus)"
    if any(said in first_line for said in NO_DRIVER):
        return f"no GPU: {text}; does `nvidia-smi` work on this machine?"
    if any(said in first_line for said in LOST_GPU):
        return f"the GPU failed: {text}; the kernel's log (`dmesg`, Xid) says why; `sweeper retry` trains it again"
    if isinstance(error, MemoryError):
        text = text if first_line else type(error).__name__
        return f"out of memory: {text}; use smaller batches, or fewer trials at once (resources.concurrent)"
    return text


def _where(error: BaseException) -> str:
    """The innermost line of the user's code, for an error that says nothing else."""
    frames = reversed(traceback.extract_tb(error.__traceback__))
    place = next((found for frame in frames if (found := place_text(frame.filename, frame.lineno or 0))), None)
    return f" at {place}" if place else ""


def traced(error: BaseException) -> str:
    """The traceback, short enough to be kept."""
    if isinstance(error, FunctionFailed):
        return plain(error.trace, LONGEST_TRACEBACK)
    try:
        return plain("".join(traceback.format_exception(error)), LONGEST_TRACEBACK)
    except Exception:  # the error's own text cannot be made
        return plain("".join(traceback.format_tb(error.__traceback__)), LONGEST_TRACEBACK) + type(error).__name__


def signal_name(number: int) -> str:
    """The name of a signal; most real-time signals have none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
