"""Workers whose trials train as lanes of one process: no Ray, no study."""

import json
import os
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from studies import make_study

from sweeper.entrypoint.lanes import host as lane_host
from sweeper.entrypoint.trial.messages import TrialOrder
from sweeper.executor.cluster import Local
from sweeper.executor.lane_hosts import LaneHosts
from sweeper.executor.searcher import LedgerSearcher
from sweeper.executor.worker.lane_seat import LaneSeat
from sweeper.executor.worker.trainable import Job, TrialWorker
from sweeper.spec.load import load_spec
from sweeper.spec.resolve import SweepSpec

SPEC = """
name: lanes
trainer: lanes_trainer:train
search_space: {scale: {low: 0.0, high: 2.0}}
objective: {metric: val/pa_mpjpe_mm, mode: min}
guards: []
controls: []
trials: 4
resources: {lanes: LANES, concurrent: CONCURRENT}
"""


def spec_of(folder: Path, lanes: int = 3, concurrent: int | None = None) -> SweepSpec:
    path = folder / "spec.yaml"
    path.write_text(SPEC.replace("LANES", str(lanes)).replace("CONCURRENT", str(concurrent or lanes)))
    return load_spec(path)


class Trials:
    """Trials of a spec, each with a worker; their answers are keyed by the number of the trial."""

    def __init__(self, folder: Path, *configs: dict[str, Any], lanes: int = 3, concurrent: int | None = None) -> None:
        self.folder = folder
        self.spec = spec_of(folder, lanes, concurrent)
        self.hosts = LaneHosts(self.spec, concurrent or lanes, folder)
        self.workers: dict[int, TrialWorker] = {}
        for number, config in enumerate(configs):
            self.add(number, config)

    def add(self, number: int, config: dict[str, Any], resume: str | None = None) -> None:
        whole = {"scale": 1.0} | config
        job = Job(
            self.spec.trainer,
            whole,
            str(self.folder / str(number)),
            resume,
            gpus=0,
            folder=os.getcwd(),
            lanes=self.hosts.seat(str(number), whole),
        )
        self.workers[number] = TrialWorker({"job": job.to_json()})

    def leave(self, number: int) -> None:
        self.workers.pop(number).cleanup()
        self.hosts.leave(str(number))

    def step(self) -> dict[int, dict[str, Any]]:
        """One answer from each, asked for at the same time."""
        with ThreadPoolExecutor(len(self.workers)) as pool:
            answers = pool.map(lambda worker: json.loads(worker.step()["message"]), self.workers.values())
            return dict(zip(self.workers, answers, strict=True))

    def run(self) -> dict[int, list[dict[str, Any]]]:
        """All answers from each, none waiting for those of another."""

        def answers_of(worker: TrialWorker) -> list[dict[str, Any]]:
            answers = [json.loads(worker.step()["message"])]
            while answers[-1]["kind"] == "report":
                answers.append(json.loads(worker.step()["message"]))
            worker.cleanup()
            return answers

        with ThreadPoolExecutor(len(self.workers)) as pool:
            return dict(zip(self.workers, pool.map(answers_of, self.workers.values()), strict=True))

    def close(self) -> None:
        for number in list(self.workers):
            self.leave(number)
        self.hosts.close()


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a short path, as a socket needs."""
    return tmp_path_factory.mktemp("l")


def kinds(answers: dict[int, dict[str, Any]]) -> dict[int, str]:
    return {number: answer["kind"] for number, answer in answers.items()}


def test_trials_train_in_one_process_and_each_has_its_own_reports_and_folder(folder: Path) -> None:
    with closing(Trials(folder, {"scale": 1.0}, {"scale": 2.0}, {"scale": 3.0, "epochs": 1})) as trials:
        first = trials.step()
        assert {each["metrics"]["pid"] for each in first.values()} == {trials.hosts.pid("0")}
        assert {each["metrics"]["lanes"] for each in first.values()} == {3.0}
        assert [each["metrics"]["val/pa_mpjpe_mm"] for each in first.values()] == [9.0, 18.0, 27.0]
        assert [each["checkpoint"] for each in first.values()] == [str(folder / f"{n}/epoch_001") for n in range(3)]
        second = trials.step()
        assert kinds(second) == {0: "report", 1: "report", 2: "end"}
        trials.leave(2)
        assert {each["metrics"]["lanes"] for each in trials.step().values()} == {2.0}
        assert "a round of 3 lanes" in (folder / "0/log.txt").read_text()


def test_a_trial_that_starts_later_joins_from_its_checkpoint(folder: Path) -> None:
    with closing(Trials(folder, {"epochs": 9, "sleep_s": 0.02}, {}, lanes=2)) as trials:
        trials.step()
        trials.leave(1)
        trials.add(2, {}, resume=str(folder / "1/epoch_001"))
        answers = trials.run()
    assert {number: [each["kind"] for each in found].count("report") for number, found in answers.items()} == {
        0: 8,
        2: 3,
    }
    assert [(each["step"], each["metrics"]["lanes"]) for each in answers[2][:-1]] == [(2, 2.0), (3, 2.0), (4, 2.0)]


@pytest.mark.parametrize("how", ["refuses_at", "crash_at"])
def test_the_failure_of_a_lane_affects_only_that_lane(how: str, folder: Path) -> None:
    """Even where the trainer does not say which one it was: the lanes continue from their last checkpoints, fewer of
    them together, until the one that fails is alone."""
    with closing(Trials(folder, {}, {how: 2}, {})) as trials:
        answers = trials.run()
    assert [each["kind"] for each in answers[1]] == ["report", "error"]
    assert "the script says" in answers[1][-1]["error"]
    for number in (0, 2):
        assert [each.get("step") for each in answers[number]] == [1, 2, 3, 4, None]
        assert answers[number][3]["metrics"]["lanes"] == 2.0


def test_lanes_that_do_not_all_fit_train_fewer_at_a_time(folder: Path) -> None:
    with closing(Trials(folder, *[{"most": 2}] * 4, lanes=4)) as trials:
        for answers in trials.run().values():
            assert [each.get("step") for each in answers] == [1, 2, 3, 4, None]
            assert max(each["metrics"]["lanes"] for each in answers[:-1]) == 2.0
        assert "4 lanes failed together: from now on 2 at once" in (folder / "3/log.txt").read_text()


def test_a_process_that_dies_is_lost_for_all_its_lanes_and_another_takes_its_place(folder: Path) -> None:
    with closing(Trials(folder, {}, {"die_at": 2}, lanes=2)) as trials:
        trials.step()
        first = trials.hosts.pid("0")
        answers = trials.step()
        assert {(each["kind"], each["how"]) for each in answers.values()} == {
            ("gone", "was lost, with all lanes in it")
        }
        trials.hosts.lost("0")
        for number in (0, 1):
            trials.leave(number)
            assert trials.hosts.had(str(number))
        trials.add(2, {})
        trials.add(3, {})
        assert {each["metrics"]["pid"] for each in trials.step().values()} == {trials.hosts.pid("2")} != {first}


def test_a_process_that_hangs_is_ended_for_all_its_lanes(folder: Path) -> None:
    with closing(Trials(folder, {}, {}, lanes=2)) as trials:
        trials.step()
        pid = trials.hosts.pid("1")
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        trials.hosts.kill("1")
        assert set(kinds(trials.step()).values()) == {"gone"}


def test_lanes_are_spread_over_the_processes_and_unfit_trials_are_not_lanes(folder: Path) -> None:
    with closing(Trials(folder, {}, {}, {}, {}, {"size": 2}, lanes=2, concurrent=4)) as trials:
        assert trials.hosts.seat("5", {"epochs": "many"}) is None, "its own process tells what is wrong"
        pids = [trials.hosts.pid(str(number)) for number in range(5)]
        assert pids[4] is None
        assert sorted(map(pids.count, set(pids) - {None})) == [2, 2]
        answers = trials.step()
        assert [each["metrics"]["lanes"] for each in answers.values()] == [2.0, 2.0, 2.0, 2.0, 1.0]


def test_a_trial_that_lost_its_lane_continues_in_its_own_process_and_folder(folder: Path) -> None:
    """The lane may keep training until the next evaluation after its worker is gone."""
    study_dir = folder / "studies" / "toy"
    study_dir.mkdir(parents=True)
    lanes = {"trainer": "lanes_trainer:train", "base": {}, "resources": {"lanes": 2, "concurrent": 2}}
    study = make_study(study_dir, **lanes)
    with closing(study.ledger), closing(LaneHosts(study.spec, 2, folder)) as hosts:
        searcher = LedgerSearcher(study, Local(study.spec.resources, folder), None, hosts)
        first, beside = (json.loads(dict(searcher.suggest(name) or {})["job"]) for name in "ab")
        assert first["lanes"] is not None
        assert first["lanes"] == beside["lanes"]
        assert first["attempt"] == beside["attempt"] == ""
        Path(first["workdir"]).mkdir(parents=True)
        study.on_lost("toy-0000", "the worker process was lost")
        again = json.loads(dict(searcher.suggest("c") or {})["job"])
        assert (again["workdir"], again["lanes"]) == (first["workdir"], None)
        assert again["attempt"].startswith("attempt_")
        assert (hosts.pid("toy-0000"), hosts.pid("toy-0001") is None) == (None, False)


def test_a_round_does_not_wait_long_for_a_late_worker(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes back later, from its last checkpoint."""
    monkeypatch.setattr(lane_host, "LATE_S", 0.3)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "lanes.sock"))
    listener.listen()
    host = lane_host.LaneHost("lanes_trainer:train", listener, 2)
    threading.Thread(target=lambda: [host.train() for _ in count()], daemon=True).start()
    first, late = (LaneSeat(str(folder / "lanes.sock"), folder / "out", folder / "log") for _ in range(2))
    for number, seat in enumerate((first, late)):
        seat.start(TrialOrder({"scale": 1.0}, str(folder / str(number)), None, str(folder), "log", None, {}))
    asked = [(first, late), (first,), (first, late)]
    with ThreadPoolExecutor(2) as pool:
        answers = [list(pool.map(LaneSeat.next, seats)) for seats in asked]
    reports = [[(each.step, each.metrics["lanes"]) for each in of_round] for of_round in answers]  # type: ignore[union-attr]
    assert reports == [[(1, 2.0), (1, 2.0)], [(2, 1.0)], [(3, 2.0), (2, 2.0)]]
    first.close()
    late.close()
