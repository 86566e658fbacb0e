"""A trainer names the metrics that show a collapse; one that names none is assumed to use the default trainer's."""

import sys
from types import ModuleType

import pytest

from mano_trainers.report import OFFERS, TrainerOffers
from sweeper.entrypoint.offers import offers_of
from sweeper.pruning.guards import Evaluation, check_guards
from sweeper.spec.sections import CollapseGuard

OWN = TrainerOffers("val/spread", "val/r2", "val/gain", "val/gain_p", "train/share_")


def test_a_declared_constant_is_read_from_a_loaded_module(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("own_trainer")
    module.OFFERS = OWN  # type: ignore[attr-defined]
    assert offers_of("own_trainer:train") == OFFERS
    monkeypatch.setitem(sys.modules, "own_trainer", module)
    assert offers_of("own_trainer:train") == OWN
    module.OFFERS = "not what is asked for"  # type: ignore[attr-defined]
    assert offers_of("own_trainer:train") == OFFERS


def test_the_default_trainers_offers_are_known_without_loading_it() -> None:
    assert offers_of("mano_trainers.loop:train") == OFFERS
    assert offers_of("trainers.loop:train") == OFFERS


def test_the_collapse_guard_reads_the_metrics_that_the_trainer_names() -> None:
    guard = CollapseGuard(after_epochs=0, for_evaluations=1)
    collapsed = [Evaluation(1, {"val/spread": 0.0, "val/r2": 0.0})]
    tripped = check_guards([guard], collapsed, OWN)
    assert tripped is not None
    assert "spread 0.0000" in tripped.reason
    assert tripped.evidence["val/spread"] == [0.0]
    assert check_guards([guard], collapsed) is None
