"""Adding to a study that ran: `sweeper extend --seeds`, `sweeper winners` with more seeds, `sweeper run --trials`."""

import pytest
from checker import results
from faulty import SPEC, FreshHome, sweep
from forked import Driver

pytestmark = pytest.mark.slow

VARIANTS = """
name: scripted
trainer: scripted_trainer:train
base: {epochs: 2}
variants:
  small: {scale: 0.5}
  large: {scale: 2.0}
seeds: [3, 4]
objective: {metric: val/pa_mpjpe_mm, mode: min}
scheduler: {name: none}
controls: []
"""


def test_variants_get_more_seeds_and_what_ran_stays(fresh_home: FreshHome) -> None:
    home = fresh_home(VARIANTS)
    assert Driver(home, "run").end()[0] == 0
    before = results(home)
    assert len(before) == 4
    code, said = Driver(home, "extend", "scripted", "--seeds", "1").end()
    assert code == 0, said
    after = results(home)
    assert {trial: after[trial] for trial in before} == before
    new = [after[trial]["params"] for trial in after if trial not in before]
    assert new == [{"variant": name, "seed": 5} for name in ("small", "large")]
    assert "3 seeds" in Driver(home, "ablate", "scripted").end()[1]


def test_a_file_with_the_old_list_of_seeds_keeps_the_added_ones(fresh_home: FreshHome) -> None:
    home = fresh_home(VARIANTS)
    spec = home.parent / "spec.yaml"
    assert Driver(home, "run").end()[0] == 0
    assert Driver(home, "extend", "scripted", "--seeds", "1").end()[0] == 0
    code, said = Driver(home, "run").end()
    assert code == 0, said
    assert "note: the study `scripted` has the seeds that `sweeper extend` added, too: 5\n" in said
    assert "is complete" in said
    spec.write_text(VARIANTS.replace("large: {scale: 2.0}", "large: {scale: 2.0}\n  huge: {scale: 5.0}"))
    assert Driver(home, "run").end()[0] == 0
    assert [found["params"] for found in results(home).values()][6:] == [
        {"variant": "huge", "seed": seed} for seed in (3, 4, 5)
    ]
    spec.write_text(VARIANTS.replace("[3, 4]", "[4]"))
    code, said = Driver(home, "run").end()
    assert (code, "was started with another spec" in said) == (2, True), said


def test_the_second_round_gets_more_seeds(fresh_home: FreshHome) -> None:
    home = fresh_home(SPEC.replace("name: asha, grace_epochs: 2, eta: 2", "name: none"))
    assert sweep(home, "run").returncode == 0
    assert sweep(home, "winners", "scripted", "--top", "2", "--seeds", "2").returncode == 0
    before = results(home, "scripted-winners")
    more = sweep(home, "winners", "scripted", "--top", "2", "--seeds", "3")
    assert more.returncode == 0, more.stderr
    after = results(home, "scripted-winners")
    assert {trial: after[trial] for trial in before} == before
    seeds = {trial: found["params"].get("seed") for trial, found in after.items() if "seed" in found["params"]}
    assert sorted(seeds.values()) == [1, 1, 2, 2, 3, 3]


def test_a_run_with_more_trials_continues_the_study_and_what_ran_stays(fresh_home: FreshHome) -> None:
    home = fresh_home(SPEC)
    assert Driver(home, "run", "--trials", "3").end()[0] == 0
    before = results(home)
    code, said = Driver(home, "run", "--trials", "5").end()
    assert code == 0, said
    after = results(home)
    assert {trial: after[trial] for trial in before} == before
    assert [trial for trial in after if trial not in before] == ["scripted-0003", "scripted-0004"]
    code, said = Driver(home, "run", "--trials", "4").end()
    assert (code, "trials: 5 -> 4" in said) == (2, True), said
    assert results(home) == after
