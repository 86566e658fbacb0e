"""Faults in pipelines, each planted as one change to the trainer, its data or its config."""

from plants.case import Case, Plant, run_planted

__all__ = ["Case", "Plant", "all_plants", "run_planted"]


def all_plants() -> list[Plant]:
    """Every plant, two of a kind: `a` was used while the checks were written, `b` was held back."""
    from plants import augmentation, evaluation, labels, losses, optimisation, reviewed, seen, validation

    families = (optimisation, seen, labels, evaluation, validation, losses, augmentation, reviewed)
    return [plant for family in families for plant in family.PLANTS]
