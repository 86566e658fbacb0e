"""`make audit`: asks for known vulnerabilities of every package of requirements.lock, those of other platforms too.

pip-audit passes a package that its service does not know, and takes an answer without the key `vulnerabilities` (of a
mirror, say) for a clean bill. So here a package that was not answered for is an error, and before the lock is asked
about, a release with well-known holes is: a service that finds nothing there would find nothing anywhere.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from packaging.utils import canonicalize_name
from packaging.version import Version

from tools.lock import LOCK, UV, Locked, locked

PIP_AUDIT: Final = "pip-audit==2.10.0"
TOOL: Final = (UV, "tool", "run", "--quiet", "--from", PIP_AUDIT, "pip-audit")
CANARY: Final = Locked("jinja2", "2.10", "", ())
"""CVE-2019-10906 (escape from the sandbox) and later ones."""
CLEAN, VULNERABLE, NOT_AUDITED = 0, 1, 2


class NotAudited(Exception):
    """Nothing can be said of some package."""


def audit(packages: Sequence[Locked], tool: Sequence[str] = TOOL) -> dict[str, list[str]]:
    """`name version` -> the vulnerabilities known of it, for every package that has any.

    Raises:
        NotAudited: the service does not answer, answers nothing for the canary, or leaves a package out.
    """
    if not _ask([CANARY], tool):
        raise NotAudited(f"the service knows of no vulnerability in {CANARY.name} {CANARY.version}: it knows none")
    found: dict[str, list[str]] = {}
    rest = list(packages)
    while rest:  # a package that is locked twice is asked about in two rounds
        wave = list({package.name: package for package in reversed(rest)}.values())
        found |= _ask(wave, tool)
        rest = [package for package in rest if package not in wave]
    return found


def _ask(packages: Sequence[Locked], tool: Sequence[str]) -> dict[str, list[str]]:
    with tempfile.TemporaryDirectory() as scratch:
        pins = Path(scratch) / "pins.txt"
        pins.write_text("".join(f"{package.name}=={package.version}\n" for package in packages))
        options = ("--strict", "--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json")
        done = subprocess.run([*tool, *options, "--requirement", str(pins)], capture_output=True, text=True)
    try:
        answers = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise NotAudited(said[-1]) from None
    answered = {_key(each) for each in answers if "vulns" in each}
    missing = sorted(package.name for package in packages if (package.name, Version(package.version)) not in answered)
    if missing or done.returncode not in (0, 1):
        raise NotAudited(f"no answer for {', '.join(missing) or 'some package'}")
    return {
        f"{each['name']} {each['version']}": [one["id"] for one in each["vulns"]]
        for each in answers
        if each.get("vulns")
    }


def _key(answer: dict[str, Any]) -> tuple[str, Version]:
    return canonicalize_name(answer["name"]), Version(answer["version"])


def main(arguments: Sequence[str]) -> int:
    """Audit the lock; the exit code is 0 only if every package was answered for and none has a known hole."""
    parser = argparse.ArgumentParser(prog="python -m tools.audit")
    parser.add_argument("tool", nargs="*", default=TOOL, help="the command that is pip-audit")
    packages = locked(LOCK.read_text())
    try:
        found = audit(packages, parser.parse_args(arguments).tool)
    except (NotAudited, OSError) as error:
        print(f"error: {LOCK.name} was NOT audited: {error}", file=sys.stderr)
        print("help: it needs https://pypi.org/pypi; a mirror without its JSON API will not do", file=sys.stderr)
        return NOT_AUDITED
    for name, holes in sorted(found.items()):
        print(f"{name}: {', '.join(holes)}")
    print(f"{len(packages)} packages audited, {len(found)} with known vulnerabilities", file=sys.stderr)
    return VULNERABLE if found else CLEAN


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
