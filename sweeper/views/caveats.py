"""What stands between a result and believing it: trials that are as good, and warnings of the preflight."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sweeper.home import command_line
from sweeper.ledger.ledger import Ledger
from sweeper.ledger.trial import TrialRecord, TrialState
from sweeper.noise.model import configuration_key
from sweeper.spec.model import SpecFile
from sweeper.study.ties import near_ties

MOST_NAMED: Final = 5


def caveats(home: Path, ledger: Ledger, spec: SpecFile, *, no_skill: bool) -> list[str]:
    """What must be said along with the best trial of a study, a sentence each; if trials have learned nothing, not that
    they are alike."""
    winners = command_line(home, "winners", ledger.study)
    tie = [] if spec.variants or no_skill else tie_lines(ledger.trials(), spec, winners)
    return [*tie, *preflight_warnings(ledger)]


def tie_lines(trials: Sequence[TrialRecord], spec: SpecFile, winners: str) -> list[str]:
    """That the best is not known, where it is not; `winners`: the command that finds out."""
    tied, objective = near_ties(trials, spec), spec.objective
    if not tied:
        return []
    values = [objective.number(trial.value(objective.metric) or 0.0) for trial in tied[:MOST_NAMED]]
    named = [tied[0].id, *(trial.folder for trial in tied[1:MOST_NAMED])]
    more = f" and {len(tied) - MOST_NAMED} more" if len(tied) > MOST_NAMED else ""
    said = f"{', '.join(named)}{more}" if more or len(named) > 2 else " and ".join(named)
    unit = " mm" if objective.metric.endswith("_mm") else ""
    keys = Counter(configuration_key(trial) for trial in trials if trial.state is TrialState.COMPLETE)
    runs = "one run each" if all(keys[configuration_key(trial)] == 1 for trial in tied) else "their runs"
    return [f"{said} cannot be told apart by {runs} ({', '.join(values)}{unit}): run `{winners}`"]


def preflight_warnings(ledger: Ledger) -> list[str]:
    """What the preflight before the last run warned of, and how to settle it."""
    recorded = ledger.attributes.preflight or {}
    return [
        f"preflight WARN {check['name']}: {check['measured']}, expected {check['expected']}"
        + (f"; {check['help']}" if check.get("help") else "")
        for check in recorded.get("checks", [])
        if check["status"] == "WARN"
    ]
