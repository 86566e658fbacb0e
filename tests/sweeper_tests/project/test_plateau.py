"""The write-up of a forensic study: its statistics, its claims about made-up trials, and a whole ledger."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from sweeper.errors import UserError
from sweeper.ledger.ledger import Ledger, TrialState
from sweeper.ledger.trial import Report
from sweeper.spec.load import load_spec
from tools.plateau import main
from tools.plateau_text import document
from tools.plateau_variants import BALANCE, FAULTS, Variant, paired_difference, read_variants, require_same_training

SPEC = Path("search_spaces/plateau_forensics.yaml")
CONFIG = {"model.backbone": "resnet_tiny", "data.embedded_count": 99, "data.image_size": 32, "optim.epochs": 2}


def variant(name: str, faults: Sequence[str], reported: float, honest: float, joint: float = 25.0) -> Variant:
    """Three seeds, 0.1 mm apart; the constant pose scores 47.5 mm by a faulty metric and 21 mm by a sound one."""
    seeds = np.array([-0.1, 0.0, 0.1])
    constant = np.full(3, 47.5 if "broken_procrustes" in faults else 21.0)
    weights, best = (1.0, joint, 0.0, 0.0), constant - 2.0
    return Variant(name, tuple(faults), weights, reported + seeds, constant, best, honest + 2 * seeds, np.full(3, 21.0))


def a_study(plateau: Sequence[float], sound: Sequence[float]) -> list[Variant]:
    variants = [variant("none", (), sound[0], sound[0]), variant("all", FAULTS, plateau[0], 22.0)]
    variants += [variant(fault, (fault,), 25.0, 20.0 + index) for index, fault in enumerate(FAULTS)]
    left_out = [(fault, tuple(each for each in FAULTS if each != fault)) for fault in FAULTS]
    variants += [variant(f"but {fault}", rest, 25.0 if fault == FAULTS[5] else 47.4, 22.0) for fault, rest in left_out]
    variants += [variant(f"none {joint}", (), value, value, joint) for joint, value in enumerate(sound[1:])]
    return variants + [variant(f"all {joint}", FAULTS, value, 22.0, joint) for joint, value in enumerate(plateau[1:])]


def unwrapped(page: str) -> str:
    """Without the line breaks inside paragraphs and items."""
    return page.replace("\n  ", " ").replace("\n", " ")


def test_a_paired_difference_has_the_interval_of_scipys_paired_test() -> None:
    rng = np.random.default_rng(0)
    values, baseline = rng.normal(20, 1, 5), rng.normal(18, 1, 5)
    low, high = stats.ttest_rel(values, baseline).confidence_interval(0.95)
    difference = paired_difference(values, baseline)
    assert difference.mean_mm == pytest.approx((low + high) / 2)
    assert difference.half_width_mm == pytest.approx((high - low) / 2)


def test_a_difference_that_all_seeds_share_has_no_width_and_one_seed_gives_none() -> None:
    assert paired_difference(np.array([5.0, 9.0]), np.array([4.0, 8.0])).half_width_mm == 0
    assert np.isnan(paired_difference(np.array([5.0]), np.array([4.0])).half_width_mm)


def test_a_plateau_is_described_with_its_numbers() -> None:
    page = unwrapped(document(["made_up"], a_study([47.4, 47.5, 47.6, 47.45], [18.0, 19.5, 17.0, 20.0]), CONFIG))
    assert "24 variants with 3 seeds" in page
    assert "4 balances of the loss report 47.40 to 47.60 mm, 0.20 mm apart: nobody could tell them apart" in page
    assert "at most 0.10 mm from the constant pose, which scores 47.50 mm" in page
    assert "the same balances report 17.00 to 20.00 mm, 3.00 mm apart" in page
    assert (
        "4 of 6 pairs of balances without mistakes are further apart than 1 mm and than their seeds are, and 0 of 6"
        in page
    )
    assert "0 of 6 pairs with all" in page
    assert "| A `mispaired_labels` | 25.00 ± 0.10 | 21.00 | 20.00 ± 0.20 | +7.00 ± 0.00 | +2.00 ± 0.00 |" in page
    assert "Only fixing F moves the reported number" in page
    assert "H (+9.0 mm), G (+8.0 mm), F (+7.0 mm)" in page


def test_a_claim_that_does_not_hold_is_not_made() -> None:
    page = unwrapped(document(["made_up"], a_study([45.0, 47.5, 49.0, 47.0], [18.0, 18.1, 18.2, 18.3]), CONFIG))
    assert "4.00 mm apart: they can still be told apart" in page
    assert "at most 2.50 mm from the constant pose" in page
    assert "the number still says something about the model" in page
    assert "18.00 to 18.30 mm, 0.30 mm apart" in page
    assert "do not differ on their own" in page


def trial(variant: str, seed: int, **metrics: float) -> Mapping[str, Any]:
    names = {name.replace("__", "/"): value for name, value in metrics.items()}
    return {"id": "x-0", "state": "COMPLETE", "params": {"variant": variant, "seed": seed}, "metrics": names}


def test_trials_are_read_as_variants_with_their_seeds_in_order() -> None:
    sound = {"val__pa_mpjpe_mm": 18.0, "val__skill": 0.1}
    broken = {
        "val__pa_mpjpe_mm": 47.0,
        "val__skill": 0.0,
        "val__mean_pose_pa_mpjpe_mm": 48.0,
        "honest__pa_mpjpe_mm": 22.0,
        "honest__skill": -0.1,
    }
    trials = [trial("b", 1, **sound | {"val__pa_mpjpe_mm": 27.0}), trial("b", 0, **sound), trial("a", 0, **broken)]
    weights = {f"loss.lambda_{term}": 1.0 for term in BALANCE}
    configs = {"b": weights | {"faults": []}, "a": weights | {"faults": ["camera_frame"]}}
    with pytest.raises(UserError, match=r"variant a has the seeds \[0\], others \[0, 1\]"):
        read_variants({"trials": trials}, configs)
    trials.append(trial("a", 1, **broken))
    first, second = read_variants({"trials": trials}, configs)
    assert (first.letters, second.letters) == ("", "E")
    assert first.reported_mm.tolist() == first.honest_mm.tolist() == [18.0, 27.0]
    assert first.constant_mm.tolist() == pytest.approx([20.0, 30.0])
    assert (second.constant_mm.tolist(), second.best_constant_mm.tolist()) == ([48.0, 48.0], [47.0, 47.0])
    assert second.honest_mm.tolist() == [22.0, 22.0]
    assert second.honest_constant_mm.tolist() == pytest.approx([20.0, 20.0])


def finished_study(home: Path, *, state: TrialState) -> None:
    """The ledger of the shipped spec, every trial with made-up metrics; the last one in the given state."""
    spec = load_spec(SPEC)
    ledger = Ledger.create(home / "studies" / spec.name, spec.name)
    ledger.attributes.spec = spec.effective
    for number in range(spec.trials):
        record = ledger.ask(spec)
        pa_mm = 18.0 if str(record.params["variant"]).startswith("none") else 47.5
        metrics = {"val/pa_mpjpe_mm": pa_mm + 0.01 * int(record.params["seed"]), "val/skill": 0.0}
        ledger.report(record.id, Report(1, 1.0, metrics, None, 0), pa_mm)
        last = number == spec.trials - 1
        ledger.finish(record.id, state if last else TrialState.COMPLETE, "", {}, (pa_mm,))


def test_the_command_writes_the_page_and_figure_of_the_shipped_study(tmp_path: Path) -> None:
    (tmp_path / "studies" / "plateau_forensics").mkdir(parents=True)
    finished_study(tmp_path, state=TrialState.COMPLETE)
    for folder in ("one", "two"):
        assert main(["plateau_forensics", "--home", str(tmp_path), "--out", str(tmp_path / folder)]) == 0
    page = (tmp_path / "one" / "plateau.md").read_text()
    assert "28 variants with 3 seeds" in page
    assert "6 balances of the loss report 47.51 to 47.51 mm" in page
    assert page.count("\n| without ") == unwrapped(page).count("Alone it reports") == 8
    assert max(len(line) for line in page.split("\n") if not line.startswith("|")) <= 120
    figure = (tmp_path / "one" / "plateau.svg").read_bytes()
    assert figure.startswith(b"<?xml")
    assert figure == (tmp_path / "two" / "plateau.svg").read_bytes()


def test_an_unfinished_study_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "studies" / "plateau_forensics").mkdir(parents=True)
    finished_study(tmp_path, state=TrialState.STOPPED)
    assert main(["plateau_forensics", "--home", str(tmp_path), "--out", str(tmp_path)]) == 2
    assert "is STOPPED" in capsys.readouterr().err
    assert main(["nothing", "--home", str(tmp_path)]) == 2


def test_studies_that_were_trained_differently_cannot_share_a_page() -> None:
    first = {"loss.lambda_pca": 0.0, "faults": [], "seed": 0, "optim.epochs": 10}
    require_same_training("other", first | {"loss.lambda_pca": 1.0, "faults": ["camera_frame"], "seed": 1}, first)
    with pytest.raises(UserError, match=r"`other` was trained otherwise than the first: optim\.epochs"):
        require_same_training("other", first | {"optim.epochs": 3}, first)
