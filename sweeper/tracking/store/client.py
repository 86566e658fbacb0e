"""Where MLflow's store is, and the only way to its client."""

import logging
import os
import re
import sys
from pathlib import Path
from typing import Any, Final

from sweeper.errors import UserError
from sweeper.redaction import redact
from sweeper.tracking.store.database import require_database
from sweeper.tracking.store.environment import MLFLOW_ENVIRONMENT

UNFIT_PATH: Final = re.compile(r"\?|%[0-9a-fA-F]{2}")
"""What a URL of a database reads as something else than a part of a path."""
LONGEST_PATH: Final = 400
"""Of the database: MLflow takes 512 characters for the place of a run's artifacts, beside it."""


def tracking_uri(home: Path) -> str:
    """The store of a study home: ``MLFLOW_TRACKING_URI`` where it is set, else ``HOME/mlflow.db``.

    Raises:
        UserError: ``MLFLOW_TRACKING_URI`` names a folder; MLflow no longer takes those. Or the path of the home is one
            that no URL of a database can hold.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        path = str(home.resolve() / "mlflow.db")
        if (found := UNFIT_PATH.search(path)) or len(path) > LONGEST_PATH:
            what = f"has `{found[0]}` in it" if found else f"is longer than {LONGEST_PATH} characters"
            help = "name another home with --home, or a tracking server in MLFLOW_TRACKING_URI"
            raise UserError(f"MLflow cannot keep its database here: the path {what}", path, help)
        uri = f"sqlite:///{path}"
    if uri.split("://")[0] not in {"sqlite", "http", "https", "postgresql", "mysql"} and "+" not in uri.split("://")[0]:
        raise UserError(
            f"MLflow cannot keep a store at {redact(uri)}",
            where="MLFLOW_TRACKING_URI",
            help="name a server (http://host:5000) or a database (sqlite:////path/mlflow.db), or unset it",
        )
    return uri


def artifact_root(home: Path) -> str | None:
    """Where artifacts of new experiments go: ``HOME/artifacts`` for a database, None (its own choice) for a server."""
    return None if tracking_uri(home).startswith("http") else str(home.resolve() / "artifacts")


def require_store(uri: str) -> None:
    """Refuse a SQLite store that is not there or cannot be read; one of an older MLflow is migrated, and that is said.

    Raises:
        UserError: there is no such file, it is broken, or a newer MLflow wrote it.
    """
    for notice in require_database(uri):
        print(notice, file=sys.stderr)


def keeps_in_its_place(uri: str, artifact_root: str | Path | None, run_id: str, artifact_uri: str) -> bool:
    """Whether a run's artifacts are where the sweeper puts them: `ROOT/artifacts/EXPERIMENT/RUN/artifacts`.

    Only the database in a home is doubted: whoever made the home may have written any folder of this machine, or any
    server, into it. Another database is one that the user named. The home may have moved, so ROOT is any.
    """
    if artifact_root is None or uri != f"sqlite:///{Path(artifact_root).parent / 'mlflow.db'}":
        return True
    place = Path(artifact_uri.removeprefix("file://"))
    tail = place.parts[-4:]
    fits = place.is_absolute() and len(tail) == 4 and (tail[0], *tail[2:]) == ("artifacts", run_id, "artifacts")
    return fits and ".." not in place.parts and place.resolve().parts[-4:] == tail


def open_client(uri: str) -> Any:
    """An ``MlflowClient`` on `uri`. Slow: importing MLflow takes 2 to 6 s, the tables of a new database 4 to 8 s."""
    for name, value in MLFLOW_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for noisy in ("alembic", "urllib3.connectionpool"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # tracebacks of errors that it raises too
    import mlflow  # never a part of it first: two threads that import two parts at once get half of it each

    return mlflow.MlflowClient(tracking_uri=uri)
