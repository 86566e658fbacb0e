"""Ports for the tests' servers, some of which are stopped and then expected at the same port."""

import secrets
import socket

FIRST, END = 20_000, 32_768  # below what the kernel and Ray hand out: nothing else takes one while its server is down


def free_port() -> int:
    """A port on loopback that nothing listens on."""
    while True:
        port = FIRST + secrets.randbelow(END - FIRST)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
