"""The checks of training: of the steps of a rehearsal, of the whole run's schedule, and of the evaluation."""

from collections.abc import Iterator

from mano_trainers.preflight.evaluation import check_evaluation
from mano_trainers.preflight.optimisation import check_optimisation
from mano_trainers.preflight.rehearsal import rehearse
from mano_trainers.preflight.schedule import check_schedule
from mano_trainers.preflight.subject import Subject
from mano_trainers.report import CheckResult


def check_training(subject: Subject) -> Iterator[CheckResult]:
    """Rehearse a short training, and look at what was seen."""
    seen = rehearse(subject)
    yield from check_optimisation(subject, seen)
    yield from check_schedule(subject)
    yield from check_evaluation(subject, seen)
