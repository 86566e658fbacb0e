"""docker/rayjob.yaml: what Kubernetes itself defines is checked against its schemas, and security by reading it.

No package contains a schema of KubeRay's own keys; they were compared with its documentation by eye.
"""

import os
import subprocess
from copy import deepcopy
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from compose_file import DOCKER, ROOT

KUBERNETES = "1.34"
NO_SECRETS = {"SWEEPER_LEDGER", "MLFLOW_TRACKING_URI"}


@pytest.fixture(scope="module")
def documents() -> dict[str, dict[str, Any]]:
    return {each["kind"]: each for each in yaml.safe_load_all((DOCKER / "rayjob.yaml").read_text())}


def pods(documents: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Name -> each pod template, as the pod that is made from it."""
    spec = documents["RayJob"]["spec"]
    cluster = spec["rayClusterSpec"]
    templates = {"submitter": spec["submitterPodTemplate"], "head": cluster["headGroupSpec"]["template"]}
    templates |= {group["groupName"]: group["template"] for group in cluster["workerGroupSpecs"]}
    return {
        name: {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, **each["metadata"]}, "spec": each["spec"]}
        for name, each in templates.items()
    }


def faults(pod: dict[str, Any]) -> list[str]:
    """What the restricted profile of Kubernetes' pod security refuses, and a writable root file system."""
    found = []
    spec = pod["spec"]
    outer = spec.get("securityContext", {})
    if outer.get("runAsNonRoot") is not True or outer.get("runAsUser") != 10001:
        found.append("root")
    if outer.get("seccompProfile") != {"type": "RuntimeDefault"}:
        found.append("seccomp")
    if any(spec.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")):
        found.append("the host's namespaces")
    if spec.get("automountServiceAccountToken") is not False:
        found.append("a token of Kubernetes")
    found += [f"volume {each['name']}" for each in spec.get("volumes", []) if "hostPath" in each]
    for container in spec["containers"]:
        inner = container.get("securityContext", {})
        if inner.get("readOnlyRootFilesystem") is not True:
            found.append("writable root")
        if inner.get("allowPrivilegeEscalation") is not False or inner.get("privileged"):
            found.append("privileges")
        if inner.get("capabilities") != {"drop": ["ALL"]}:
            found.append("capabilities")
        if not {"requests", "limits"} <= container.get("resources", {}).keys():
            found.append("resources")
        found += [
            f"{each['name']} in the file"
            for each in container.get("env", [])
            if "value" in each and each["name"] not in NO_SECRETS
        ]
    return found


def test_what_kubernetes_defines_follows_its_schemas(documents: dict[str, Any]) -> None:
    assert documents.keys() == {"PersistentVolumeClaim", "NetworkPolicy", "RayJob"}
    for kind in ("PersistentVolumeClaim", "NetworkPolicy"):
        kubernetes_validate.validate(documents[kind], KUBERNETES, strict=True)
    for pod in pods(documents).values():
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)
    wrong = deepcopy(pods(documents)["head"])
    wrong["spec"]["containers"][0]["securityContext"]["readOnlyRootFileSystem"] = True  # one capital letter too many
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, KUBERNETES, strict=True)


def test_no_pod_is_insecure(documents: dict[str, Any]) -> None:
    assert {name: faults(pod) for name, pod in pods(documents).items()} == {"submitter": [], "head": [], "gpu": []}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("securityContext", "runAsUser"), 0),
        (("hostNetwork",), True),
        (("automountServiceAccountToken",), True),
        (("volumes", 0), {"name": "tmp", "hostPath": {"path": "/"}}),
        (("containers", 0, "securityContext", "readOnlyRootFilesystem"), False),
        (("containers", 0, "securityContext", "capabilities"), {"add": ["SYS_ADMIN"]}),
        (("containers", 0, "resources"), {}),
        (("containers", 0, "env", 1), {"name": "PGPASSWORD", "value": "hunter2"}),
    ],
)
def test_an_insecure_setting_is_found(documents: dict[str, Any], path: tuple[Any, ...], value: object) -> None:
    pod = deepcopy(pods(documents)["head"])
    place = pod["spec"]
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert faults(pod)


def test_only_the_head_has_passwords_and_each_is_a_reference(documents: dict[str, Any]) -> None:
    for name, pod in pods(documents).items():
        references = {
            each["name"]: each["valueFrom"]["secretKeyRef"]["name"]
            for each in pod["spec"]["containers"][0].get("env", [])
            if "valueFrom" in each
        }
        expected = {"PGPASSWORD", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"} if name == "head" else set()
        assert references == dict.fromkeys(expected, "sweeper")


def test_the_network_policy_covers_every_pod(documents: dict[str, Any]) -> None:
    policy = documents["NetworkPolicy"]["spec"]
    selected = policy["podSelector"]["matchLabels"]
    assert selected
    for pod in pods(documents).values():
        assert selected.items() <= pod["metadata"]["labels"].items()
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    for rule in (*policy["ingress"], *policy["egress"]):
        peers = rule.get("from", rule.get("to"))
        assert peers, "a rule without peers admits everybody"
        assert all("ipBlock" not in peer for peer in peers)
        assert all(peer.get("podSelector") or peer["namespaceSelector"] for peer in peers)


def test_the_cluster_asks_for_a_token_and_has_the_locked_version_of_ray(documents: dict[str, Any]) -> None:
    cluster = documents["RayJob"]["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert f"\nray=={cluster['rayVersion']} " in (ROOT / "requirements.lock").read_text()
    worker = cluster["workerGroupSpecs"][0]
    probes = worker["template"]["spec"]["containers"][0]
    assert probes["readinessProbe"]["tcpSocket"]["port"] == int(worker["rayStartParams"]["node-manager-port"])
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0", "nothing trains beside the driver"


@pytest.mark.parametrize(("code", "handed_over"), [(0, 0), (1, 0), (2, 0), (3, 0), (5, 0), (130, 130), (137, 137)])
def test_a_driver_that_ended_by_itself_is_not_retried_but_a_killed_one_is(
    code: int, handed_over: int, documents: dict[str, Any], tmp_path: Path
) -> None:
    entry, job, *arguments = documents["RayJob"]["spec"]["entrypoint"].split()
    assert (entry, job, arguments[0]) == ("entry", "job", "run")
    stub = tmp_path / "sweeper"
    stub.write_text(f'#!/bin/sh\necho "$@"\nexit {code}\n')
    stub.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = ["sh", str(DOCKER / "entry.sh"), job, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == handed_over
    assert done.stdout == "run /specs/sweep.yaml --address auto\n"
    assert (f"sweeper ended with exit code {code};" in done.stderr) == (code in range(1, 6))


def test_every_mounted_volume_is_defined(documents: dict[str, Any]) -> None:
    claim = documents["PersistentVolumeClaim"]["metadata"]["name"]
    for pod in pods(documents).values():
        volumes = {each["name"]: each for each in pod["spec"]["volumes"]}
        mounts = {each["name"]: each["mountPath"] for each in pod["spec"]["containers"][0]["volumeMounts"]}
        assert mounts.keys() == volumes.keys()
        assert mounts["tmp"] == "/tmp"
        if "home" in volumes:
            assert volumes["home"]["persistentVolumeClaim"] == {"claimName": claim}
