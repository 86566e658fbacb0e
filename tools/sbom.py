"""`make sbom`: the packages of requirements.lock as a CycloneDX document on stdout, checked to be all of them.

Made by cyclonedx-bom in an environment of its own, so that the lock does not grow. The same lock gives the same
document: it holds no time and no random number.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from packaging.utils import canonicalize_name

from tools.lock import LOCK, UV, locked

CYCLONEDX: Final = "cyclonedx-bom==7.5.0"
TOOL: Final = (UV, "tool", "run", "--quiet", "--from", CYCLONEDX, "cyclonedx-py")


def problems(document: dict[str, Any], lock: str) -> list[str]:
    """What of a lock is missing in a document: a package, or one of its sums."""
    listed = {
        (canonicalize_name(component["name"]), component["version"]): {
            each["content"]
            for reference in component.get("externalReferences", ())
            for each in reference.get("hashes", ())
        }
        for component in document.get("components", ())
        if "version" in component
    }
    wrong = []
    for package in locked(lock):
        sums = listed.get((canonicalize_name(package.name), package.version))
        if sums is None:
            wrong.append(f"{package.name} {package.version} is missing")
        elif not sums.issuperset(package.sha256):
            wrong.append(f"{package.name} {package.version} lacks a hash")
    return wrong


def document_of(lock: Path) -> dict[str, Any]:
    """The document of a lock; `pyproject.toml` lies beside it.

    Raises:
        subprocess.CalledProcessError: cyclonedx-bom cannot be had, or fails.
    """
    options = ("--pyproject", str(lock.with_name("pyproject.toml")), "--output-reproducible", str(lock))
    environment = os.environ | {"PYTHONWARNINGS": "ignore"}
    done = subprocess.run([*TOOL, "requirements", *options], stdout=subprocess.PIPE, check=True, env=environment)
    document: dict[str, Any] = json.loads(done.stdout)
    for component in document["components"]:
        component.pop("description", None)  # the lines of the lock again
    return document


def main() -> int:
    """Print the document; 1 if it could not be made or something is missing in it."""
    try:
        document = document_of(LOCK)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"error: no document could be made: {error}", file=sys.stderr)
        return 1
    if wrong := problems(document, LOCK.read_text()):
        print(f"error: {'; '.join(wrong)}", file=sys.stderr)
        return 1
    print(json.dumps(document, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
