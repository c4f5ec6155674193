"""The way to MLflow: a quiet client, a SQLite store made whole or not at all, and every MLflow error as one line of ours.

There are two clients. `connect` gives MLflow's own, which can do everything and takes seconds to import; `light_client` that of
rest.py where a server is asked over HTTP, for commands that only read and move versions. The file store is not offered: MLflow 3
refuses it.
"""

import errno
import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.core.addresses import without_password
from components.core.errors import GenwrightError, RegistryError, SettingsError, disk_error
from components.registry.mlflow_http import RestError, is_enough
from components.registry.rest import RestClient

if TYPE_CHECKING:
    from mlflow import MlflowClient

MISSING = "RESOURCE_DOES_NOT_EXIST"
EXISTS = "RESOURCE_ALREADY_EXISTS"
ALLOWED = "sqlite:///PATH, postgresql://HOST/NAME or http(s)://HOST"
DRIVERS = {"psycopg2": "pip install 'genwright[postgres]'"}  # by the module that SQLAlchemy asks for
# Set before mlflow is imported, and only where the user has not chosen: no emoji links, no telemetry, and an unreachable
# server gives up after seconds instead of minutes.
QUIET = {
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "GIT_PYTHON_REFRESH": "quiet",
}


def light_client(tracking_uri: str) -> "MlflowClient | RestClient":
    """A client for registered versions and for looking at runs; MLflow is imported only where it is no server over HTTP that
    answers there, or where the environment asks for what rest.py does not do.

    Raises SettingsError for a URI or a variable that cannot be used, RegistryError when nothing answers there.
    """
    if not tracking_uri.startswith(("http://", "https://")) or not is_enough():
        return connect(tracking_uri)
    _be_quiet()
    return RestClient(tracking_uri)


def connect(tracking_uri: str) -> "MlflowClient":
    """A client of the tracking server and registry at `tracking_uri`; a new SQLite store is made first.

    Raises SettingsError for a URI that cannot be used, RegistryError when nothing answers there.
    """
    scheme = tracking_uri.partition(":")[0].partition("+")[0]
    if scheme not in ("sqlite", "postgresql", "mysql", "http", "https"):
        raise SettingsError(f"tracking URI {without_password(tracking_uri)!r} cannot be used", allowed=ALLOWED)
    _be_quiet()
    with translated(tracking_uri):
        from mlflow import MlflowClient

        for logger in ("mlflow", "alembic"):
            logging.getLogger(logger).setLevel(logging.WARNING)
        if scheme == "sqlite":
            _make_sqlite(tracking_uri)
        elif scheme in ("postgresql", "mysql"):
            _ask_database(tracking_uri)
        return MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)


def load() -> None:
    """Load MLflow, which takes seconds, before anything is timed."""
    _be_quiet()
    from mlflow import MlflowClient  # noqa: F401


def _be_quiet() -> None:
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)


def _make_sqlite(tracking_uri: str) -> None:
    """Make the store beside its place and move it there: a kill during the ten seconds of migrations leaves no half store."""
    from filelock import FileLock
    from sqlalchemy.engine import make_url

    database = make_url(tracking_uri).database
    if not database or database == ":memory:":
        raise SettingsError(f"tracking URI {tracking_uri!r} names no file", allowed=ALLOWED)
    path = Path(database).absolute()
    if path.is_file():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f".{path.name}.lock")
    lock.touch()  # a folder where nothing can be made says so here; the lock would wait for it
    with FileLock(lock):
        if path.is_file():
            return
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        new = path.with_name(f".{path.name}.new")
        new.unlink(missing_ok=True)
        # The root is that of MLflow's own "Default" experiment; without it that is ./mlruns in whatever folder we are in.
        try:
            SqlAlchemyStore(f"sqlite:///{new}", str(path.parent / "artifacts")).engine.dispose()
            new.replace(path)
        finally:
            new.unlink(missing_ok=True)


def _ask_database(tracking_uri: str) -> None:
    """Connect once: MLflow asks ten times, for two minutes, before it says that nobody answers."""
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    with create_engine(tracking_uri, poolclass=NullPool).connect():
        pass


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn what MLflow, its database or the disk raise about `what` into one line. MLflow's error stays as the cause."""
    try:
        yield
    except _kinds() as error:
        raise _line(error, without_password(what)) from error
    except OSError as error:
        raise disk_error(error, error.filename or what) from error


def _kinds() -> tuple[type[Exception], ...]:
    """What MLflow and its database raise. Of a library that is not loaded, nothing was raised."""
    named = (("mlflow.exceptions", "MlflowException"), ("sqlalchemy.exc", "SQLAlchemyError"))
    found = (getattr(sys.modules.get(module), name, None) for module, name in named)
    return RestError, ImportError, *(each for each in found if each is not None)


def _line(error: Exception, what: str) -> GenwrightError:
    text = str(error)
    for said, code in {
        "disk is full": errno.ENOSPC,
        "No space left": errno.ENOSPC,
        "readonly database": errno.EROFS,
        "unable to open database": errno.EACCES,
    }.items():
        if said in text:
            return disk_error(OSError(code, said), what)
    first = next(iter(text.splitlines()), type(error).__name__)
    if isinstance(error, ModuleNotFoundError):
        do = DRIVERS.get(str(error.name), f"pip install {error.name}")
        return RegistryError(f"{what}: the database driver {error.name!r} is not installed", do=do)
    if "connection to server" in text:  # as libpq begins each of its errors
        said = first.partition("failed: ")[2] or first
        return RegistryError(f"{what}: {said}", do="check the address, the user and that the database runs")
    if failed := re.search(r"too many (5\d\d) error responses", text):
        return RegistryError(f"{what}: answers with {failed[1]}", do="see the log of the MLflow server, which says why")
    if "Max retries exceeded" in text:
        return RegistryError(f"{what}: nothing answers there", do="start the MLflow server, or set GENWRIGHT_TRACKING_URI")
    return RegistryError(f"{what}: MLflow says: {first[:300]}")


def code_of(error: Any) -> str:
    """MLflow's code of the error that caused `error`, or ''."""
    return str(getattr(error.__cause__, "error_code", ""))


def came_second(error: RegistryError) -> bool:
    """Whether another process inserted the same row a moment before, as SQLite, PostgreSQL and MySQL say it."""
    said = str(error.__cause__).lower()
    return any(words in said for words in ("unique constraint failed", "duplicate key value", "duplicate entry"))
