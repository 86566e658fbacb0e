"""More seeds for what ran: `sweeper extend --seeds`, and `sweeper winners --seeds` after fewer."""

import pytest
from checker import results
from faulty import SPEC, FreshHome, sweep

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


def test_variants_get_further_seeds_and_what_ran_stays(fresh_home: FreshHome) -> None:
    home = fresh_home(VARIANTS)
    assert sweep(home, "run").returncode == 0
    before = results(home)
    assert len(before) == 4
    more = sweep(home, "extend", "scripted", "--seeds", "1")
    assert more.returncode == 0, more.stderr
    after = results(home)
    assert {trial: after[trial] for trial in before} == before
    new = [after[trial]["params"] for trial in after if trial not in before]
    assert new == [{"variant": name, "seed": 5} for name in ("small", "large")]
    assert "3 seeds" in sweep(home, "ablate", "scripted").stdout


def test_the_second_round_gets_further_seeds(fresh_home: FreshHome) -> None:
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
