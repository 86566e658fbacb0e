"""Looks at a sweep from outside: sockets of its processes, files that others may read or write, files with secrets."""

import os
import socket
import stat
import subprocess
import sys
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

import psutil

MARK = "SWEEPER_TEST_MARK"
"""The variable that marks the processes of one sweep."""
Socket = tuple[str, str, int]
"""Name of the process, address, port."""
CALL_RAY = """
import os, sys
from ray._raylet import GcsClient
if sys.argv[1] == "another":
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
try:
    GcsClient(address=f"127.0.0.1:{sys.argv[2]}").internal_kv_keys(b"", b"")
    print("in")
except Exception as error:
    print(type(error).__name__, error)
"""
"""Asks Ray for what it stores, as its owner or as another user of the machine, with what that user can read."""


def marked(mark: str) -> list[psutil.Process]:
    """Every process that was started with this mark in its environment, no matter by whom."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def names_of(processes: list[psutil.Process]) -> list[str]:
    """Names of those that are still running: a trial's process may end while it is looked at."""
    found = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            found.append(process.name())
    return found


def listening(processes: list[psutil.Process]) -> list[Socket]:
    """Sockets of the processes that somebody can reach: TCP that listens, UDP that is bound and not connected."""
    found = []
    for process in processes:
        try:
            name, sockets = process.name(), process.net_connections("inet")
        except psutil.NoSuchProcess:
            continue
        for each in sockets:
            udp = each.type == socket.SOCK_DGRAM and not each.raddr
            if each.laddr and (udp or each.status == psutil.CONN_LISTEN):
                found.append((name, each.laddr.ip, each.laddr.port))
    return found


def beyond_loopback(sockets: list[Socket]) -> list[Socket]:
    def is_loopback(text: str) -> bool:
        address = ip_address(text)
        return (getattr(address, "ipv4_mapped", None) or address).is_loopback

    return [each for each in sockets if not is_loopback(each[1])]


def call_ray(sockets: list[Socket], user: Path, who: str) -> list[str]:
    """What each port of Ray's head answers."""
    environment = os.environ | {
        "RAY_AUTH_MODE": "token",
        "HOME": str(user),
        "RAY_gcs_rpc_server_connect_timeout_s": "2",
    }
    answers = []
    for name, _, port in sockets:
        if name == "gcs_server":
            command = [sys.executable, "-c", CALL_RAY, who, str(port)]
            done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
            answers.append((done.stdout + done.stderr).strip().splitlines()[-1])
    return answers


def open_to_others(folder: Path) -> list[str]:
    """Files and folders in a folder to which group or others have any access."""
    return [
        f"{stat.filemode(path.lstat().st_mode)} {path}"
        for path in (folder, *folder.rglob("*"))
        if not path.is_symlink() and path.exists() and path.stat().st_mode & 0o077
    ]


def holding(folder: Path, secrets: list[str]) -> list[str]:
    """Files that hold a secret."""
    texts = [secret.encode() for secret in secrets]
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [str(path) for path in files if any(text in path.read_bytes() for text in texts)]
