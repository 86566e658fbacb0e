"""One training from a config file: `python -m mano_trainers CONFIG.yaml [--out DIR] [--set key=value] [--resume]`.

With `--overfit N` it checks the pipeline instead: N images must be memorised.
"""

import argparse
import difflib
import math
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from mano_trainers.config import TrainConfig
from mano_trainers.errors import ConfigError, TrainerError
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
    """Train, printing one line an epoch; the exit code: 0 done, 1 the loss was not finite, 2 bad input, 130 Ctrl-C."""
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
        for item in error.errors():
            _print_error(*_problem(item, options.config))
    except TrainerError as error:
        _print_error(error.what, error.where, error.help)
    except KeyboardInterrupt:
        print(f"interrupted; continue with --resume --out {options.out}", file=sys.stderr)
        return 130
    return 2


def read_config(path: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """The config of a YAML file with `dotted.key=value` overrides, values written as in YAML.

    Raises:
        ConfigError: the file cannot be read, is not YAML, or an override cannot be understood.
        ValidationError: keys or values are wrong; it lists all of them.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", str(path)) from None
    mapping = _parse(text, str(path))
    mapping = {} if mapping is None else mapping
    if not isinstance(mapping, dict):
        raise ConfigError("must hold keys and values", str(path), "begin with a line such as `seed: 0`")
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise ConfigError("must be KEY=VALUE", f"--set {override}", "for example --set optim.lr=1e-3")
        *parents, last = key.split(".")
        inner = mapping
        for name in parents:
            inner = inner.setdefault(name, {})
            if not isinstance(inner, dict):
                raise ConfigError(f"{name} holds a value, not keys", f"--set {override}")
        inner[last] = _parse(text, f"--set {override}")
    return TrainConfig.model_validate(mapping)


class _Loader(yaml.SafeLoader):
    """YAML as YAML 1.2 has it: `1e-4` is a number, not a string; `no` is a text; a key given twice is an error."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":float", ":bool", ":timestamp"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"{key.value} is given twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$"),
    list("-+.0123456789"),
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"(true|false)$"), list("tf"))


def _parse(text: str, where: str) -> Any:
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = "" if mark is None else f":{mark.line + 1}:{mark.column + 1}"
        raise ConfigError(f"{error.problem}", f"{where}{place}") from None


def _problem(item: Any, path: Path) -> tuple[str, str, str | None]:
    """What, where and how to fix one of pydantic's errors."""
    key = ".".join(str(part) for part in item["loc"])
    what, help_line = f"{item['msg']}, but got {item['input']!r}", None
    if item["type"] == "value_error":  # the text says all, and the input may be a whole section
        what = str(item["ctx"]["error"])
    if item["type"] == "extra_forbidden":
        section: Any = TrainConfig
        for part in item["loc"][:-1]:
            section = section.model_fields[part].annotation
        names = list(section.model_fields)
        close = difflib.get_close_matches(key.rsplit(".", 1)[-1], names, 1)
        what = "there is no such key"
        help_line = f"did you mean {close[0]}?" if close else f"the keys here are {', '.join(names)}"
    return what, f"{path} {key}", help_line


def _print_error(what: str, where: str | None, help_line: str | None) -> None:
    lines = [f"error: {what}", None if where is None else f"  --> {where}", help_line and f"help: {help_line}"]
    print("\n".join(line for line in lines if line), file=sys.stderr)


def _train(config: TrainConfig, out: Path, resume: bool) -> int:
    # Imported late: a typo in the config should not take ten seconds to be told.
    from mano_trainers.checkpoint import latest_good
    from mano_trainers.loop import train

    start = latest_good(out) if resume else None
    if start is not None:
        print(f"resuming after {start}", file=sys.stderr)
    last = _print_epochs(train(config, out, start))
    if last is not None and math.isnan(last["train/loss"]):
        print("error: the loss is not finite any more\nhelp: lower optim.lr or the loss weights", file=sys.stderr)
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
