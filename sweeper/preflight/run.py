"""Is the pipeline sound, and the machine ready? Reference measurements before a sweep, so that none runs on a broken
pipeline.

The trainer's own checks run in a process that also prepares its data; the machine's run here. What passed is kept under
the fingerprints of data, code, packages and configs, so that the next run of the same spec asks only the machine.
"""

import hashlib
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from mano_trainers.report import CheckResult, CheckStatus
from sweeper.entrypoint.preflight_messages import Checked, PreflightRequest, Prepared, answer_from_json
from sweeper.entrypoint.resolve import config_class
from sweeper.entrypoint.source_hashes import trainer_sums
from sweeper.errors import SpecError, UserError
from sweeper.executor.monitor import Child, Machines
from sweeper.files import write_atomic
from sweeper.preflight.machine import check_machine
from sweeper.reproducibility.provenance import installed_packages
from sweeper.search_space.dimensions import extremes
from sweeper.spec.model import VARIANT
from sweeper.spec.resolve import SweepSpec, accepted_example, resolve

MOST_CORNERS: Final = 64
KEPT_VERSION: Final = 1


@dataclass(frozen=True)
class PreflightOutcome:
    """What a preflight found.

    Attributes:
        results: of all checks; empty if it was skipped.
        fingerprints: of the prepared data.
        seconds: what the checks took when they were run.
        kept: whether the trainer's results are those of an earlier run.
        skipped: the reason that was given; empty if it was not skipped.
        numerics: device and settings, as the trainer says.
    """

    results: tuple[CheckResult, ...] = ()
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    kept: bool = False
    skipped: str = ""
    numerics: Mapping[str, str] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        return any(result.status is CheckStatus.FAIL for result in self.results)

    @property
    def summary(self) -> str:
        """One line for the record: `skipped: REASON`, or how many checks ended how."""
        if self.skipped:
            return f"skipped: {self.skipped}"
        named = {
            status: [result.name for result in self.results if result.status is status]
            for status in (CheckStatus.FAIL, CheckStatus.WARN)
        }
        text = f"{len(self.results)} checks in {self.seconds:.0f} s"
        text += "".join(f", {status} of {', '.join(names)}" for status, names in named.items() if names)
        return text + (", kept from an earlier run" if self.kept else "")

    def to_json(self) -> dict[str, Any]:
        """For the ledger and scripts."""
        checks = [asdict(result) for result in self.results]
        return {"skipped": self.skipped, "kept": self.kept, "seconds": self.seconds, "checks": checks}


Tell = Callable[[CheckResult], None]


def start(spec: SweepSpec, machines: Machines) -> Child:
    """Start preparing the trainer's data in a separate process, which can check them afterwards."""
    child = machines.seam(spec.trainer, "--preflight")
    _say(child, PreflightRequest(base_config(spec), corners(spec)).to_json())
    return child


def finish(
    child: Child, spec: SweepSpec, home: Path, tell: Tell, machines: Machines, *, skip: str = "", again: bool = False
) -> PreflightOutcome:
    """Wait for the data, and check pipeline and machine.

    Args:
        child: from `start`.
        spec: the sweep.
        home: the study home, which keeps what passed.
        tell: called with each result as soon as it is available.
        machines: those that trials run on.
        skip: a reason to check nothing.
        again: run the trainer's checks although they passed before.

    Raises:
        UserError: the data cannot be made or read; the child has said why on stderr.
    """
    try:
        prepared = _answer(child)
        if not isinstance(prepared, Prepared):
            child.wait()
            raise UserError("the trainer could not prepare its data", help="see the message above")
        fingerprints, numerics = prepared.fingerprints, prepared.numerics
        if skip:
            return PreflightOutcome(fingerprints=fingerprints, skipped=skip, numerics=numerics)
        results = []
        for result in check_machine(spec, home, prepared.run_bytes, machines.nodes()):
            results.append(result)
            tell(result)
        path = home / "preflight" / f"{_key(spec, fingerprints)}.json"
        kept = None if again else _kept(path)
        if kept is not None:
            return PreflightOutcome((*results, *kept.results), fingerprints, kept.seconds, kept=True, numerics=numerics)
        began_s = time.monotonic()
        of_trainer = _checked(child, tell)
        outcome = PreflightOutcome((*results, *of_trainer), fingerprints, time.monotonic() - began_s, numerics=numerics)
        if not any(result.status is CheckStatus.FAIL for result in of_trainer):
            _keep(path, PreflightOutcome(tuple(of_trainer), fingerprints, outcome.seconds))
        return outcome
    finally:
        end(child)


def base_config(spec: SweepSpec) -> dict[str, Any]:
    """The config that is checked: the spec's base, with the first values of the search space."""
    if not spec.variants:
        return resolve(spec, accepted_example(spec))
    model = config_class(spec.trainer)
    if model is None:
        return dict(spec.base)
    try:
        return model.model_validate(spec.base).model_dump(mode="json")
    except ValidationError:  # only the variants complete it
        return resolve(spec, {VARIANT: next(iter(spec.variants))})


def corners(spec: SweepSpec) -> list[dict[str, Any]]:
    """Configs at the ends of the search space, or the variants; where there are more than 64 corners, those that differ
    from the first one in one parameter, and the last."""
    if spec.variants:
        return [resolve(spec, {VARIANT: name}) for name in spec.variants]
    ends = {path: [value for _, value in extremes(dimension)] for path, dimension in spec.search_space.items()}
    if math.prod(map(len, ends.values())) <= MOST_CORNERS:
        points = [dict(zip(ends, values, strict=True)) for values in product(*ends.values())]
    else:
        first, last = ({path: values[index] for path, values in ends.items()} for index in (0, -1))
        points = [first, *({**first, path: value} for path in ends for value in ends[path][1:]), last]
    present = set(accepted_example(spec))
    configs = []
    for point in points[: 2 * MOST_CORNERS]:
        try:
            configs.append(resolve(spec, {path: value for path, value in point.items() if path in present}))
        except SpecError:  # a combination that no trial has
            continue
    return configs


def _checked(child: Child, tell: Tell) -> list[CheckResult]:
    results: list[CheckResult] = []
    _say(child, "check")
    while isinstance(found := _answer(child), Checked):
        results.append(found.result)
        tell(found.result)
    if child.wait() != 0:
        lost = CheckResult(
            "preflight", CheckStatus.FAIL, f"the checks ended with exit code {child.returncode}", "0", "see above"
        )
        results.append(lost)
        tell(lost)
    return results


def _say(child: Child, line: str) -> None:
    assert child.stdin is not None
    try:
        child.stdin.write(line + "\n")
        child.stdin.flush()
    except BrokenPipeError:  # it has ended; what it said on stderr tells why
        pass


def _answer(child: Child) -> Prepared | Checked | None:
    """The next answer, None at the end."""
    assert child.stdout is not None
    line = next(iter(child.stdout), None)
    return None if line is None else answer_from_json(line)


def end(child: Child) -> None:
    """Leave nothing that `start` has started running, Ctrl-C or not; nothing to do if it has been waited for."""
    if child.returncode is not None:
        return
    for stream in (child.stdin, child.stdout):
        if stream is not None:
            stream.close()
    try:
        child.wait(timeout=5)
    except subprocess.TimeoutExpired:
        child.terminate()
        child.wait()


def _key(spec: SweepSpec, fingerprints: Mapping[str, str]) -> str:
    """Changes with anything that the trainer's checks depend on."""
    parts = {
        "version": KEPT_VERSION,
        "data": dict(fingerprints),
        "base": base_config(spec),
        "corners": corners(spec),
        "code": trainer_sums(spec.trainer),
        "packages": installed_packages(),
        "python": sys.version,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:20]


def _kept(path: Path) -> PreflightOutcome | None:
    try:
        stored = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError):  # none, or an incomplete one
        return None
    return PreflightOutcome(tuple(_result(each) for each in stored["checks"]), seconds=stored["seconds"])


def _keep(path: Path, outcome: PreflightOutcome) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(outcome.to_json()))


def _result(stored: Mapping[str, Any]) -> CheckResult:
    return CheckResult(**{**stored, "status": CheckStatus(stored["status"])})
