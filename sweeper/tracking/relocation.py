"""A study home that was moved or copied: its database names the folder where its artifacts were.

Artifacts of a home lie beneath it, in `artifacts/EXPERIMENT`, so what the database says of an experiment elsewhere is
changed to that folder here. A copy then has files of its own, and does not write into those of the home it came from.
"""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

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
        former = sorted({place.parent for place in _places(connection) if _has_moved(place, root)})
        if not former:
            return []
        with connection:
            for old in former:
                _rewrite(connection, str(old), str(root))
    return [f"this home was in {old.parent}: MLflow now looks for its artifacts in {root}" for old in former]


def _places(connection: sqlite3.Connection) -> list[Path]:
    rows = connection.execute("SELECT artifact_location FROM experiments WHERE artifact_location IS NOT NULL")
    return [Path(place.removeprefix("file://")) for (place,) in rows]


def _has_moved(place: Path, root: Path) -> bool:
    """Whether an experiment's artifacts lay in another home, and are here or nowhere."""
    if place.parent.name != "artifacts" or not place.is_absolute() or ".." in place.parts or place.parent == root:
        return False
    if place.parent.is_dir() and root.is_dir() and place.parent.samefile(root):
        return False  # the same folder by another name
    return (root / place.name).is_dir() or not place.is_dir()


def _rewrite(connection: sqlite3.Connection, old: str, new: str) -> None:
    existing = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    for table, column in COLUMNS:
        if table in existing:
            for prefix in (f"{old}/", f"file://{old}/"):
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",
                    (f"{new}/", len(prefix) + 1, len(prefix), prefix),
                )
