"""A service of docker/compose.yaml as a process: its environment, its user, its root file system, its command."""

import json
import os
import pwd
import re
import shlex
import sys
from pathlib import Path
from string import Template
from typing import Any

from compose_file import DOCKER, ROOT
from postgres_server import postgres_binaries

SOURCE = "/opt/source"
COMMIT = "c0ffee" * 6 + "c0ff"  # the build argument
BASE_PATH = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
INIT = """trap 'kill -TERM "$child"' TERM INT; "$@" & child=$!; wait "$child"; code=$?
while kill -0 "$child" 2>/dev/null; do wait "$child"; code=$?; done; exit "$code" """


def environment_of(service: dict[str, Any]) -> dict[str, str]:
    """The environment of the Dockerfile (its final stage) or of PostgreSQL's image, then of the service."""
    own = {name: str(value) for name, value in service.get("environment", {}).items()}
    if not _is_ours(service):
        return {"PATH": f"{postgres_binaries()}:{BASE_PATH}", "PGDATA": "/var/lib/postgresql/data", **own}
    final = (DOCKER / "Dockerfile").read_text().rpartition("\nFROM ")[2].replace("\\\n", " ")
    lines = re.findall(r"^ENV (.*)$", final, flags=re.MULTILINE)
    words = [Template(word).substitute(PATH=BASE_PATH, COMMIT=COMMIT) for line in lines for word in shlex.split(line)]
    image = dict(word.split("=", 1) for word in words)
    source = ":".join(filter(None, (own.get("PYTHONPATH"), SOURCE, f"{SOURCE}/trainers")))
    return {**image, **own, "PYTHONPATH": source}


def as_user(service: dict[str, Any]) -> list[str]:
    """The prefix that makes a command run as the service's user, without capabilities."""
    assert (service["cap_drop"], service["security_opt"]) == (["ALL"], ["no-new-privileges:true"])
    user, group = _user(service)
    nothing = ["--clear-groups", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]
    return ["setpriv", f"--reuid={user}", f"--regid={group}", *nothing, "--"]


def root_script(name: str, service: dict[str, Any], folder: Path, hosts: str) -> str:
    """A shell script that mounts the root of a service and becomes its first process.

    Args:
        folder: of the stack, for volumes and roots.
        hosts: the text of its /etc/hosts.
    """
    user, group = _user(service)
    root = folder / f"{name}.root"
    root.mkdir(exist_ok=True)
    (folder / f"{name}.hosts").write_text(hosts)
    read_only = {each: each for each in ("/usr", sys.base_prefix, sys.prefix) if Path(each).is_dir()}
    read_only |= {SOURCE: str(ROOT), "/opt/venv": sys.prefix, "/etc/hosts": str(folder / f"{name}.hosts")}
    read_only |= {"/etc/ld.so.cache": "/etc/ld.so.cache"}
    read_only |= {"/etc/sweeper/mlflow_auth.ini": str(DOCKER / "mlflow_auth.ini")}
    writable: dict[str, str] = {}
    for volume in service.get("volumes", []):
        source, target, *mode = volume.split(":")
        if source.startswith((".", "/")):
            path = (DOCKER / source).resolve()
        else:
            path = folder / "volumes" / source
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.chown(path, user, group)
        (read_only if mode == ["ro"] else writable)[target] = str(path)
    lines = ["set -eu", f"R={shlex.quote(str(root))}", "mount --make-rprivate /", "mount -t tmpfs -o mode=755 tmpfs $R"]
    lines += [f"hostname {name}", "mkdir -p $R/proc $R/sys $R/etc $R/dev/shm"]
    lines += [f"[ -L /{each} ] && ln -s usr/{each} $R/{each}" for each in ("bin", "sbin", "lib", "lib64")]
    for each in service.get("tmpfs", []):
        target, _, options = each.partition(":")
        lines.append(f"mkdir -p $R{target}; mount -t tmpfs -o noexec,nosuid,nodev,{options} tmpfs $R{target}")
    for target, source in {**read_only, **writable}.items():  # after /tmp: this checkout may be in there
        place = target if Path(source).is_dir() else str(Path(target).parent)
        lines.append(f"mkdir -p $R{place}; [ -e $R{target} ] || touch $R{target}")
        lines.append(f"mount --bind {shlex.quote(source)} $R{target}")
        if target in read_only:
            lines.append(f"mount -o remount,bind,ro $R{target}")
    # The image has nothing of this machine's /usr/local; it has its entry script there.
    lines += ["mount -t tmpfs -o mode=755 tmpfs $R/usr/local", "mkdir -p $R/usr/local/bin"]
    lines += [f"cp {DOCKER}/entry.sh $R/usr/local/bin/entry", "mount -o remount,ro $R/usr/local"]
    for each in ("null", "zero", "full", "random", "urandom", "tty"):
        lines.append(f"touch $R/dev/{each}; mount --bind /dev/{each} $R/dev/{each}")
    memory = service.get("shm_size", "64m")
    lines += ["ln -s /proc/self/fd $R/dev/fd", f"mount -t tmpfs -o size={memory} tmpfs $R/dev/shm"]
    passwd = f"root:x:0:0::/root:/bin/sh\nowner:x:{user}:{group}::/home/sweeper:/bin/sh"
    lines += [f"echo {shlex.quote(passwd)} > $R/etc/passwd", f"echo owner:x:{group}: > $R/etc/group"]
    lines += ["echo hosts: files > $R/etc/nsswitch.conf"]
    lines += ["mount -t proc proc $R/proc", "mount -t sysfs -o ro sysfs $R/sys"]
    lines += ["mount -o remount,ro $R" if service["read_only"] else ":", 'cd "$R"']
    become = ["chroot", str(root), *as_user(service), "bash", "-c", INIT, "init", *_command(service)]
    return "\n".join([*lines, f"exec {shlex.join(become)}"])


def _is_ours(service: dict[str, Any]) -> bool:
    return "build" in service


def _user(service: dict[str, Any]) -> tuple[int, int]:
    name, _, group = service["user"].partition(":")
    if name.isdigit():
        return int(name), int(group)
    entry = pwd.getpwnam(name)
    return entry.pw_uid, entry.pw_gid


def _command(service: dict[str, Any]) -> list[str]:
    command = service.get("command", [])
    if _is_ours(service):
        final = (DOCKER / "Dockerfile").read_text().rpartition("\nFROM ")[2]
        image = json.loads(re.findall(r"^ENTRYPOINT (.*)$", final, flags=re.MULTILINE)[-1])
        return [*service.get("entrypoint", image), *command]
    return ["bash", f"{SOURCE}/tests/sweeper_tests/postgres_entrypoint.sh", *command]
