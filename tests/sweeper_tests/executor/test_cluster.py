"""A sweep on a real Ray cluster whose machines are network namespaces: some are lost, cut off, or come later."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import network
import pytest
from checker import check
from cluster_site import SPEC, SWEEPER, WHOLE, Site, Slowness, machines, reports, trials, wait_until
from faulty import FreshHome, environment
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
def with_jobs() -> Iterator[Site]:
    """A cluster for the first two tests, in their order: the second one ends it."""
    with ExitStack() as stack:
        site = Site(stack, with_jobs=True)
        site.join(site.make("one"))
        yield site


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """A cluster for the others, in their order, though each can also run alone. None ends a machine without waiting
    until that is known: the next run would have its checks done there. The last two leave a machine that trains nothing
    and one that is lost."""
    with ExitStack() as stack:
        site = Site(stack)
        site.join(site.make("one"))
        yield site


def test_a_machine_that_is_no_node_submits_a_job(with_jobs: Site, fresh_home: FreshHome) -> None:
    home = fresh_home(SPEC)
    outside = with_jobs.make("outside")
    spec, address = str(home.parent / "spec.yaml"), f"http://{with_jobs.head.address}:8265"

    def submit(address: str, *more: str, **environ: str) -> "subprocess.CompletedProcess[str]":
        line = [SWEEPER, "submit", spec, "--home", str(home), "--address", address, *WHOLE, *more]
        return outside.run(*line, **environ)

    refused = submit(address, RAY_AUTH_TOKEN="another-token-0123456789abcdefghi")
    assert (refused.returncode, "refuses the token" in refused.stderr) == (2, True), refused.stderr
    refused = submit(f"http://{with_jobs.head.address}:1")
    assert (refused.returncode, "no Jobs API answers" in refused.stderr) == (2, True), refused.stderr
    done = submit(address, "--set", "base.sleep_s=0.0", "--trials", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "best trial: scripted-000" in done.stdout
    assert len(check(home)) == 3
    failed = submit(address, "--set", "base.crash_at=2", "--set", "name=crashing", "--trials", "1")
    assert failed.returncode == 1, "the exit code of the run"


def test_the_head_is_lost_and_the_study_goes_on_elsewhere(with_jobs: Site, site: Site, fresh_home: FreshHome) -> None:
    home = fresh_home(SPEC)
    slow = Slowness(home.parent, 2.0)
    outside = with_jobs.make("outside of it")
    spec, address = str(home.parent / "spec.yaml"), f"http://{with_jobs.head.address}:8265"
    job = outside.start(SWEEPER, "submit", spec, "--home", str(home), "--address", address, *WHOLE, *slow.options)
    wait_until(lambda: reports(home) >= 3)
    with_jobs.head.kill()
    with_jobs.kill(with_jobs.nodes[0])
    assert job.wait(240) == 2
    said = outside.output(job)
    assert f"{address} no longer knows scripted-" in said
    assert "Traceback" not in said
    before = {trial.id for trial in trials(home)}
    slow.end()
    assert site.run(home, *WHOLE, *slow.options).wait(500) == 0
    assert before <= check(home).keys()


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


def test_a_run_says_that_it_waits_for_room(site: Site, fresh_home: FreshHome) -> None:
    first, second = fresh_home(SPEC), fresh_home(SPEC)
    slow = Slowness(first.parent, 2.0)
    other = site.run(first, *WHOLE, *slow.options, "--set", "base.epochs=40", "--trials", str(len(site.nodes)))
    wait_until(lambda: running(first) == len(site.nodes))
    driver = site.run(second, *WHOLE, "--set", "base.sleep_s=0.0", "--trials", "1")
    waits = "no machine of the cluster has 2 cores and 0 GPUs free for the checks: waiting"
    wait_until(lambda: waits in site.head.output(driver))
    slow.end()
    assert driver.wait(500) == 0
    assert other.wait(240) == 0
    assert len(check(second)) == 1


def test_machines_join_and_are_lost_in_mid_sweep(site: Site, fresh_home: FreshHome) -> None:
    home = fresh_home(SPEC)
    slow = Slowness(home.parent, 2.0)
    driver = site.run(home, "--trials", "16", *slow.options)
    wait_until(lambda: running(home) == site.room)
    two, three = site.make("two"), site.make("three")
    site.join(two, three)
    wait_until(lambda: running(home) == site.room)
    wait_until(lambda: {machine.address for machine in site.nodes} <= set(machines(home).values()))
    site.kill(three)
    wait_until(lambda: any(trial.losses for trial in trials(home)))
    slow.end()
    assert driver.wait(500) == 0
    found = check(home)
    assert len(found) == 16
    assert all(len(trial["curve"]) == 8 for trial in found.values())
    assert {machine.address for machine in site.nodes} <= set(machines(home).values())
    lost = [trial.id for trial in trials(home) if trial.losses]
    assert lost, "some ran on the third"
    assert all(machines(home)[trial_id] != three.address for trial_id in lost), "they went on on the others"


def test_a_machine_is_cut_off_and_healed(site: Site, fresh_home: FreshHome) -> None:
    home = fresh_home(SPEC)
    slow = Slowness(home.parent, 2.0)
    away = site.make("away")
    site.join(away)
    driver = site.run(home, *WHOLE, *slow.options)
    wait_until(lambda: reports(home) >= 4 and away.address in machines(home).values())
    away.cut_off()
    wait_until(lambda: any(t.losses for t in trials(home)), 120)
    site.nodes.remove(away)
    stored = reports(home)
    away.heal()
    wait_until(lambda: reports(home) >= stored + 4)  # it is there again, and of no use
    slow.end()
    assert driver.wait(500) == 0
    assert len(check(home)) == 12


def test_a_machine_takes_its_time_to_make_the_data(site: Site, fresh_home: FreshHome, tmp_path: Path) -> None:
    """Longer than a worker may be silent: one makes them, by processes of its own, and the others wait. The other
    machines have theirs."""
    home = fresh_home(SPEC)
    slow = Slowness(home.parent, 5.0)
    for machine in site.nodes:
        (tmp_path / f"data of {machine.name}").write_text("made")
    making = ("--set", f"base.marks={tmp_path}", "--set", "base.prepare_s=70", "--set", "resources.heartbeat_s=45")
    many = ("--trials", str(site.room + 2), "--set", "base.epochs=30")
    driver = site.run(home, *making, *slow.options, *many)
    wait_until(lambda: reports(home) > 0)
    new = site.make("new")
    site.join(new)
    made = tmp_path / "data of new"
    wait_until(lambda: made.read_text() == "made")
    wait_until(lambda: new.address in machines(home).values())
    slow.end()
    assert driver.wait(500) == 0
    assert len(check(home)) == site.room
    assert [trial.losses for trial in trials(home)] == [()] * site.room


def test_a_machine_with_other_code_trains_nothing(site: Site, fresh_home: FreshHome, tmp_path: Path) -> None:
    home = fresh_home(SPEC)
    (tmp_path / "scripted_trainer.py").write_text((TESTS / "scripted_trainer.py").read_text() + "\n# other\n")
    odd = site.make("odd")
    site.join(odd, PYTHONPATH=os.pathsep.join([str(tmp_path), environment()["PYTHONPATH"]]))
    driver = site.run(home, *WHOLE)
    assert driver.wait(240) == 2
    said = site.head.output(driver)
    assert "odd has different code: scripted_trainer.py" in said
    assert "Traceback" not in said
    assert {str(trial.state) for trial in trials(home)} <= {"RUNNING", "COMPLETE"}


def test_a_machine_that_is_lost_in_preflight_is_told_in_a_line(
    site: Site, fresh_home: FreshHome, tmp_path: Path
) -> None:
    home = fresh_home(SPEC)
    driver = site.run(home, "--set", f"base.marks={tmp_path}", "--set", "base.prepare_s=300")
    wait_until(lambda: list(tmp_path.glob("data of *")))
    [making] = tmp_path.glob("data of *")
    site.kill(next(machine for machine in site.nodes if making.name == f"data of {machine.name}"))
    assert driver.wait(500) == 2
    said = site.head.output(driver)
    assert "error: the machine that ran the checks was lost" in said
    assert "Traceback" not in said
    assert "could not prepare" not in said
    assert not trials(home)
