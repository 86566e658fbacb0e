"""The state of a study, for scripts and people."""

import time
from pathlib import Path
from typing import Any

from sweeper.ledger.studies import open_if_started, open_study, planned_trials, study_folder
from sweeper.ledger.study_lock import running_driver
from sweeper.maintenance.inventory import REFUSED, lacking
from sweeper.study.stage import Stage, stage_of
from sweeper.study.usage.accounting import used_now
from sweeper.study.usage.budget import used_text
from sweeper.tracking.standing import standing_of
from sweeper.views.live.screen import clock_text
from sweeper.views.states import state_counts


def status(home: Path, study: str) -> dict[str, Any]:
    """Where a study stands: `{"study", "driver", "preparing", "stopped", "trials", "planned", "states", "evaluations",
    "used", "refused", "lacking"}`. `preparing`: what its driver does before trials run; empty if they run, or none
    drives it. `lacking`: what `sweeper doctor` finds, as far as that is known without asking MLflow or comparing sums.
    """
    study_dir = study_folder(home, study)
    running = running_driver(study_dir)
    stage = stage_of(study_dir) if running else None
    standing = standing_of(study_dir)
    known: dict[str, Any] = {
        "study": study,
        "driver": running,
        "preparing": preparing_text(stage) if stage else "",
        "stopped": False,
        "trials": 0,
        "planned": None,
        "states": {},
        "evaluations": 0,
        "used": "",
        "refused": standing.refused,
        "lacking": "" if running and not standing.refused else standing.sentence,  # a driver sends what waits
    }
    opened = open_if_started(home, study)
    if opened is None:
        if not running:
            open_study(home, study)  # says that it was never started
        return known | {"preparing": known["preparing"] or "its first run has just begun"}
    ledger, spec = opened
    if not running:
        found = [gap.what for gap in lacking(home, ledger, ask_mlflow=False) if gap.kind not in (REFUSED, "outbox")]
        known["lacking"] = "\n".join(filter(None, [*found, known["lacking"]]))  # the standing covers the others
    return known | {
        "stopped": ledger.attributes.stopped,
        "trials": ledger.count,
        "planned": planned_trials(ledger, spec),
        "states": state_counts(ledger.trials(), running is not None),
        "evaluations": sum(len(trial.reports) for trial in ledger.all_trials()),
        "used": used_text(spec.budget, used_now(ledger, spec.budget, spec.resources)),
    }


def preparing_text(stage: Stage) -> str:
    """What a driver is preparing, and for how long."""
    return f"{stage.text}, for {clock_text(time.time() - stage.since_s)}"


def status_text(standing: dict[str, Any]) -> str:
    """The status as people read it."""
    driver = f"run by {standing['driver']}" if standing["driver"] else "not running"
    lines = [f"{standing['study']}: {driver}{', stopped' if standing['stopped'] else ''}"]
    if standing["preparing"]:
        lines.append(f"being prepared: {standing['preparing']}")
    if standing["planned"] is not None:
        states = ", ".join(f"{count} {state}" for state, count in standing["states"].items()) or "none started"
        lines += [f"{standing['trials']} of {standing['planned']} trials: {states}", standing["used"]]
    return "\n".join([*lines, *([standing["lacking"]] if standing["lacking"] else [])])
