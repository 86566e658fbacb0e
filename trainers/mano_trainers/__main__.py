"""One training from a config file: `python -m mano_trainers CONFIG.yaml [--out DIR] [--set key=value] [--resume]`.

With `--overfit N` it checks the pipeline instead: N images must be memorised.
"""

import argparse
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from mano_trainers.config import TrainConfig
from mano_trainers.config.read import problems, read_config
from mano_trainers.errors import TrainerError
from mano_trainers.report import EpochReport

SHOWN = (
    "train/loss",
    "val/pa_mpjpe_mm",
    "val/skill",
    "val/theta_var_ratio",
    "val/theta_r2",
    "val/gesture_macro_f1",
    "train/seconds",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, printing one line per epoch; the exit code: 0 done, 1 the loss was not finite, 2 bad input, 130 Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m mano_trainers", description="Train one image -> MANO theta model.")
    parser.add_argument("config", type=Path, help="YAML file; every key has a default, so {} is a config")
    parser.add_argument("--out", type=Path, default=Path("runs/train"), help="folder of the checkpoints [%(default)s]")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a key, e.g. optim.lr=1e-3"
    )
    parser.add_argument("--resume", action="store_true", help="continue after the newest good checkpoint in --out")
    parser.add_argument(
        "--overfit",
        type=int,
        metavar="N",
        help="memorise N images, to check the pipeline; exit code 1 if it cannot",
    )
    options = parser.parse_args(arguments)
    try:
        if options.overfit is not None:
            return _overfit(read_config(options.config, options.set), options.out, options.overfit)
        return _train(read_config(options.config, options.set), options.out, options.resume)
    except ValidationError as error:
        for problem in problems(error, options.config):
            _print_error(*problem)
    except TrainerError as error:
        _print_error(error.what, error.where, error.help)
    except KeyboardInterrupt:
        print(f"interrupted; continue with --resume --out {options.out}", file=sys.stderr)
        return 130
    return 2


def _print_error(what: str, where: str | None, help_line: str | None) -> None:
    lines = [f"error: {what}", None if where is None else f"  --> {where}", help_line and f"help: {help_line}"]
    print("\n".join(line for line in lines if line), file=sys.stderr)


def _train(config: TrainConfig, out: Path, resume: bool) -> int:
    # Imported late: a typo in the config should not take ten seconds to be reported.
    from mano_trainers.checkpoint import latest_good
    from mano_trainers.loop import train

    start = latest_good(out) if resume else None
    if start is not None:
        print(f"resuming after {start}", file=sys.stderr)
    last = _print_epochs(train(config, out, start))
    if last is not None and math.isnan(last["train/loss"]):
        print("error: the loss is no longer finite\nhelp: lower optim.lr or the loss weights", file=sys.stderr)
        return 1
    return 0


def _overfit(config: TrainConfig, out: Path, count: int) -> int:
    from mano_trainers.overfit import TARGET_MM, overfit

    print("without augmentation, priors and weight decay; with a predicted shape", file=sys.stderr)
    last = _print_epochs(overfit(config, count, out))
    assert last is not None
    reached_mm = last["val/pa_mpjpe_mm"]
    if reached_mm < TARGET_MM:
        print(f"{count} images are memorised: PA-MPJPE {reached_mm:.2f} mm", file=sys.stderr)
        return 0
    print(
        f"error: {count} images could not be memorised: PA-MPJPE {reached_mm:.2f} mm, not below {TARGET_MM:g}\n"
        "help: try another optim.lr; if none helps, the labels contradict each other: frames, units, joint order",
        file=sys.stderr,
    )
    return 1


def _print_epochs(reports: Iterable[EpochReport]) -> Mapping[str, float] | None:
    """A line for each report; the metrics of the last."""
    print("epoch", *(name.split("/")[1] for name in SHOWN), sep="\t", flush=True)
    last = None
    for report in reports:
        last = report.metrics
        print(f"{report.epoch:g}", *(f"{last[name]:.4g}" for name in SHOWN), sep="\t", flush=True)
    return last


if __name__ == "__main__":
    sys.exit(main())
