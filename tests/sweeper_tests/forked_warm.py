"""What a verb imports late, and what each would work out again although nothing in a home changes it. Imported only by
the process that drivers are forked from. Ray is not included: on import it reads the environment, which each driver
sets for itself."""

import contextlib
import functools

import alembic.command  # noqa: F401
import mlflow.server.handlers
import mlflow.store.db.utils
import mlflow.store.tracking.sqlalchemy_store
import mlflow.utils.search_logged_model_utils
import optuna.importance  # noqa: F401
import scripted_trainer  # noqa: F401
import sqlalchemy.dialects.postgresql
import sqlalchemy.dialects.sqlite
import sqlalchemy.orm
import uvicorn  # noqa: F401

from sweeper.cli import conclude, look, maintain, run  # noqa: F401
from sweeper.html_report import artifacts, page  # noqa: F401
from sweeper.lifecycle import resume, stop  # noqa: F401
from sweeper.maintenance import doctor, gc, machine  # noqa: F401
from sweeper.reproducibility import reproduce  # noqa: F401
from sweeper.spec import draft, load  # noqa: F401
from sweeper.spec.validation import spec  # noqa: F401
from sweeper.tracking.store import database

with contextlib.suppress(ModuleNotFoundError):  # belongs to an extra
    import psycopg  # noqa: F401

sqlalchemy.orm.configure_mappers()
page.template()
revision = mlflow.store.db.utils._get_latest_schema_revision()
mlflow.store.db.utils._get_latest_schema_revision = lambda: revision
packages = list(machine._packages())
machine._packages = lambda: iter(packages)
database._revisions = functools.cache(database._revisions)
database._revisions()
