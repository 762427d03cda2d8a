"""The form of the data: what the migrations make is what the models say, once and whole."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from helpers import clean_env, in_parallel, member, rows, shop
from sqlalchemy import inspect, text

from buffettsbot.core.errors import NotAllowed, Unavailable
from buffettsbot.core.storage import migrations
from buffettsbot.core.storage.database import SCHEMA_VERSION, Database
from buffettsbot.core.storage.models import METADATA, Payment, Plan


@pytest.fixture
def empty_db(empty_database_url: str) -> Iterator[Database]:
    db = Database(empty_database_url)
    yield db
    db.close()


def tables(db: Database) -> set[str]:
    return set(inspect(db.engine).get_table_names())


def test_the_schema_version_is_the_newest_migration() -> None:
    config = migrations._config(None)  # type: ignore[arg-type]
    assert ScriptDirectory.from_config(config).get_current_head() == SCHEMA_VERSION


# SQLAlchemy cannot reflect SQLite's index on lower(…); `_form` compares it as it is written down.
reflecting = pytest.mark.filterwarnings("ignore:.*expression-based index")


@reflecting
def test_an_empty_database_becomes_what_the_models_say(empty_db: Database) -> None:
    assert migrations.upgrade(empty_db) == (None, SCHEMA_VERSION)
    with empty_db.engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, METADATA) == []
    empty_db.check_version()


def _form(db: Database) -> set[str]:
    """Return every column, index and constraint, as the database itself writes them down."""
    queries = (
        ["SELECT tbl_name || ': ' || sql FROM sqlite_master WHERE type = 'index' AND sql <> ''"]
        if db.is_sqlite
        else [
            "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'",
            "SELECT conrelid::regclass || ': ' || conname || ' ' || pg_get_constraintdef(oid) "
            "FROM pg_constraint WHERE connamespace = 'public'::regnamespace",
        ]
    )
    inspector = inspect(db.engine)
    found = set()
    for table in METADATA.tables:
        for column in inspector.get_columns(table):
            found.add(f"{table}.{column['name']} {column['type']!r} {column['nullable']}")
        for check in inspector.get_check_constraints(table):
            found.add(f"{table} {check['name']}: {' '.join(check['sqltext'].split())}")
        for foreign in inspector.get_foreign_keys(table):
            found.add(f"{table} {foreign['name']} {foreign['referred_table']}")
        for unique in inspector.get_unique_constraints(table):
            found.add(f"{table} {unique['name']} {unique['column_names']}")
    with db.engine.connect() as connection:
        for query in queries:
            found |= {
                " ".join(str(line).split())
                for line in connection.scalars(text(query))
                if "alembic_version" not in str(line)
            }
    return found


@reflecting
def test_checks_and_partial_indexes_too_are_what_the_models_say(
    empty_db: Database, request: pytest.FixtureRequest
) -> None:
    migrated = Database(
        request.getfixturevalue("sqlite_url" if empty_db.is_sqlite else "postgresql_url")
    )
    METADATA.create_all(empty_db.engine)
    form = _form(migrated)
    assert form == _form(empty_db)
    assert any("payment_hash_live" in line and "pending" in line for line in form)
    assert any("end_date > start_date" in line for line in form)
    migrated.close()


def test_upgrading_again_changes_nothing(db: Database) -> None:
    member(db)
    assert migrations.upgrade(db) == (SCHEMA_VERSION, SCHEMA_VERSION)
    assert len(rows(db, Payment)) == 1


def test_threads_that_upgrade_at_once_make_the_tables_once(empty_db: Database) -> None:
    results = in_parallel(4, lambda _: migrations.upgrade(empty_db))
    assert [after for _, after in results] == [SCHEMA_VERSION] * 4
    assert set(METADATA.tables) <= tables(empty_db)


_UPGRADE = """
import sys
from buffettsbot.core.storage import migrations
from buffettsbot.core.storage.database import Database
sys.stdin.read()
migrations.upgrade(Database(sys.argv[1]))
"""


def test_processes_that_upgrade_at_once_make_the_tables_once(
    empty_db: Database, empty_database_url: str
) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _UPGRADE, empty_database_url],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=clean_env(empty_database_url),
            cwd=Path(__file__).parents[3],
        )
        for _ in range(2)
    ]
    errors = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    assert empty_db.version() == SCHEMA_VERSION


@pytest.fixture
def with_a_broken_migration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give Alembic one migration more, which dies after it has made and filled a table."""
    here = Path(migrations.__file__).parent
    there = tmp_path / "migrations"
    shutil.copytree(here, there, ignore=shutil.ignore_patterns("__pycache__"))
    (there / "versions" / "0002_broken.py").write_text(
        "import sqlalchemy as sa\n"
        "from alembic import op\n"
        f"revision, down_revision = '0002', {SCHEMA_VERSION!r}\n"
        "def upgrade():\n"
        "    op.create_table('half', sa.Column('id', sa.Integer))\n"
        "    op.execute('INSERT INTO half VALUES (1)')\n"
        '    op.execute("DELETE FROM plan")\n'
        "    raise RuntimeError('half way')\n"
    )
    usual = migrations._config

    def config(connection: Any) -> Any:
        made = usual(connection)
        made.set_main_option("script_location", str(there))
        return made

    monkeypatch.setattr(migrations, "_config", config)


@pytest.mark.usefixtures("with_a_broken_migration")
def test_a_migration_that_dies_half_way_leaves_an_empty_database_empty(
    empty_db: Database,
) -> None:
    with pytest.raises(RuntimeError, match="half way"):
        migrations.upgrade(empty_db)
    assert tables(empty_db) == set()
    assert empty_db.version() is None


@pytest.mark.usefixtures("with_a_broken_migration")
def test_a_migration_that_dies_half_way_leaves_old_data_as_they_were(db: Database) -> None:
    shop(db)
    before = tables(db)
    with pytest.raises(RuntimeError, match="half way"):
        migrations.upgrade(db)
    assert tables(db) == before
    assert db.version() == SCHEMA_VERSION
    assert len(rows(db, Plan)) == 1


def test_a_database_from_a_newer_version_is_refused_and_left_alone(db: Database) -> None:
    shop(db)
    with db.begin() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for refused in (db.check_version, lambda: migrations.upgrade(db)):
        with pytest.raises(NotAllowed, match="from a newer version of buffettsbot"):
            refused()
    assert (db.version(), len(rows(db, Plan))) == ("9999", 1)


def test_a_database_without_tables_says_what_to_run(empty_db: Database) -> None:
    assert empty_db.version() is None
    with pytest.raises(NotAllowed, match="buffettsbot db upgrade"):
        empty_db.check_version()
    with pytest.raises(Unavailable, match="buffettsbot db upgrade"):
        rows(empty_db, Plan)
