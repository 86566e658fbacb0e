"""Where trials run: on our own Ray on this machine, or on an existing Ray cluster."""

import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

from sweeper.errors import UserError
from sweeper.executor.lean_ray import LOG_LEVEL, inherited_environment, lean_ray, quiet_processes
from sweeper.executor.monitor import Child, Node, Worker, room, this_machine
from sweeper.executor.processes import Sample, kill, samples
from sweeper.executor.ray_session import connect, disconnect, session
from sweeper.executor.remote_process import RemoteChild, start_seam
from sweeper.home import CACHE_VARIABLE
from sweeper.spec.sections import Resources

RAY_STARTS: Final = 3
LOOK_S: Final = 1.0
REACH_S: Final = 5.0
AGENT_S: Final = 5.0
"""How long a machine may take to report its workers."""
ADDRESS_HELP: Final = "give HOST:PORT of the head node (6379 unless `ray start --head` was given another), or `auto`"
NODE_HELP: Final = "make it one (`ray start --address=HOST:PORT --num-cpus=0`), or `sweeper submit` the spec as a job"
TOKEN_HELP: Final = "give the cluster's token: RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH, or ~/.ray/auth_token"


def set_environment(address: str | None) -> None:
    """Choose how Ray behaves in this process; to be called before anything imports ray, which reads it on import."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    os.environ["TUNE_DISABLE_STRICT_METRIC_CHECKING"] = "1"
    os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = "1e9"  # Tune's own state: 20 KB per trial, again and again, never read
    os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"  # a call after Ray has ended must not start another
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # stdout is ours
    # By default Tune starts one worker after another; the study decides how many trials run at once.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = "1000"
    if address is None:
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # on one machine, bind loopback only
    else:
        os.environ.setdefault(LOG_LEVEL, "error")  # Ray's part of this process writes what is less to stdout
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "1"
        os.environ.setdefault("RAY_AUTH_MODE", "token")


class Local:
    """This machine, with our own Ray for as long as trials run."""

    shared = True

    def __init__(self, resources: Resources, trainer_cache: Path) -> None:
        self._resources, self._cache = resources, trainer_cache
        self._nodes = [this_machine()]

    @contextmanager
    def ray(self) -> Iterator[None]:
        """Our own Ray, which ends with the block.

        Raises:
            UserError: it did not come up.
        """
        at_once = self._resources.at_once(room(self._resources, self.nodes()))
        previous_umask = os.umask(0o077)  # Ray writes its token file with the default mode
        previous_cache = os.environ.get(CACHE_VARIABLE)
        os.environ[CACHE_VARIABLE] = str(self._cache)  # workers inherit it; a runtime_env costs seconds
        try:
            with (
                inherited_environment(self._resources.cpus),
                session(lambda: _start_ray(self._resources, at_once)),
            ):
                yield
        finally:
            os.umask(previous_umask)
            if previous_cache is None:
                del os.environ[CACHE_VARIABLE]
            else:
                os.environ[CACHE_VARIABLE] = previous_cache

    def nodes(self) -> list[Node]:
        return self._nodes

    def samples(self, workers: Sequence[Worker]) -> Mapping[Worker, Sample]:
        pids = {worker: worker.trains or worker.pid for worker in workers}
        found = samples(list(pids.values()), with_gpus=self._resources.gpus > 0)
        return {worker: found[pid] for worker, pid in pids.items() if pid in found}

    def kill(self, worker: Worker) -> None:
        kill(worker.pid)

    def seam(self, *arguments: str) -> Child:
        """`python -m sweeper.entrypoint.call` with the environment of a trial."""
        environment = os.environ | {CACHE_VARIABLE: str(self._cache)}
        return start_seam(arguments, self._resources, environment)


def _start_ray(resources: Resources, at_once: int) -> None:
    """Ray gives its own processes 30 s to come up, which is not enough on a busy machine. If it does not come up with
    only a few of them, since a later Ray may need more, it is started the usual way."""
    for attempt in range(RAY_STARTS):
        try:
            with quiet_processes(), lean_ray() if attempt == 0 else nullcontext():
                connect(
                    address="local",
                    num_cpus=resources.cpus * resources.processes(at_once),
                    num_gpus=None if resources.gpus else 0,
                    include_dashboard=False,
                    object_store_memory=100 * 2**20,
                )
            return
        except Exception as error:  # Ray raises a bare Exception
            disconnect()
            if attempt + 1 == RAY_STARTS:
                raise UserError(
                    f"Ray did not start: {error}", help="is the machine overloaded, or its disk full?"
                ) from error


class Cluster:
    """The machines of a Ray cluster that this process is connected to. They come and go."""

    shared = False

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._agents: dict[str, Any] = {}
        self._nodes: tuple[float, list[Node]] = (-LOOK_S, [])

    @contextmanager
    def ray(self) -> Iterator[None]:
        """It runs."""
        yield

    def nodes(self) -> list[Node]:
        """As they were at most a second ago."""
        import ray

        looked_s, found = self._nodes
        if time.monotonic() - looked_s > LOOK_S:
            alive = [node for node in ray.nodes() if node["Alive"]]
            found = [
                Node(node["NodeManagerAddress"], node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0))
                for node in alive
            ]
            self._nodes = time.monotonic(), found
            gone = self._agents.keys() - {node["NodeID"] for node in alive}
            for node_id in gone:
                self._agents.pop(node_id, None)
        return found

    def samples(self, workers: Sequence[Worker]) -> Mapping[Worker, Sample]:
        import ray

        by_node: dict[str, dict[int, Worker]] = {}
        for worker in workers:
            by_node.setdefault(worker.node, {})[worker.pid] = worker
        asked = {self._agent(node).samples.remote(list(pids)): node for node, pids in by_node.items()}
        answered, _ = ray.wait(list(asked), num_returns=len(asked), timeout=AGENT_S)
        found: dict[Worker, Sample] = {}
        for answer in answered:
            try:
                there = by_node[asked[answer]]
                found |= {there[pid]: sample for pid, sample in ray.get(answer).items()}
            except ray.exceptions.RayError:
                self._agents.pop(asked[answer], None)  # lost; another is started next time
        return found

    def kill(self, worker: Worker) -> None:
        self._agent(worker.node).kill.remote(worker.pid)

    def seam(self, *arguments: str) -> Child:
        """`python -m sweeper.entrypoint.call` on a machine that has room for a trial, with what a trial gets there."""
        return RemoteChild(arguments, self._resources)

    def close(self) -> None:
        """Release what belongs to the session, which ends next."""
        self._agents.clear()

    def _agent(self, node: str) -> Any:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        if node not in self._agents:
            there = NodeAffinitySchedulingStrategy(node, soft=False)
            agent = ray.remote(num_cpus=0, scheduling_strategy=there)(_Agent)
            self._agents[node] = agent.remote(self._resources.gpus > 0)
        return self._agents[node]


class _Agent:
    """Looks at the workers of one machine, and ends them."""

    def __init__(self, with_gpus: bool) -> None:
        self._with_gpus = with_gpus

    def samples(self, pids: Sequence[int]) -> dict[int, Sample]:
        return samples(pids, with_gpus=self._with_gpus)

    def kill(self, pid: int) -> None:
        kill(pid)


@contextmanager
def machines(resources: Resources, address: str | None, trainer_cache: Path) -> Iterator[Local | Cluster]:
    """The machines to run trials on.

    Args:
        resources: of a trial.
        address: of an existing Ray cluster; None: this machine.
        trainer_cache: where this machine keeps data; a cluster's nodes keep theirs by their own `TRAINERS_CACHE_DIR`.

    Raises:
        UserError: the cluster cannot be reached, refuses, has no node here, or no node with room for a trial.
    """
    set_environment(address)
    if address is None:
        yield Local(resources, trainer_cache)
        return
    found = _reached(address)
    cluster = Cluster(resources)
    with session(lambda: connect(address=found)), closing(cluster):
        if room(resources, cluster.nodes()) == 0:
            has = ", ".join(f"{node.name}: {node.cpus:g} cores and {node.gpus:g} GPUs" for node in cluster.nodes())
            what = f"no machine of the cluster has {resources.cpus} cores and {resources.gpus:g} GPUs for a trial"
            raise UserError(what, help=f"the machines are {has}")
        yield cluster


def _reached(address: str) -> str:
    """The cluster's HOST:PORT, if this process may connect to it and runs on one of its nodes; Ray would end a process
    that does not by a signal."""
    from ray._private.services import canonicalize_bootstrap_address
    from ray._raylet import GcsClient  # type: ignore[attr-defined]
    from ray.exceptions import AuthenticationError, RayError

    if address == "auto":
        try:
            address = canonicalize_bootstrap_address("auto") or ""
        except ConnectionError:
            raise UserError("no Ray cluster runs on this machine", "--address auto", ADDRESS_HELP) from None
    host, separator, port = address.rpartition(":")
    if not (separator and host and port.isdigit() and "/" not in host):
        raise UserError(f"`{address}` is not the address of a Ray cluster", "--address", ADDRESS_HELP)
    try:
        socket.create_connection((host, int(port)), REACH_S).close()
        nodes = GcsClient(address=address).get_all_node_info(timeout=REACH_S)
    except AuthenticationError:
        raise UserError(f"the Ray cluster at {address} refuses the token", "--address", TOKEN_HELP) from None
    except (OSError, RayError) as error:
        raise UserError(f"no Ray cluster answers at {address}: {error}", "--address", ADDRESS_HELP) from None
    if not any(_is_here(node.node_manager_address) for node in nodes.values()):
        raise UserError(f"this machine is not a node of the Ray cluster at {address}", "--address", NODE_HELP)
    return address


def _is_here(host: str) -> bool:
    with closing(socket.socket()) as probe:
        try:
            probe.bind((host, 0))
        except OSError:
            return False
    return True
