"""optuna-dashboard on a copy of the ledger, behind the token of `gate`: it shows, and changes nothing.

Run as `python -m sweeper.tracking.ui.dashboard_app`, as `gate` is.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from sweeper.ledger.dashboard_copy import copy_studies
from sweeper.tracking.ui.gate import App, Message, Receive, Send, answer, serve

READING: Final = ("GET", "HEAD")


def _app(settings: Mapping[str, Any]) -> App:
    import a2wsgi
    import optuna_dashboard

    storage = copy_studies(Path(settings["home"]), settings["studies"])
    app: App = a2wsgi.WSGIMiddleware(optuna_dashboard.wsgi(storage))
    return _read_only(app)


def _read_only(app: App) -> App:
    """The app without what its buttons would do to the copy, and a visitor might take for the study."""

    async def serve_request(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] not in READING:
            await answer(send, 405, b"This page is a copy of the study, to be looked at.\n", [(b"allow", b"GET, HEAD")])
        else:
            await app(scope, receive, send)

    return serve_request


if __name__ == "__main__":
    serve(_app, "dashboard")
