"""An S3-compatible server for tests: moto's, in a thread."""

import secrets
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import boto3
from moto.server import ThreadedMotoServer
from ports import free_port

KEY_ID, SECRET = (
    f"AKIA{secrets.token_hex(8).upper()}",
    secrets.token_hex(20),
)  # not in the source, which a study records
BUCKET = "checkpoints"


@dataclass
class S3Server:
    """A server that can go away and come back. Its objects live in this process."""

    host: str = "127.0.0.1"
    port: int = field(default_factory=free_port)

    def start(self) -> None:
        self._server = ThreadedMotoServer(self.host, self.port, verbose=False)
        self._server.start()

    def stop(self) -> None:
        self._server.stop()

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to use it."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    @property
    def client(self) -> Any:
        """Another library's view of it."""
        return boto3.client("s3", "us-east-1", None, True, None, self.url, KEY_ID, SECRET)

    def demand_credentials(self, demanded: bool) -> None:
        """From now on refuse keys that no user has."""
        body, plain = b"0" if demanded else b"inf", {"Content-Type": "text/plain"}
        request = urllib.request.Request(f"{self.url}/moto-api/reset-auth", body, plain)
        urllib.request.urlopen(request, timeout=10).close()


@contextmanager
def s3_server(host: str = "127.0.0.1") -> Iterator[S3Server]:
    """A running server with an empty bucket."""
    server = S3Server(host)
    server.start()
    try:
        server.client.create_bucket(Bucket=BUCKET)
        yield server
    finally:
        server.stop()
