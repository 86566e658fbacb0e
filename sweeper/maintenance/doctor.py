"""`sweeper doctor`: what is wrong with an installation and a study home, and what of it can be fixed."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from mano_trainers.report import CheckStatus
from sweeper.console import to_json
from sweeper.errors import EXIT_NOT_RECORDED, EXIT_OK, EXIT_TRIAL_FAILED, UserError
from sweeper.maintenance import machine as doctor_machine
from sweeper.maintenance import studies as doctor_home
from sweeper.maintenance.finding import Finding
from sweeper.maintenance.inventory import REFUSED

STYLES = {CheckStatus.PASS: "green", CheckStatus.WARN: "yellow", CheckStatus.FAIL: "bold red"}


@dataclass(frozen=True)
class Diagnosis:
    """A finding, what `--fix` did about it (empty if nothing was done), and why it could not."""

    finding: Finding
    fixed: str
    failed: str = ""


def examine(home: Path, *, fix: bool) -> Iterator[Diagnosis]:
    """Look at the installation, the processes and the studies; fix what can be fixed if `fix`.

    What a driver is working on is never touched.
    """
    for look in (doctor_machine.findings, doctor_home.findings):
        done = [_fixed(each) if fix and each.fix is not None else Diagnosis(each, "") for each in look(home.resolve())]
        if look is doctor_home.findings and any(each.fixed for each in done):  # take nobody's word for it
            left = {(each.check, each.what) for each in look(home.resolve())}
            done = [_still_there(each) if (each.finding.check, each.finding.what) in left else each for each in done]
        yield from done


def _still_there(diagnosis: Diagnosis) -> Diagnosis:
    """What was fixed but is found again."""
    if not diagnosis.fixed:
        return diagnosis
    return Diagnosis(diagnosis.finding, "", f"it is still found after this: {diagnosis.fixed}")


def _fixed(finding: Finding) -> Diagnosis:
    assert finding.fix is not None
    try:
        return Diagnosis(finding, finding.fix())
    except (UserError, OSError) as error:
        return Diagnosis(finding, "", str(error))


def doctor(home: Path, *, fix: bool, as_json: bool) -> int:
    """Print every finding. Returns 0 if nothing is left to be fixed, 5 if only refused records are, else 1."""
    console = Console(highlight=False, markup=False)
    done = list(examine(home, fix=fix))
    left = [each for each in done if each.finding.status is not CheckStatus.PASS and not each.fixed]
    if as_json:
        print(to_json([_as_json(each) for each in done]))
    else:
        for each in done:
            _print(console, each)
        console.print(_summary(done, left), style="bold")
    if left and all(each.finding.check.endswith(f".{REFUSED}") for each in left):
        return EXIT_NOT_RECORDED
    return EXIT_TRIAL_FAILED if left else EXIT_OK


def _print(console: Console, diagnosis: Diagnosis) -> None:
    finding = diagnosis.finding
    console.print(f"{finding.status:4} {finding.check}: {finding.what}", style=STYLES[finding.status], markup=False)
    if diagnosis.fixed:
        console.print(f"     fixed: {diagnosis.fixed}", markup=False)
    elif diagnosis.failed:
        console.print(f"     not fixed: {diagnosis.failed}", markup=False)
    elif finding.status is not CheckStatus.PASS:
        console.print(f"     help: {finding.help}", markup=False)


def _summary(done: list[Diagnosis], left: list[Diagnosis]) -> str:
    fixed = sum(bool(each.fixed) for each in done)
    fixable = sum(each.finding.fix is not None for each in left)
    text = f"{len(left)} to be fixed" if left else "nothing is left to be fixed"
    text += f", {fixed} fixed" if fixed else ""
    return text + (f"; --fix would fix {fixable}" if fixable else "")


def _as_json(diagnosis: Diagnosis) -> dict[str, object]:
    finding = diagnosis.finding
    return {
        "check": finding.check,
        "status": finding.status.value,
        "what": finding.what,
        "help": finding.help,
        "fixable": finding.fix is not None,
        "fixed": diagnosis.fixed,
        "failed": diagnosis.failed,
    }
