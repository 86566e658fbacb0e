"""A sweep through the services of docker/compose.yaml, run with their exact commands in their own namespaces."""

import json
import shutil
import signal
import subprocess
import time
from base64 import b64encode
from collections.abc import Iterator

import pytest
from compose_file import compose, secrets
from container_process import COMMIT
from containers import Stack, cannot_run, stack_of
from places import ROOT, TESTS

REASON = cannot_run()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.machines,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
]

SERVICES = ["postgres", "mlflow", "ray-head", "worker-cpu", "driver"]
TRIALS = 3
EPOCHS = 8
SPEC = f"""
name: contained
trainer: scripted_trainer:train
base: {{epochs: {EPOCHS}, sleep_s: 0.5}}
search_space:
  scale: {{low: 0.5, high: 2.0}}
objective: {{metric: val/pa_mpjpe_mm, mode: min}}
trials: {TRIALS}
controls: []
scheduler: {{name: none}}
"""
ASK = """
import sys, urllib.error, urllib.request
url, data, *pairs = sys.argv[1:]
headers = {"Content-Type": "application/json"} | dict(pair.split("=", 1) for pair in pairs)
try:
    with urllib.request.urlopen(urllib.request.Request(url, data.encode() or None, headers), timeout=30) as answer:
        print(answer.status, answer.read().decode())
except urllib.error.HTTPError as error:
    print(error.code, error.read().decode())
"""
JOIN = """
from ray._raylet import GcsClient
print("joined", len(GcsClient(address="ray-head:6379").get_all_node_info(timeout=20)))
"""
CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5).close()
except OSError as error:
    sys.exit(f"{error}")
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """All services but the driver, which the sweep starts."""
    folder = tmp_path_factory.mktemp("stack")
    specs = folder / "specs"
    specs.mkdir()
    (specs / "contained.yaml").write_text(SPEC)
    shutil.copy(TESTS / "scripted_trainer.py", specs)
    given = secrets() | {"SWEEPER_SPECS": str(specs), "SWEEPER_SPEC": "contained.yaml", "WORKER_CPUS": "2"}
    with stack_of(compose(given), folder, SERVICES) as running:
        for name in ("postgres", "ray-head", "mlflow", "worker-cpu"):
            running.start(name)
        running.wait_until_healthy("worker-cpu")
        yield running


@pytest.fixture(scope="module")
def sweep(stack: Stack) -> tuple[str, str]:
    """What two drivers printed: the first was stopped as `docker stop` does it; the second continued to the end,
    although PostgreSQL and MLflow were killed on the way. Then MLflow was sent what had been waiting."""
    drive_until(stack, "epoch 1:")
    assert stack.stop("driver", grace_s=120) == 128 + signal.SIGTERM
    first = stack.log("driver")
    drive_until(stack, "epoch ")
    for name in ("mlflow", "postgres"):
        stack.stop(name, grace_s=0)
    wait_for(stack, "the ledger has not answered")
    for name in ("postgres", "mlflow"):
        stack.start(name)
    wait_for(stack, "sweeper report contained")
    assert stack.processes["driver"].wait(240) == 0, stack.log("driver")[-4000:]
    second = stack.log("driver")
    stack.compose["services"]["driver"]["command"] = ["sync", "contained"]
    assert stack.start("driver").wait(240) == 0, stack.log("driver")[-4000:]
    return first, second


def drive_until(stack: Stack, text: str) -> None:
    """Start a driver, and wait until it has written this."""
    stack.start("driver")
    wait_for(stack, text)


def wait_for(stack: Stack, text: str) -> None:
    """Wait until the driver has written this. If Ray gave up on a busy machine, the driver is started again."""
    end = time.monotonic() + 600
    while True:
        has_ended, said = stack.processes["driver"].poll() is not None, stack.log("driver")
        if text in said:
            return
        assert time.monotonic() < end, said[-4000:]
        if has_ended:
            assert "timed out during startup" in said, said[-4000:]
            stack.start("driver")
        stack.keep_up()
        time.sleep(0.1)


def mlflow(stack: Stack, path: str, data: str = "", *, password: str | None = None, **headers: str) -> tuple[int, str]:
    """Ask MLflow from where its published port would be reached (by POST if there is data); return status and body."""
    if password is not None:
        headers["Authorization"] = "Basic " + b64encode(f"admin:{password}".encode()).decode()
    command = ["ip", "netns", "exec", stack.namespace("host"), "python3", "-c", ASK]
    url = f"http://{stack.address('mlflow', 'ui')}:5000{path}"
    pairs = [f"{name}={value}" for name, value in {"Host": "localhost:5000", **headers}.items()]
    answered = subprocess.run([*command, url, data, *pairs], capture_output=True, text=True, timeout=60, check=True)
    status, _, body = answered.stdout.partition(" ")
    return int(status), body


def test_the_sweep_is_complete_and_in_mlflow(stack: Stack, sweep: tuple[str, str]) -> None:
    assert "interrupted: `sweeper resume contained" in sweep[0]
    assert f"{TRIALS} COMPLETE" in sweep[1]
    password = secrets()["MLFLOW_ADMIN_PASSWORD"]
    status, body = mlflow(stack, "/api/2.0/mlflow/experiments/get-by-name?experiment_name=contained", password=password)
    assert status == 200
    experiment = json.loads(body)["experiment"]
    assert experiment["artifact_location"].startswith("mlflow-artifacts:"), "the server serves artifacts"
    runs = tracked(stack, experiment["experiment_id"])
    trials = {tags["sweeper.trial_id"]: metrics for tags, metrics in runs if "sweeper.trial_id" in tags}
    assert trials.keys() == {f"contained-{number:04d}" for number in range(TRIALS)}
    last = pytest.approx(0.05 * EPOCHS)
    assert all(metrics["val/theta_r2"] == last for metrics in trials.values()), "the last epoch's"
    weights = list((stack.folder / "volumes/artifacts").rglob("weights.safetensors"))
    assert weights, "checkpoints went through the server into its volume"
    records = list((stack.folder / "volumes/artifacts").rglob("provenance.json"))
    shared = [json.loads(record.read_text()) for record in records]  # what trials share is stored once, with the study
    assert {record["code"]["commit"] for record in shared if "code" in record} == {COMMIT}


def tracked(stack: Stack, experiment: str) -> list[tuple[dict[str, str], dict[str, float]]]:
    """Tags and last metrics of the runs of an experiment."""
    asked = json.dumps({"experiment_ids": [experiment]})
    status, body = mlflow(stack, "/api/2.0/mlflow/runs/search", asked, password=secrets()["MLFLOW_ADMIN_PASSWORD"])
    assert status == 200, body
    runs = [run["data"] for run in json.loads(body)["runs"]]
    pairs = [
        [{each["key"]: each["value"] for each in run.get(part, [])} for part in ("tags", "metrics")] for run in runs
    ]
    return [(tags, metrics) for tags, metrics in pairs]


def test_the_ledger_is_in_postgres_and_its_role_sees_nothing_else(stack: Stack, sweep: tuple[str, str]) -> None:
    def ask(role: str, database: str, question: str) -> subprocess.CompletedProcess[str]:
        password = secrets()["LEDGER_PASSWORD" if role == "ledger" else "MLFLOW_DB_PASSWORD"]
        command = ["psql", "-h", "postgres", "-U", role, "-d", database, "-tAc", question]
        return stack.execute("postgres", *command, PGPASSWORD=password)

    assert ask("ledger", "ledger", "select count(*) from trials where state = 'COMPLETE'").stdout.strip() == f"{TRIALS}"
    assert int(ask("mlflow", "mlflow", "select count(*) from metrics").stdout) >= TRIALS * EPOCHS
    for role, database in (
        ("ledger", "mlflow"),
        ("ledger", "mlflow_auth"),
        ("mlflow", "ledger"),
        ("ledger", "postgres"),
    ):
        assert "permission denied for database" in ask(role, database, "select 1").stderr
    wrong = stack.execute("postgres", "psql", "-h", "postgres", "-U", "ledger", "-d", "ledger", PGPASSWORD="wrong")
    assert "password authentication failed" in wrong.stderr


def test_mlflow_refuses_requests_without_the_password_or_to_a_foreign_host_name(stack: Stack) -> None:
    search = "/api/2.0/mlflow/experiments/search?max_results=1"
    password = secrets()["MLFLOW_ADMIN_PASSWORD"]
    assert mlflow(stack, search, password=password)[0] == 200
    assert mlflow(stack, search)[0] == 401
    assert mlflow(stack, search, password="password1234")[0] == 401, "MLflow's former default"
    assert mlflow(stack, "/api/2.0/mlflow-artifacts/artifacts")[0] == 401
    assert mlflow(stack, "/")[0] == 401
    for name in ("evil.example", "evil.example:5000", "localhost.evil.example"):
        status, body = mlflow(stack, search, password=password, Host=name)
        assert (status, "Invalid Host header" in body) == (403, True), name


def test_ray_refuses_processes_without_the_token(stack: Stack) -> None:
    def join(**variables: str) -> subprocess.CompletedProcess[str]:
        return stack.execute("worker-cpu", "python", "-c", JOIN, timeout_s=120, **variables)

    admitted = join()
    assert "joined" in admitted.stdout, admitted.stderr
    for refused in (join(RAY_AUTH_MODE="disabled"), join(RAY_AUTH_TOKEN="f" * 64)):
        assert refused.returncode != 0
        assert "joined" not in refused.stdout
        assert "AuthenticationError" in refused.stderr, refused.stderr


@pytest.mark.parametrize("name", ["postgres", "mlflow", "ray-head", "worker-cpu"])
def test_a_service_has_no_privileges_and_can_write_only_to_tmp(stack: Stack, name: str) -> None:
    processes = [
        dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        for status in stack.execute(name, "sh", "-c", "cat /proc/[0-9]*/status").stdout.split("\nName:")
    ]
    assert processes
    for process in processes:
        assert "0" not in process["Uid"].split()
        assert int(process["CapEff"], 16) == int(process["CapBnd"], 16) == 0
        assert process["NoNewPrivs"].strip() == "1"
    written = stack.execute(
        name, "sh", "-c", "for each in / /usr /etc /opt /opt/venv; do touch $each/x; done; touch /tmp/x"
    )
    assert written.stderr.count("Read-only file system") == 5
    assert written.stderr.count("\n") == 5, "and /tmp takes files"


def test_networks_keep_workers_from_the_databases(stack: Stack) -> None:
    def reaches(name: str, host: str, port: int) -> bool:
        return stack.execute(name, "python", "-c", CONNECT, host, str(port)).returncode == 0

    assert reaches("mlflow", "postgres", 5432)
    assert reaches("worker-cpu", "ray-head", 6379)
    for name in ("worker-cpu", "ray-head"):
        for host, port in (("postgres", 5432), ("mlflow", 5000)):
            assert not reaches(name, host, port)
            assert not reaches(name, stack.address(host, "data"), port)
    assert not reaches("mlflow", stack.address("ray-head", "ray"), 6379)


def test_no_secret_is_in_a_log_or_a_command_line(stack: Stack, sweep: tuple[str, str]) -> None:
    said = "".join([*sweep, *(stack.log(name) for name in SERVICES)])
    for name in SERVICES[:-1]:
        said += stack.execute(name, "sh", "-c", "cat /proc/[0-9]*/cmdline; cat /tmp/ray/session_latest/logs/*").stdout
    assert "entry" in said
    assert "gcs_server" in said, "Ray's own logs are among them"
    assert [name for name, secret in secrets().items() if secret in said] == []
    workers = stack.execute("worker-cpu", "sh", "-c", "cat /proc/[0-9]*/environ").stdout
    assert secrets()["RAY_AUTH_TOKEN"] in workers
    assert [name for name, secret in secrets().items() if secret in workers] == ["RAY_AUTH_TOKEN"]


def test_a_backup_restores_into_an_empty_volume(
    stack: Stack, sweep: tuple[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """With the commands in docs/containers.md."""
    shown = (ROOT / "docs/containers.md").read_text()
    dump = ["pg_dumpall", "-h", "postgres", "-U", "postgres"]
    assert " ".join(dump) in shown
    password = secrets()["POSTGRES_PASSWORD"]
    dumped = stack.execute("postgres", *dump, PGPASSWORD=password)
    assert dumped.returncode == 0, dumped.stderr
    folder = tmp_path_factory.mktemp("restored")
    with stack_of(compose(secrets()), folder, ["postgres"], label="restored") as other:
        other.start("postgres")
        other.wait_until_healthy("postgres")
        psql = ["psql", "-h", "postgres", "-U", "postgres"]
        assert other.execute("postgres", *psql, PGPASSWORD=password, given=dumped.stdout).returncode == 0
        counted = [*psql, "-d", "ledger", "-tAc", "select count(*) from trials where state = 'COMPLETE'"]
        assert other.execute("postgres", *counted, PGPASSWORD=password).stdout.strip() == f"{TRIALS}"
        as_role = ["psql", "-h", "postgres", "-U", "ledger", "-d", "mlflow", "-c", "select 1"]
        refused = other.execute("postgres", *as_role, PGPASSWORD=secrets()["LEDGER_PASSWORD"])
        assert "permission denied for database" in refused.stderr, "roles and their doors are in it too"
