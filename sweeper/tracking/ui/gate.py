"""A web app behind a token, in a process that ends with the one that started it.

Every user of a machine reaches its loopback interface, and MLflow's app lets whoever reaches it change records, and
run commands through its assistant. So the address carries a token, which a cookie then holds, and what people need not
for looking at studies is not served at all.

Run as `python -m sweeper.tracking.ui.gate`, with the settings as a line of JSON on stdin. When stdin ends, whoever
started it is gone, however that came.
"""

import hmac
import json
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from http.cookies import SimpleCookie
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

APIS: Final = ("api", "ajax-api", "gateway", "jobs", "v1", "mcp")
NOT_SERVED: Final = frozenset({"assistant", "gateway", "jobs", "webhooks", "scorers", "mcp-servers", "mcp"})
"""Parts of API paths that run something or call somebody, which viewing a study does not need."""
PRESET: Final = b"""<script>
try {
    localStorage.setItem("mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "true");
    if (!localStorage.getItem("mlflow.workflowType_v1"))
        localStorage.setItem("mlflow.workflowType_v1", '"machine_learning"');
} catch (error) {}
</script>"""
"""Before the page's own scripts: else the assistant's panel opens over a third of a new visitor's page, and an address
that names no study shows the pages of GenAI."""


class TokenGate:
    """Lets holders of the token through to an app.

    Args:
        app: the ASGI app behind it.
        token: of the printed address.
        port: of the server: cookies know no ports, so the name of this one has it.
        verb: that prints the address.
    """

    def __init__(self, app: App, token: str, port: int, verb: str) -> None:
        self._app = app
        self._token = token
        self._verb = verb
        self._cookie = f"sweeper_token_{port}"

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
        elif scope["path"] == "/health":  # reveals nothing
            await answer(send, 200, b"OK\n")
        elif self._is_right(dict(parse_qsl(scope["query_string"].decode("latin-1"))).get("token")):
            await self._take_to_cookie(scope, send)
        elif not self._is_known(scope):
            await answer(send, 401, f"This address needs the token that `sweeper {self._verb}` has printed.\n".encode())
        else:
            await self._app(scope, receive, send)

    def _is_right(self, token: str | None) -> bool:
        return token is not None and hmac.compare_digest(token.encode(), self._token.encode())

    def _is_known(self, scope: Message) -> bool:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        cookie = SimpleCookie(headers.get("cookie", "")).get(self._cookie)
        bearer = headers.get("authorization", "").removeprefix("Bearer ")  # of MLFLOW_TRACKING_TOKEN
        return self._is_right(cookie.value if cookie else None) or self._is_right(bearer)

    async def _take_to_cookie(self, scope: Message, send: Send) -> None:
        """The same address without the token, which then stands in no history and no link; what follows # stays."""
        rest = [(name, value) for name, value in parse_qsl(scope["query_string"].decode("latin-1")) if name != "token"]
        place = scope["path"] + (f"?{urlencode(rest)}" if rest else "")
        cookie = f"{self._cookie}={self._token}; HttpOnly; SameSite=Strict; Path=/"
        headers = [(b"location", place.encode()), (b"set-cookie", cookie.encode())]
        await answer(send, 303, b"", headers)


def looking_only(app: App) -> App:
    """MLflow's app without what runs something, and without a panel over a new visitor's page."""

    async def serve_request(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _is_closed(scope["path"]):
            await answer(send, 404, b"Not served by `sweeper ui`.\n")
        else:
            await app(scope, receive, _with_preset(send) if scope.get("path") == "/" else send)

    return serve_request


def _is_closed(path: str) -> bool:
    parts = path.strip("/").split("/")
    return parts[0] in APIS and not NOT_SERVED.isdisjoint(parts)


async def answer(send: Send, status: int, text: bytes, headers: list[tuple[bytes, bytes]] | None = None) -> None:
    """Send a whole response of plain text."""
    told = [(b"content-type", b"text/plain; charset=utf-8"), *(headers or [])]
    await send({"type": "http.response.start", "status": status, "headers": told})
    await send({"type": "http.response.body", "body": text})


def _with_preset(send: Send) -> Send:
    """Put the preset into a page of HTML on its way out."""
    started: list[Message] = []
    body = bytearray()

    async def pass_on(message: Message) -> None:
        if message["type"] == "http.response.start":
            started.append(message)
            return
        body.extend(message.get("body", b""))
        if message.get("more_body"):
            return
        page = bytes(body).replace(b"<head>", b"<head>" + PRESET, 1)
        headers = [(name, value) for name, value in started[0]["headers"] if name.lower() != b"content-length"]
        headers.append((b"content-length", str(len(page)).encode()))
        await send({**started[0], "headers": headers})
        await send({"type": "http.response.body", "body": page})

    return pass_on


def serve(make_app: Callable[[Mapping[str, Any]], App], verb: str) -> None:
    """Serve until stdin ends, by the settings that its first line holds.

    Args:
        make_app: the app, by the settings.
        verb: that starts the server.
    """
    settings = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    import uvicorn

    gate = TokenGate(make_app(settings), settings["token"], settings["port"], verb)
    uvicorn.run(gate, host=settings["host"], port=settings["port"], log_level="warning", timeout_graceful_shutdown=2)


def _end_with_stdin() -> None:
    sys.stdin.read()
    os._exit(0)


def _mlflow_app(settings: Mapping[str, Any]) -> App:
    os.environ |= settings["environment"]
    from mlflow.server.fastapi_app import app

    return looking_only(app)


if __name__ == "__main__":
    serve(_mlflow_app, "ui")
