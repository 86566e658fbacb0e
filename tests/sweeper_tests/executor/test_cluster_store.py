"""A sweep on a cluster whose machines share no disk with the driver: checkpoints go through a store."""

from contextlib import ExitStack
from pathlib import Path

import network
import pytest
from checker import check
from cluster_site import SPEC, WHOLE, Site, Slowness, machines, reports, trials, wait_until
from faulty import FreshHome
from s3_server import BUCKET, s3_server

from sweeper.checkpoints.locate import store_of
from sweeper.ledger.ledger import Ledger

pytestmark = [
    pytest.mark.slow,
    pytest.mark.machines,
    pytest.mark.timeout(600),
    pytest.mark.skipif(bool(network.cannot()), reason=f"{network.cannot()}"),
]


def test_machines_that_do_not_see_the_home_hand_over_a_trial_through_the_store(
    fresh_home: FreshHome, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    home = fresh_home(SPEC + f"checkpoints: s3://{BUCKET}/cluster\n")
    with ExitStack() as stack:
        site = Site(stack)
        one, two = site.make("one"), site.make("two")
        server = stack.enter_context(s3_server(site.head.outside))
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        for machine in (one, two):
            hidden = machine.run("mount", "-t", "tmpfs", "none", str(home.parent))
            assert hidden.returncode == 0, hidden.stderr
        site.join(one, two, **server.environment)
        slow = Slowness(tmp_path, 2.0)
        driver = site.run(home, "--trials", "6", *WHOLE, *slow.options, **server.environment)
        wait_until(lambda: reports(home) >= 4 and set(machines(home).values()) == {one.address, two.address})
        site.kill(two)
        wait_until(lambda: any(trial.losses for trial in trials(home)))
        slow.end()
        assert driver.wait(500) == 0, site.head.output(driver)
        store = store_of(Ledger.open(home / "studies" / "scripted", "scripted"))
        assert store is not None
        found = check(home, store=store)
    assert all(len(trial["curve"]) == 8 for trial in found.values())
    lost = [trial.id for trial in trials(home) if trial.losses]
    assert lost, "some ran on the second machine"
    assert {machines(home)[trial_id] for trial_id in lost} == {one.address}, "they went on on the first"
    assert not list((home / "studies").rglob("*.safetensors")), "the driver's disk has them as MLflow's artifacts only"
