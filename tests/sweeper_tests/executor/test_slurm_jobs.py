"""Studies as jobs of a real Slurm of two nodes: to the end, over a time limit, cancelled, preempted, moved from a node
that is drained, two at once."""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import slurm_site
from checker import check, results
from cluster_site import SPEC, Slowness, machines, reports
from faulty import FreshHome
from slurm_site import SlurmSite, wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.machines,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(bool(slurm_site.cannot()), reason=f"{slurm_site.cannot()}"),
]
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
TRIALS = ("--trials", "8")
"""Some are left when a slow study is interrupted, for the second time too, and when its second node has come up."""


@pytest.fixture(scope="module")
def site() -> Iterator[SlurmSite]:
    with ExitStack() as stack:
        yield SlurmSite(stack, "one", "two")


def output(home: Path) -> str:
    return (home.parent / "job.out").read_text()


def runs_on(site: SlurmSite, job: str, home: Path) -> str:
    """Waits until some evaluations are there; returns the job's nodes."""
    wait_for(lambda: reports(home) >= 3, 400)
    folders = list(Path("/tmp").glob(f"sweeper-{job}-*"))
    assert folders
    assert {folder.stat().st_mode & 0o777 for folder in folders} == {0o700}, "Ray's sockets and logs"
    return site.job(job, "NodeList")


def is_completed(site: SlurmSite, job: str, home: Path) -> None:
    assert site.wait(job, *ENDED, timeout_s=400) == "COMPLETED", output(home)
    print(output(home))  # for whoever reads what a check found afterwards
    assert not list(Path("/tmp").glob(f"sweeper-{job}-*"))


def test_a_study_runs_to_its_end_on_two_nodes(site: SlurmSite, fresh_home: FreshHome) -> None:
    home = fresh_home(SPEC)
    slow = Slowness(home.parent, 2.0)
    options = ("--nodes", "2", "--cpus-per-task", "2", "--gpus-per-node", "1")
    script = site.script(home, *options, *slow.options, *TRIALS)
    job = site.submit(script)
    wait_for(lambda: reports(home) and len(set(machines(home).values())) == 2, 400)
    slow.end()
    is_completed(site, job, home)
    assert len(check(home)) == 8
    assert set(machines(home).values()) == {machine.address for machine in site.nodes.values()}
    again = site.submit(script)
    is_completed(site, again, home)
    assert "the study `scripted` is complete" in output(home)


def test_the_time_limit_is_a_pause_and_preemption_another(site: SlurmSite, fresh_home: FreshHome) -> None:
    home = fresh_home(SPEC)
    slow = Slowness(home.parent, 2.0)
    job = site.submit(site.script(home, "--cpus-per-task", "2", "--signal-s", "60", *slow.options, *TRIALS, lean=True))
    runs_on(site, job, home)
    [minutes] = re.fullmatch(r"00:(\d\d):\d\d", site.job(job, "RunTime")).groups()  # type: ignore[union-attr]
    site.call("scontrol", "update", f"jobid={job}", f"timelimit={int(minutes) + 1}")
    site.wait(job, "PENDING")
    seen, stored = results(home), reports(home)
    assert "requeued: the study continues" in output(home)
    site.call("scontrol", "update", f"jobid={job}", "timelimit=60")
    site.wait(job, "RUNNING")
    wait_for(lambda: reports(home) > stored, 400)
    more = ("-N2", "--exclusive", "--output=/dev/null", "--wrap=sleep 1")
    urgent = site.call("sbatch", "--parsable", "-p", "urgent", *more)
    site.wait(urgent, "COMPLETED")
    slow.end()
    is_completed(site, job, home)
    check(home, before=seen)
    assert "start 3," in output(home)


def test_a_cancelled_study_continues_when_it_is_submitted_again(site: SlurmSite, fresh_home: FreshHome) -> None:
    home = fresh_home(SPEC)
    slow = Slowness(home.parent, 2.0)
    script = site.script(home, "--nodes", "2", "--cpus-per-task", "1", *slow.options, *TRIALS, lean=True)
    job = site.submit(script)
    runs_on(site, job, home)
    site.call("scancel", job)
    assert site.wait(job, *ENDED) == "CANCELLED"
    seen, stored = results(home), reports(home)
    slow.end()
    is_completed(site, site.submit(script), home)
    assert reports(home) > stored
    check(home, before=seen)


def test_a_study_goes_on_elsewhere_when_its_node_is_drained(site: SlurmSite, fresh_home: FreshHome) -> None:
    home = fresh_home(SPEC)
    slow = Slowness(home.parent, 2.0)
    job = site.submit(site.script(home, "--cpus-per-task", "1", *slow.options, *TRIALS, lean=True))
    node = runs_on(site, job, home)
    site.call("scontrol", "update", f"nodename={node}", "state=drain", "reason=a fan")
    site.call("scancel", "--batch", "--signal=USR1", job)
    try:
        site.wait(job, "PENDING")
        seen = results(home)
        site.wait(job, "RUNNING")
        assert site.job(job, "NodeList") == ({"one", "two"} - {node}).pop()
        slow.end()
        is_completed(site, job, home)
    finally:
        site.call("scontrol", "update", f"nodename={node}", "state=resume")
    check(home, before=seen)


def test_two_studies_share_a_node(site: SlurmSite, fresh_home: FreshHome, tmp_path: Path) -> None:
    homes = {name: fresh_home(SPEC.replace("name: scripted", f"name: {name}")) for name in ("scripted", "other")}
    slow = Slowness(tmp_path, 2.0)
    options = ("--cpus-per-task", "1", *slow.options, *TRIALS)
    jobs = [site.submit(site.script(home, *options), "--nodelist=one") for home in homes.values()]
    wait_for(lambda: all(reports(home, name) for name, home in homes.items()), 400)
    assert [site.job(job, "JobState") for job in jobs] == ["RUNNING"] * 2
    slow.end()
    for job, home in zip(jobs, homes.values(), strict=True):
        is_completed(site, job, home)
    for name, home in homes.items():
        check(home, study=name)
    assert len({re.search(r"--address (\S+)", output(home)).group(1) for home in homes.values()}) == 2  # type: ignore[union-attr]
