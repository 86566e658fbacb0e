"""The scripted trainer with a preflight, whose checks depend on the script's `curve_mm` and on the corners' `scale`."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from scripted_trainer import ScriptedConfig, prepare
from scripted_trainer import train as scripted_train

from mano_trainers.report import CheckResult, CheckStatus, EpochReport

__all__ = ["PREFLIGHT", "preflight", "prepare", "run_bytes", "train"]

PREFLIGHT = "checked_trainer:preflight"


def train(config: ScriptedConfig, workdir: Path, resume: Path | None = None) -> Iterator[EpochReport]:
    return scripted_train(config, workdir, resume)


def run_bytes(config: ScriptedConfig) -> int:
    return 1000 * config.epochs


def preflight(config: ScriptedConfig, corners: Sequence[ScriptedConfig]) -> Iterator[CheckResult]:
    """One check of the base, which fails above 100 mm, and one that counts the corners."""
    print("a trainer may print")
    error_mm = config.curve_mm[0]
    if error_mm > 100:
        yield CheckResult("script.error", CheckStatus.FAIL, f"{error_mm:g} mm", "at most 100 mm", "fix the script")
    else:
        yield CheckResult("script.error", CheckStatus.PASS, f"{error_mm:g} mm", "at most 100 mm")
    scales = ", ".join(f"{corner.scale:g}" for corner in corners)
    yield CheckResult("script.corners", CheckStatus.WARN, f"scale {scales}", "any", "look at them")
