"""Where a study stands, as scripts and people read it."""

from pathlib import Path
from typing import Any

from sweeper.ledger.studies import open_study, planned_trials
from sweeper.ledger.study_lock import running_driver
from sweeper.ledger.trial import TrialState
from sweeper.study.accounting import recorded
from sweeper.study.budget import used_text
from sweeper.tracking.standing import standing_of


def status(home: Path, study: str) -> dict[str, Any]:
    """Where a study stands: `{"study", "driver", "trials", "planned", "states", "used", "refused", "lacking"}`."""
    ledger, spec = open_study(home, study)
    trials = ledger.trials()
    counts = {state.value: sum(trial.state is state for trial in trials) for state in TrialState}
    standing = standing_of(ledger.study_dir)
    running = running_driver(ledger.study_dir)
    return {
        "study": study,
        "driver": running,
        "stopped": ledger.attributes.stopped,
        "trials": len(trials),
        "planned": planned_trials(ledger, spec),
        "states": {state: count for state, count in counts.items() if count},
        "used": used_text(spec.budget, recorded(ledger, spec.budget, spec.resources)),
        "refused": standing.refused,
        "lacking": "" if running and not standing.refused else standing.sentence,  # a driver sends what waits
    }


def status_text(standing: dict[str, Any]) -> str:
    """The status as people read it."""
    driver = f"run by {standing['driver']}" if standing["driver"] else "not running"
    states = ", ".join(f"{count} {state}" for state, count in standing["states"].items()) or "none started"
    return (
        f"{standing['study']}: {driver}{', stopped' if standing['stopped'] else ''}\n"
        f"{standing['trials']} of {standing['planned']} trials: {states}\n{standing['used']}"
        + (f"\n{standing['lacking']}" if standing["lacking"] else "")
    )
