"""MLflow's web app behind a token, in a process that ends with the one that started it.

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
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import SimpleCookie
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

APIS: Final = ("api", "ajax-api", "gateway", "jobs", "v1", "mcp")
NOT_SERVED: Final = frozenset({"assistant", "gateway", "jobs", "webhooks", "scorers", "mcp-servers", "mcp"})
"""Parts of paths of APIs that run something or call somebody, which is not looking at a study."""
PRESET: Final = b"""<script>
try { localStorage.setItem("mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "true"); } catch (error) {}
</script>"""
"""Before the page's own scripts: else the assistant's panel opens over a third of a new visitor's page."""


class TokenGate:
    """Lets through to an app who has the token.

    Args:
        app: the ASGI app behind it.
        token: of the printed address.
        port: of the server: cookies know no ports, so the name of this one has it.
    """

    def __init__(self, app: App, token: str, port: int) -> None:
        self._app = app
        self._token = token
        self._cookie = f"sweeper_token_{port}"

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
        elif scope["path"] == "/health":  # tells nothing
            await self._app(scope, receive, send)
        elif self._is_right(dict(parse_qsl(scope["query_string"].decode("latin-1"))).get("token")):
            await self._take_to_cookie(scope, send)
        elif not self._is_known(scope):
            await _answer(send, 401, b"This address needs the token that `sweeper ui` has printed.\n")
        elif _is_closed(scope["path"]):
            await _answer(send, 404, b"Not served by `sweeper ui`.\n")
        else:
            await self._app(scope, receive, _with_preset(send) if scope["path"] == "/" else send)

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
        await _answer(send, 303, b"", headers)


def _is_closed(path: str) -> bool:
    parts = path.strip("/").split("/")
    return parts[0] in APIS and not NOT_SERVED.isdisjoint(parts)


async def _answer(send: Send, status: int, text: bytes, headers: list[tuple[bytes, bytes]] | None = None) -> None:
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


def main() -> None:
    """Serve until stdin ends."""
    settings = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    os.environ |= settings["environment"]
    import uvicorn
    from mlflow.server.fastapi_app import app

    gate = TokenGate(app, settings["token"], settings["port"])
    uvicorn.run(gate, host=settings["host"], port=settings["port"], log_level="warning", timeout_graceful_shutdown=2)


def _end_with_stdin() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
