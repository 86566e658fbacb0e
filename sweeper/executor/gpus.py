"""The GPUs of this machine, by NVIDIA's own tool."""

import subprocess
from typing import Final

NVIDIA_SMI_TIMEOUT_S: Final = 10


def collect_accelerators() -> list[str] | None:
    """Names and driver of the GPUs, asked of the driver's tool since importing torch takes 5 s; None without it."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=NVIDIA_SMI_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.splitlines() if done.returncode == 0 else None
