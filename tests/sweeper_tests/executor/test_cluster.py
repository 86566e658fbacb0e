"""A sweep on a real Ray cluster whose machines are network namespaces: some are lost, cut off, or come later."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import network
import pytest
from checker import check
from cluster_site import SPEC, SWEEPER, Site, machines, reports, trials, wait_until
from faulty import FreshHome
from network import Machine
from places import TESTS

from sweeper.ledger.ledger import Ledger

pytestmark = [
    pytest.mark.slow,
    pytest.mark.machines,
    pytest.mark.timeout(600),
    pytest.mark.skipif(bool(network.cannot()), reason=f"{network.cannot()}"),
]


COMMAND = """
name: scripted
command: "{python} script.py {x}"
search_space: {x: {values: [1.0, 2.0]}}
sampler: {name: grid}
objective: {metric: val/pa_mpjpe_mm, mode: min}
scheduler: {name: none}
resources: {concurrent: all}
"""


def running(home: Path) -> int:
    return sum(not trial.state.is_finished for trial in trials(home)) if reports(home) else 0


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(stack, with_jobs=True)


def test_what_keeps_a_run_from_a_cluster_is_told_in_a_line(site: Site, fresh_home: FreshHome) -> None:
    home = fresh_home(SPEC)
    spec = str(home.parent / "spec.yaml")

    def refused(machine: Machine, address: str, *more: str, **environ: str) -> str:
        done = machine.run(SWEEPER, "run", spec, "--home", str(home), "--address", address, *more, **environ)
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr

    assert "no Ray cluster answers at" in refused(site.head, f"{site.head.address}:1")
    assert "is not the address of a Ray cluster" in refused(site.head, "ray://somewhere")
    assert "refuses the token" in refused(site.head, site.address, RAY_AUTH_TOKEN="another-token-0123456789abcdefghi")
    stranger = site.make("stranger")
    assert "this machine is not a node of the Ray cluster" in refused(stranger, site.address)
    said = refused(site.head, site.address, "--set", "resources.cpus=3")
    assert "no machine of the cluster has 3 cores" in said
    assert not trials(home)


def test_a_machine_that_is_no_node_submits_a_job(site: Site, fresh_home: FreshHome) -> None:
    home = fresh_home(SPEC)
    outside = site.make("outside")
    spec, address = str(home.parent / "spec.yaml"), f"http://{site.head.address}:8265"

    def submit(address: str, *more: str, **environ: str) -> "subprocess.CompletedProcess[str]":
        line = [SWEEPER, "submit", spec, "--home", str(home), "--address", address, "--trials", "3", *more]
        return outside.run(*line, **environ)

    refused = submit(address, RAY_AUTH_TOKEN="another-token-0123456789abcdefghi")
    assert (refused.returncode, "refuses the token" in refused.stderr) == (2, True), refused.stderr
    refused = submit(f"http://{site.head.address}:1")
    assert (refused.returncode, "no Jobs API answers" in refused.stderr) == (2, True), refused.stderr
    done = submit(address, "--set", "base.sleep_s=0.0")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "best trial: scripted-000" in done.stdout
    assert len(check(home)) == 3
    failed = submit(address, "--set", "base.crash_at=2", "--set", "name=crashing")
    assert failed.returncode == 1, "the exit code of the run"


def test_a_script_is_run_by_other_machines(site: Site, fresh_home: FreshHome, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name is relative to the driver's working folder, which is not that of Ray's workers."""
    home = fresh_home(COMMAND)
    script = "import sys, sweeper; sweeper.report(1, {'val/pa_mpjpe_mm': float(sys.argv[1])})"
    (home.parent / "script.py").write_text(script)
    monkeypatch.chdir(home.parent)
    done = site.head.run(SWEEPER, "run", "spec.yaml", "--home", str(home), "--address", site.address)
    assert done.returncode == 0, done.stderr
    assert [trial.state.value for trial in trials(home)] == ["COMPLETE"] * 2
    assert list(Ledger.open(home / "studies" / "scripted", "scripted").attributes.data or {}) == ["script.py"]


def test_machines_join_and_are_lost_in_mid_sweep(site: Site, fresh_home: FreshHome) -> None:
    home = fresh_home(SPEC)
    driver = site.run(home, "--trials", "24", "--set", "base.sleep_s=1.0")
    wait_until(lambda: running(home) == 2)
    network.join(site.two, site.address)
    third = site.make("three")
    network.join(third, site.address)
    wait_until(lambda: running(home) == 6)
    wait_until(lambda: third.address in machines(home).values())
    third.kill()
    assert driver.wait(500) == 0
    found = check(home)
    assert len(found) == 24
    assert all(len(trial["curve"]) == 8 for trial in found.values())
    assert {site.one.address, site.two.address} <= set(machines(home).values())
    lost = [trial.id for trial in trials(home) if trial.losses]
    assert lost, "some ran on the third"
    assert all(machines(home)[trial_id] != third.address for trial_id in lost), "they went on on the others"


def test_a_machine_is_cut_off_and_healed(site: Site, fresh_home: FreshHome) -> None:
    home = fresh_home(SPEC)
    away = site.make("away")
    network.join(away, site.address)
    driver = site.run(home, "--set", "base.sleep_s=1.0")
    wait_until(lambda: reports(home) >= 8)
    away.cut_off()
    wait_until(lambda: any(t.losses for t in trials(home)), 120)
    away.heal()
    assert driver.wait(500) == 0
    assert len(check(home)) == 12


def test_the_head_is_lost_and_the_study_goes_on_elsewhere(fresh_home: FreshHome) -> None:
    home = fresh_home(SPEC)
    with ExitStack() as stack:
        site = Site(stack, with_jobs=True)
        outside = site.make("outside")
        spec, address = str(home.parent / "spec.yaml"), f"http://{site.head.address}:8265"
        job = outside.start(SWEEPER, "submit", spec, "--home", str(home), "--address", address)
        wait_until(lambda: reports(home) >= 10)
        site.head.kill()
        site.one.kill()
        assert job.wait(240) == 2
        said = outside.output(job)
        assert f"{address} no longer knows scripted-" in said
        assert "Traceback" not in said
    before = {trial.id for trial in trials(home)}
    with ExitStack() as stack:
        assert Site(stack).run(home).wait(500) == 0
    assert before <= check(home).keys()


def test_a_machine_with_other_code_trains_nothing(site: Site, fresh_home: FreshHome, tmp_path: Path) -> None:
    home = fresh_home(SPEC)
    here = TESTS
    (tmp_path / "scripted_trainer.py").write_text((here / "scripted_trainer.py").read_text() + "\n# other\n")
    odd = site.make("odd")
    network.join(odd, site.address, PYTHONPATH=os.pathsep.join([str(tmp_path), str(here), str(here.parents[1])]))
    driver = site.run(home)
    assert driver.wait(240) == 2
    said = site.head.output(driver)
    assert "odd has different code: scripted_trainer.py" in said
    assert "Traceback" not in said
    odd.kill()
    assert {str(trial.state) for trial in trials(home)} <= {
        "RUNNING",
        "COMPLETE",
    }


@pytest.fixture(scope="module")
def small() -> Iterator[Site]:
    """A cluster for the next three tests, in their order: the second one adds a machine, the third one loses one."""
    with ExitStack() as stack:
        yield Site(stack)


def test_a_run_says_that_it_waits_for_room(small: Site, fresh_home: FreshHome) -> None:
    first, second = fresh_home(SPEC), fresh_home(SPEC)
    whole = ("--trials", "1", "--set", "resources.cpus=2")
    other = small.run(first, *whole, "--set", "base.sleep_s=6.0")
    wait_until(lambda: reports(first) >= 1)
    driver = small.run(second, *whole)
    assert driver.wait(500) == 0
    assert other.wait(240) == 0
    said = small.head.output(driver)
    assert "no machine of the cluster has 2 cores and 0 GPUs free for the checks: waiting" in said
    assert len(check(second)) == 1


def test_a_machine_takes_its_time_to_make_the_data(small: Site, fresh_home: FreshHome, tmp_path: Path) -> None:
    """Longer than a worker may be silent: one makes them, by processes of its own, and the others wait."""
    home = fresh_home(SPEC)
    slow = ("--set", f"base.marks={tmp_path}", "--set", "base.prepare_s=70", "--set", "resources.heartbeat_s=45")
    network.join(small.two, small.address)
    assert small.run(home, "--trials", "6", *slow).wait(500) == 0
    assert len(check(home)) == 6
    assert {small.one.address, small.two.address} == set(machines(home).values())
    assert {path.name for path in tmp_path.glob("data of *")} == {"data of one", "data of two"}
    assert [trial.losses for trial in trials(home)] == [()] * 6


def test_a_machine_that_is_lost_in_preflight_is_told_in_a_line(
    small: Site, fresh_home: FreshHome, tmp_path: Path
) -> None:
    home = fresh_home(SPEC)
    driver = small.run(home, "--set", f"base.marks={tmp_path}", "--set", "base.prepare_s=300")
    wait_until(lambda: list(tmp_path.glob("data of *")))
    [making] = tmp_path.glob("data of *")
    {"data of one": small.one, "data of two": small.two}[making.name].kill()
    assert driver.wait(500) == 2
    said = small.head.output(driver)
    assert "error: the machine that ran the checks was lost" in said
    assert "Traceback" not in said
    assert "could not prepare" not in said
    assert not trials(home)
