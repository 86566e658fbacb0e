"""What a run stood on: code, packages, machine. An allow-list: nothing is recorded that is not named here."""

import hashlib
import os
import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any, Final

LARGEST_DIFF_BYTES: Final = 1 << 20
MOST_UNTRACKED: Final = 200
GIT_TIMEOUT_S: Final = 20
NVIDIA_SMI_TIMEOUT_S: Final = 10
ENVIRONMENT: Final = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES",
    "CUBLAS_WORKSPACE_CONFIG",
    "PYTHONHASHSEED",
)
"""Environment variables that change results and hold no secrets; no other is recorded."""

_USERINFO = re.compile(r"(?<=://)[^/\s@'\"]+@")
_TOKEN = re.compile(r"\b(?:gh[pousr]_|github_pat_|glpat-|hf_|sk-|xox[abpr]-|AKIA|ASIA)[A-Za-z0-9_-]{12,}")
_ASSIGNED = re.compile(
    r"(?i)((?:password|passwd|secret|token|api_?key|access_?key)\w*[\"']?\s*[:=]\s*[\"']?)[^\s\"']{6,}"
)


def redact(text: str) -> str:
    """`text` with ``***`` in place of user and password of URLs, well-known tokens, and values assigned to secrets."""
    text = _USERINFO.sub("***@", text)
    text = _TOKEN.sub("***", text)
    return _ASSIGNED.sub(r"\1***", text)


def collect(repo: Path | None = None) -> dict[str, Any]:
    """The provenance of a run made now, ready for JSON.

    Args:
        repo: a folder inside the git repository of the training code; by default where this package lies, or the
            working folder if the package is installed among others.

    Returns:
        ``code`` (commit, dirty, diff, untracked files, remote), ``lock_sha256``, ``python``, ``packages``
        (name -> version), ``platform``, ``hardware`` and ``environment``. What cannot be found out is None.
    """
    if repo is None:
        here = Path(__file__).parent
        repo = Path.cwd() if "site-packages" in here.parts else here
    root = _git(repo, "rev-parse", "--show-toplevel")
    top = Path(root.strip()) if root else None
    return {
        "code": _code(top) if top else {"commit": None, "dirty": None},
        "lock_sha256": _sha256(top / "requirements.lock") if top else None,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": installed_packages(),
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "hardware": _hardware(),
        "environment": {name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
    }


def _git(repo: Path, *arguments: str) -> str | None:
    """The output of git, or None where it fails. Nothing that the repository configures is run."""
    command = ["git", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-C", str(repo), *arguments]
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(command, capture_output=True, env=environment, timeout=GIT_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None


def _code(top: Path) -> dict[str, Any]:
    commit = _git(top, "rev-parse", "HEAD")
    diff = _git(top, "diff", "--no-ext-diff", "--no-textconv", "--ignore-submodules=dirty", "HEAD")
    listed = _git(top, "ls-files", "-z", "--others", "--exclude-standard")
    untracked = [name for name in (listed or "").split("\0") if name]
    remote = _git(top, "remote", "get-url", "origin")
    code: dict[str, Any] = {
        "commit": commit.strip() if commit else None,
        "dirty": bool(diff or untracked) if diff is not None else None,
        "remote": redact(remote.strip()) if remote else None,
    }
    if diff:
        code["diff"] = redact(diff)[:LARGEST_DIFF_BYTES]
        code["diff_sha256"] = hashlib.sha256(diff.encode()).hexdigest()  # of the whole, unredacted
    if untracked:
        code["untracked"] = {name: _sha256(top / name) for name in untracked[:MOST_UNTRACKED]}
    return code


def _sha256(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def installed_packages() -> dict[str, str]:
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


def collect_accelerators() -> list[str] | None:
    """Names and driver of the GPUs, asked of the driver's tool since importing torch takes 5 s; None without it."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=NVIDIA_SMI_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.splitlines() if done.returncode == 0 else None
