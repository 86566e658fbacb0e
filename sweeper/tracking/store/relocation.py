"""A study home that was moved or copied: the database names the folder where its artifacts were.

Artifacts of a home lie beneath it, in `artifacts/EXPERIMENT`, so what the database says of an experiment elsewhere is
changed to that folder here. A copy then has files of its own, and does not write into those of the home it came from.
In a database that several homes use, that is done for the experiments of this home alone, and only where it has moved.
"""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from sweeper.tracking.delivery.runs import stream_of
from sweeper.tracking.schema import TAG_OUTBOX

NAME: Final = "mlflow.db"
"""Of the database of a home; another is the user's, who says where its artifacts go."""
COLUMNS: Final = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def relocate(database: Path) -> Sequence[str]:
    """Change places of artifacts in the database of a home that has moved.

    Returns:
        What people must be told; usually nothing.
    """
    if database.name != NAME:
        return []
    root = database.resolve().parent / "artifacts"
    with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=rw", uri=True, timeout=20)) as connection:
        former = sorted({place.parent for place, stream in _places(connection) if _has_moved(place, stream, root)})
        if not former:
            return []
        with connection:
            for old in former:
                _rewrite(connection, str(old), str(root))
    return [
        f"this home was {'copied' if old.is_dir() else 'moved'} from {old.parent}: "
        f"MLflow now looks for its artifacts in {root}"
        for old in former
    ]


def moved_to(location: str, artifact_root: str | Path | None) -> Path | None:
    """Where the artifacts of an experiment are, which its database looks for in a home that is gone; None: there."""
    place = Path(location.removeprefix("file://"))
    if artifact_root is None or place.parent.name != "artifacts" or not place.is_absolute():
        return None
    here = Path(artifact_root).resolve() / place.name
    return here if here.is_dir() and not place.exists() and here != place else None


def relocate_experiment(uri: str, location: str, here: Path) -> str:
    """Change the place of an experiment's artifacts, and of its runs', in a database that other homes use too.

    Returns:
        What people must be told.
    """
    import sqlalchemy  # slow to import, and rarely needed

    engine = sqlalchemy.create_engine(uri, poolclass=sqlalchemy.NullPool)
    existing = set(sqlalchemy.inspect(engine).get_table_names())
    with engine.begin() as connection:
        for table, name in COLUMNS:
            column: sqlalchemy.ColumnClause[str] = sqlalchemy.column(name, sqlalchemy.String)
            start = sqlalchemy.func.substr(column, 1, len(location) + 1)
            rest = sqlalchemy.func.substr(column, len(location) + 1, type_=sqlalchemy.String)
            if table in existing:
                connection.execute(
                    sqlalchemy.update(sqlalchemy.table(table, column))
                    .where(sqlalchemy.or_(column == location, start == f"{location}/"))
                    .values({name: sqlalchemy.literal(str(here)) + rest})
                )
    return f"this home has moved: MLflow now looks for the artifacts of `{here.name}` in {here}"


def _places(connection: sqlite3.Connection) -> list[tuple[Path, str | None]]:
    """Where the artifacts of each experiment are, and the ID of the outbox that made it."""
    rows = connection.execute(
        "SELECT artifact_location, value FROM experiments LEFT JOIN experiment_tags"
        " ON experiments.experiment_id = experiment_tags.experiment_id AND key = ?"
        " WHERE artifact_location IS NOT NULL",
        (TAG_OUTBOX,),
    )
    return [(Path(place.removeprefix("file://")), stream) for place, stream in rows]


def _has_moved(place: Path, stream: str | None, root: Path) -> bool:
    """Whether an experiment's artifacts lay in another home, and are here or nowhere, or of a study that is here."""
    if place.parent.name != "artifacts" or not place.is_absolute() or ".." in place.parts or place.parent == root:
        return False
    if place.parent.is_dir() and root.is_dir() and place.parent.samefile(root):
        return False  # the same folder by another name
    if (root / place.name).is_dir() or not place.is_dir():
        return True
    folder = root.parent / "studies" / place.name.partition("@")[0]
    return stream is not None and stream_of(folder) == stream  # copied without its artifacts


def _rewrite(connection: sqlite3.Connection, old: str, new: str) -> None:
    existing = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    for table, column in COLUMNS:
        if table in existing:
            for prefix in (f"{old}/", f"file://{old}/"):
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",
                    (f"{new}/", len(prefix) + 1, len(prefix), prefix),
                )
