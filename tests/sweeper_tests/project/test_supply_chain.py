"""What is installed: floors, a lock of every byte, an audit that cannot pass by accident, a bill of materials."""

import re
import shlex
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tools import audit
from tools.lock import LOCK, Locked, locked
from tools.sbom import document_of, problems

FLOORS = {"ray": "2.56", "mlflow": "3.17.2", "torch": "2.10", "pillow": "13.0.0"}
"""Older releases have known vulnerabilities that matter here: see SECURITY.md."""
PYPROJECT = tomllib.loads(LOCK.with_name("pyproject.toml").read_text())


@pytest.mark.parametrize(("name", "floor"), FLOORS.items())
def test_no_release_below_the_floor_is_required_locked_or_installed(name: str, floor: str) -> None:
    asked = {one.name: one for one in map(Requirement, PYPROJECT["project"]["dependencies"])}[name]
    lowest = [Version(each.version) for each in asked.specifier if each.operator in (">=", "==", "~=")]
    assert lowest
    assert max(lowest) >= Version(floor)
    pins = [Version(each.version) for each in locked(LOCK.read_text()) if each.name == name]
    assert pins
    assert min(pins) >= Version(floor)
    assert Version(metadata.version(name)) >= Version(floor)


def test_the_lock_pins_every_file_by_its_hash_and_names_no_registry() -> None:
    text = LOCK.read_text()
    packages = locked(text)  # refuses ranges and URLs
    assert len(packages) > 100
    assert [package.name for package in packages if not package.sha256] == []
    assert [each for package in packages for each in package.sha256 if not re.fullmatch("[0-9a-f]{64}", each)] == []
    assert re.findall(r"(?m)^\s*-.*|\S+://\S+|\S+ @ \S+", text.replace("    --hash=", "")) == []


@pytest.mark.parametrize(
    "line", ["jinja2>=3", "jinja2 @ https://example.org/jinja2.whl", "--index-url https://x", "jinja2"]
)
def test_a_line_that_pins_nothing_is_refused(line: str) -> None:
    with pytest.raises(ValueError):
        locked(line)


# --- the audit, with a service that gives every kind of bad answer

SERVICE = """
import json, sys
pins = [line.split("==") for line in open(sys.argv[sys.argv.index("--requirement") + 1]).read().split()]
hole = {"id": "PYSEC-1", "fix_versions": [], "aliases": [], "description": ""}
answers = []
for name, version in pins:
    bad = f"{name}=={version}" in KNOWN
    answers.append({"name": name, "version": version, "vulns": [hole] if bad else []})
    if name in UNKNOWN:
        answers[-1] = {"name": name, "skip_reason": "not found"}
    if name in LEFT_OUT:
        answers.pop()
print(json.dumps({"dependencies": answers, "fixes": []}))
sys.exit(any(each.get("vulns") for each in answers))
"""


def service(tmp_path: Path, known: str = "jinja2==2.10", unknown: str = "", left_out: str = "") -> list[str]:
    """A pip-audit whose service knows vulnerabilities of some packages, does not know others, and leaves out others."""
    script = tmp_path / "service.py"
    names = f"KNOWN, UNKNOWN, LEFT_OUT = {known.split()}, {unknown.split()}, {left_out.split()}\n"
    script.write_text(names + SERVICE)
    return [sys.executable, str(script)]


def test_an_audit_that_finds_nothing_passes_and_one_that_finds_something_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert audit.main(service(tmp_path)) == audit.CLEAN
    packages = [Locked("safe", "1.0", "", ()), Locked("numpy", "2.0", "a", ()), Locked("numpy", "2.1", "b", ())]
    assert audit.audit(packages, service(tmp_path)) == {}
    found = audit.audit(packages, service(tmp_path, "jinja2==2.10 numpy==2.0 numpy==2.1"))
    assert found == {"numpy 2.0": ["PYSEC-1"], "numpy 2.1": ["PYSEC-1"]}
    assert "packages audited" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({"known": ""}, "it knows none"),  # a mirror without the key `vulnerabilities`
        ({"unknown": "pillow"}, "no answer for pillow"),
        ({"left_out": "pillow torch"}, "no answer for pillow, torch"),
        ({"unknown": "jinja2"}, "no answer for jinja2"),
    ],
)
def test_a_package_without_an_answer_is_an_error(
    tmp_path: Path, answers: dict[str, str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert audit.main(service(tmp_path, **answers)) == audit.NOT_AUDITED
    said = capsys.readouterr().err
    assert "was NOT audited" in said
    assert message in said


@pytest.mark.parametrize("command", ["true", "false", "echo '{}'", "/no/such/tool", "sh -c 'echo down >&2; exit 1'"])
def test_a_tool_without_a_result_is_an_error(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.main(["--", *shlex.split(command)]) == audit.NOT_AUDITED
    assert "was NOT audited" in capsys.readouterr().err


@pytest.mark.slow
def test_the_real_tool_without_its_service_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tool = [*audit.TOOL, "--vulnerability-service", "osv", "--osv-url", "http://127.0.0.1:1", "--timeout", "2"]
    assert audit.main(["--", *tool]) == audit.NOT_AUDITED
    assert "was NOT audited" in capsys.readouterr().err


# --- the bill of materials


def test_a_bill_without_a_package_or_its_hash_is_rejected() -> None:
    sums = [{"hashes": [{"alg": "SHA-256", "content": "a" * 64}]}]
    lock = f"a==1.0 --hash=sha256:{'a' * 64}\nb==2.0 ; python_version < '3' --hash=sha256:{'b' * 64}\n"
    good = {"name": "a", "version": "1.0", "externalReferences": sums}
    bill = {"components": [good, {"name": "b", "version": "2.0", "externalReferences": sums}]}
    assert problems(bill, lock) == ["b 2.0 lacks a hash"]
    assert problems({"components": [good]}, lock) == ["b 2.0 is missing"]
    assert problems({"components": [good]}, lock.splitlines()[0]) == []


@pytest.mark.slow
def test_the_bill_lists_what_is_locked(tmp_path: Path) -> None:
    pieces = re.split(r"(?m)^(?=[a-z])", LOCK.read_text())
    lock = "".join(piece for piece in pieces if piece.startswith(("numpy==", "ray==")))
    (tmp_path / "requirements.lock").write_text(lock)
    (tmp_path / "pyproject.toml").write_text(LOCK.with_name("pyproject.toml").read_text())
    bill = document_of(tmp_path / "requirements.lock")
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == "mano-sweeper"
    assert problems(bill, lock) == []
    assert {component["name"] for component in bill["components"] if "version" in component} >= {"numpy", "ray"}
