"""Ports for servers of tests, some of which are stopped and looked for at the same place."""

import secrets
import socket

FIRST, END = 20_000, 32_768  # below what the kernel and Ray hand out: nothing else takes one whose server is down


def free_port() -> int:
    """A port of loopback that nothing listens on."""
    while True:
        port = FIRST + secrets.randbelow(END - FIRST)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
