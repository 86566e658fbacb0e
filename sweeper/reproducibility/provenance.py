"""What a run was based on: code, packages, machine. An allow-list: nothing is recorded that is not named here."""

import functools
import hashlib
import os
import platform
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import sweeper
from sweeper.executor.gpus import collect_accelerators
from sweeper.files import sha256_of
from sweeper.redaction import redact
from sweeper.reproducibility.git import DIFF, git, top_of

LARGEST_DIFF_BYTES: Final = 1 << 20
LARGEST_SOURCE_BYTES: Final = 1 << 16
MOST_UNTRACKED: Final = 200
ENVIRONMENT: Final = (
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_DYNAMIC", "OMP_DYNAMIC", "OMP_SCHEDULE"),
    *("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ONEDNN_DEFAULT_FPMATH_MODE"),
    *("MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR", "MKL_DEBUG_CPU_TYPE", "OPENBLAS_CORETYPE", "NPY_DISABLE_CPU_FEATURES"),
    *("CUDA_VISIBLE_DEVICES", "CUBLAS_WORKSPACE_CONFIG", "NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"),
    *("CUDNN_DETERMINISTIC", "TORCH_CUDNN_V8_API_DISABLED", "CUDA_LAUNCH_BLOCKING", "NCCL_ALGO", "NCCL_PROTO"),
    *("PYTHONHASHSEED", "GLIBC_TUNABLES"),
)
"""Environment variables that change results and hold no secrets; no other is recorded."""
COMMIT: Final = "SWEEPER_COMMIT"
"""The commit that an image was built from: it has the sources, but not the repository."""


def collect(repo: Path | None = None) -> dict[str, Any]:
    """The provenance of a run made now, ready for JSON.

    Args:
        repo: a folder inside the git repository of the training code; by default where this package lies, or the
            working folder if the package is installed among others.

    Returns:
        ``code`` (commit, dirty, diff, remote, untracked files and the text of those in Python), ``lock_sha256``,
        ``python``, ``packages`` (name -> version), ``platform``, ``hardware`` and ``environment``. What cannot be
        found out is None.
    """
    top = top_of(repo or code_folder())
    return {
        "code": _code(top) if top else {"commit": os.environ.get(COMMIT) or None, "dirty": None},
        "lock_sha256": _sha256(top / "requirements.lock") if top else None,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": installed_packages(),
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "hardware": _hardware(),
        "environment": {name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
    }


def code_folder() -> Path:
    """Where the training code is: this package, or the working folder if it is installed among others."""
    here = Path(str(sweeper.__file__)).parent
    return Path.cwd() if "site-packages" in here.parts else here


def _code(top: Path) -> dict[str, Any]:
    commit = git(top, "rev-parse", "HEAD")
    diff = git(top, *DIFF)
    listed = git(top, "ls-files", "-z", "--others", "--exclude-standard")
    untracked = [name for name in (listed or "").split("\0") if name][:MOST_UNTRACKED]
    remote = git(top, "remote", "get-url", "origin")
    code: dict[str, Any] = {
        "commit": commit.strip() if commit else None,
        "dirty": bool(diff or untracked) if diff is not None else None,
        "remote": redact(remote.strip()) if remote else None,
    }
    if diff:
        code["diff"] = redact(diff)[:LARGEST_DIFF_BYTES]
        code["diff_sha256"] = hashlib.sha256(diff.encode()).hexdigest()  # of the whole, unredacted
    if untracked:
        code["untracked"] = {name: _sha256(top / name) for name in untracked}
        texts = {name: _source(top / name) for name in untracked if name.endswith(".py")}  # no data, no `.env`
        code["untracked_text"] = {name: redact(text) for name, text in texts.items() if text is not None}
    return code


def _source(path: Path) -> str | None:
    """The text of a source of ordinary size; a link may lead anywhere."""
    try:
        small = not path.is_symlink() and path.stat().st_size <= LARGEST_SOURCE_BYTES
        return path.read_text() if small else None
    except (OSError, ValueError):
        return None


def _sha256(path: Path) -> str | None:
    try:
        return sha256_of(path)
    except OSError:
        return None


@functools.cache  # it reads a file for each package
def installed_packages() -> Mapping[str, str]:
    """Name -> version of every package."""
    # Only where packages are installed: Ray, once imported, adds folders with vendored packages to the path.
    installed = [entry for entry in sys.path if Path(entry).name in {"site-packages", "dist-packages"}]
    found = {dist.name: dist.version for dist in metadata.distributions(path=installed) if dist.name}
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def _hardware() -> dict[str, Any]:
    return {
        "cpu": _cpu_model(),
        "cpu_count": os.cpu_count(),
        "accelerators": collect_accelerators(),
    }


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
