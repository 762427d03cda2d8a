"""The two databases: their form, what they refuse, and their troubles as sentences."""

import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from helpers import DAY, NOW, clean_env, hash_of, in_parallel, member, person, rows, shop
from sqlalchemy import event, inspect, make_url, text
from sqlalchemy.exc import IntegrityError, StatementError
from sqlmodel import select

from buffettsbot.core.app import open_app, utcnow
from buffettsbot.core.errors import BadSettings, NotAllowed, Unavailable
from buffettsbot.core.settings.settings import load_settings
from buffettsbot.core.storage import database as db_module
from buffettsbot.core.storage import migrations, statements
from buffettsbot.core.storage.database import SCHEMA_VERSION, Database
from buffettsbot.core.storage.models import (
    METADATA,
    PLAN,
    Outbox,
    Payment,
    Plan,
    Subscription,
    TelegramUser,
)
from buffettsbot.core.storage.statements import insert_once, paged


@pytest.fixture
def empty_db(empty_database_url: str) -> Iterator[Database]:
    db = Database(empty_database_url)
    yield db
    db.close()


def tables(db: Database) -> set[str]:
    return set(inspect(db.engine).get_table_names())


# Migrations.


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


# Opening.


def _open(monkeypatch: pytest.MonkeyPatch, url: str) -> Database:
    monkeypatch.setenv("BUFFETTSBOT_DATABASE_URL", url)
    return open_app(load_settings()).db


def test_the_first_command_makes_a_sqlite_database_in_a_private_directory(
    settings_env: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "new" / "state"
    db = _open(monkeypatch, f"sqlite:///{home / 'x.db'}")
    assert db.version() == SCHEMA_VERSION
    assert home.stat().st_mode & 0o777 == 0o700
    db.close()


@pytest.mark.parametrize("empty_database_url", ["postgresql"], indirect=True)
def test_an_empty_postgresql_database_is_never_filled_by_accident(
    settings_env: Path, empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NotAllowed, match="buffettsbot db upgrade"):
        _open(monkeypatch, empty_database_url)


def test_the_clock_of_the_app_is_aware_and_utc() -> None:
    assert utcnow().tzinfo is UTC
    assert abs(utcnow().timestamp() - time.time()) < 5


@pytest.mark.parametrize("url", ["nonsense", "oracle://SECRET@h/d", "sqlite+nope:///x", "://"])
def test_a_malformed_url_is_a_sentence_without_its_password(url: str) -> None:
    with pytest.raises(BadSettings, match="BUFFETTSBOT_DATABASE_URL is malformed") as caught:
        Database(url)
    assert "SECRET" not in str(caught.value)


def test_several_servers_may_be_named_and_the_one_that_writes_is_found(
    postgresql_url: str,
) -> None:
    url = make_url(postgresql_url)
    host = url.query.get("host") or url.host
    query = {"host": f"/nowhere,{host}", "target_session_attrs": "read-write"}
    if url.port:
        query["port"] = f"5432,{url.port}"
    several = url.set(host="", query=query)._replace(port=None)
    db = Database(several.render_as_string(hide_password=False))
    assert db.version() == SCHEMA_VERSION
    db.close()


# Transactions.


def test_an_exception_undoes_the_whole_transaction(db: Database) -> None:
    def fail() -> None:
        with db.begin() as session:
            session.add(TelegramUser(chat_id=1, date_joined=NOW))
            session.flush()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert rows(db, TelegramUser) == []


def test_reading_neither_waits_for_a_writer_nor_sees_its_unfinished_work(db: Database) -> None:
    with db.begin() as session:
        session.add(TelegramUser(chat_id=1, date_joined=NOW))
        session.flush()
        assert in_parallel(1, lambda _: rows(db, TelegramUser)) == [[]]
    assert len(rows(db, TelegramUser)) == 1


def test_each_statement_of_a_reader_sees_the_newest_data(db: Database) -> None:
    query = select(TelegramUser.chat_id)
    with db.read() as session:
        assert session.exec(query).all() == []
        in_parallel(1, lambda _: person(db, 7))
        assert session.exec(query).all() == [7]


def test_writers_queue_up_and_none_is_lost(db: Database) -> None:
    person(db)

    def add(_: int) -> None:
        with db.begin() as session:
            user = session.exec(
                select(TelegramUser).where(TelegramUser.chat_id == 7).with_for_update()
            ).one()
            user.first_name += "x"

    assert in_parallel(8, add) == [None] * 8
    assert rows(db, TelegramUser)[0].first_name == "x" * 8


def test_a_row_is_inserted_once_and_says_whether_it_was(db: Database) -> None:
    row = {"period": "1 month", "price": 50, "is_active": True}
    with db.begin() as session:
        number = insert_once(session.connection(), PLAN, row)
        assert number is not None
        assert insert_once(session.connection(), PLAN, row | {"price": 60}) is None
    assert [(plan.id, plan.price) for plan in rows(db, Plan)] == [(number, 50)]


@pytest.mark.parametrize(
    ("limit", "sizes"), [(None, [3, 3, 3]), (7, [3, 3, 1]), (6, [3, 3]), (0, []), (2, [2])]
)
def test_a_long_list_is_read_page_by_page(
    monkeypatch: pytest.MonkeyPatch, limit: int | None, sizes: list[int]
) -> None:
    monkeypatch.setattr(statements, "PAGE", 3)
    asked = []

    def fetch(last: int | None, size: int) -> list[int]:
        asked.append(size)
        begin = 0 if last is None else last + 1
        return list(range(begin, min(begin + size, 8)))

    assert list(paged(fetch, limit)) == list(range(8))[:limit]
    assert asked == sizes


# What is stored.


def test_sqlite_runs_with_foreign_keys_wal_and_patience(sqlite_url: str) -> None:
    db = Database(sqlite_url)
    with db.engine.connect() as connection:
        pragmas = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("foreign_keys", "journal_mode", "busy_timeout", "synchronous")
        ]
    assert pragmas == [1, "wal", 10_000, 2]
    db.close()


def test_times_come_back_aware_in_utc_and_naive_ones_are_refused(db: Database) -> None:
    moscow = datetime(2026, 3, 1, 15, 0, 0, 123456, tzinfo=timezone(timedelta(hours=3)))
    with db.begin() as session:
        session.add(TelegramUser(chat_id=1, date_joined=moscow))
    joined = rows(db, TelegramUser)[0].date_joined
    assert (joined, joined.utcoffset()) == (moscow, timedelta(0))

    def naive() -> None:
        with db.begin() as session:
            session.add(TelegramUser(chat_id=2, date_joined=datetime(2026, 3, 1)))  # noqa: DTZ001

    with pytest.raises(StatementError, match="(?i)timezone|naive|aware"):
        naive()


def test_ids_and_amounts_of_64_bits_fit(db: Database) -> None:
    shop(db)
    person(db, 2**52 - 1, "big")
    payment = _payment(customer_id=2**52 - 1, amount=2**63 - 1)
    with db.begin() as session:
        session.add(payment)
        session.add(_outbox(chat_id=-(2**52)))
    assert rows(db, Payment)[0].amount == 2**63 - 1
    assert rows(db, Outbox)[0].chat_id == -(2**52)


def _payment(**changes: Any) -> Payment:
    row: dict[str, Any] = {
        "transaction_hash": hash_of(1),
        "customer_id": 7,
        "plan_id": 1,
        "price": 50,
        "status": "pending",
        "reason": "not-found",
        "claimed_at": NOW,
        "next_check_at": NOW,
    }
    return Payment(**row | changes)


def _subscription(**changes: Any) -> Subscription:
    row: dict[str, Any] = {
        "transaction_hash": hash_of(1),
        "customer_id": 7,
        "plan_id": 1,
        "start_date": NOW,
        "end_date": NOW + DAY,
        "duration": 86400,
    }
    return Subscription(**row | changes)


def _outbox(**changes: Any) -> Outbox:
    row: dict[str, Any] = {
        "key": "k",
        "kind": "welcome",
        "chat_id": 7,
        "payload": {},
        "not_before": NOW,
        "created_at": NOW,
    }
    return Outbox(**row | changes)


def _user(**changes: Any) -> TelegramUser:
    row: dict[str, Any] = {"chat_id": 8, "date_joined": NOW}
    return TelegramUser(**row | changes)


ACCEPTED = {"status": "accepted", "decided_at": NOW, "period_start": NOW, "period_end": NOW}
LIVE = [{}, ACCEPTED, {"status": "held"}]


@pytest.mark.parametrize(
    "row",
    [
        _user(chat_id=0),
        _user(chat_id=-5),
        _user(telegram_username="ANN"),
        Plan(period="2 months", price=50),
        Plan(period="1 year", price=0),
        Plan(period="1 year", price=-1),
        Plan(period="1 month", price=70),
        _subscription(customer_id=99),
        _subscription(plan_id=99),
        _subscription(end_date=NOW),
        _subscription(end_date=NOW - DAY),
        _subscription(duration=0),
        _payment(customer_id=99),
        _payment(plan_id=99),
        _payment(status="paid"),
        _payment(next_check_at=None),
        _payment(**ACCEPTED | {"period_end": None}),
        _payment(**ACCEPTED | {"period_start": None}),
        _payment(**ACCEPTED | {"decided_at": None}),
        _payment(price=None),
        _payment(reason=None),
        _outbox(status="sending"),
        _outbox(kind=None),
    ],
)
def test_the_database_itself_refuses_what_must_never_be(db: Database, row: Any) -> None:
    shop(db)
    person(db)
    before = {model: len(rows(db, model)) for model in (TelegramUser, Plan, Payment, Outbox)}
    copy = type(row)(**{name: getattr(row, name) for name in type(row).model_fields})
    with pytest.raises(IntegrityError), db.begin() as session:
        session.add(copy)
    assert before == {model: len(rows(db, model)) for model in before}


@pytest.mark.parametrize("first", LIVE, ids=["pending", "accepted", "held"])
@pytest.mark.parametrize("second", LIVE, ids=["pending", "accepted", "held"])
def test_one_hash_can_be_alive_only_once_whoever_writes_it(
    db: Database, first: dict[str, Any], second: dict[str, Any]
) -> None:
    shop(db, month=50, year=400)
    person(db)
    person(db, 8, "bob")
    with db.begin() as session:
        session.add(_payment(**first))
        session.add(_payment(customer_id=8, status="refused"))
    with pytest.raises(IntegrityError), db.begin() as session:
        session.add(_payment(plan_id=2, **second))
    with pytest.raises(IntegrityError), db.begin() as session:
        session.execute(
            text(
                "UPDATE payment SET status = 'pending', next_check_at = claimed_at "
                "WHERE customer_id = 8"
            )
        )


def test_a_customer_has_one_membership(db: Database) -> None:
    member(db)
    with pytest.raises(IntegrityError), db.begin() as session:
        session.add(_subscription(transaction_hash=hash_of(2)))


def test_an_effect_on_telegram_is_queued_once_by_its_key(db: Database) -> None:
    with db.begin() as session:
        session.add(_outbox())
    with pytest.raises(IntegrityError), db.begin() as session:
        session.add(_outbox(kind="other"))


def test_nobody_who_has_a_ledger_can_be_deleted(db: Database) -> None:
    member(db)
    for statement in ("DELETE FROM telegram_user", "DELETE FROM plan"):
        with pytest.raises(IntegrityError), db.begin() as session:
            session.execute(text(statement))


def test_an_error_of_the_database_never_tells_the_values(db: Database) -> None:
    person(db, 7, "ann", first_name="SECRET")
    with pytest.raises(IntegrityError) as caught, db.begin() as session:
        session.add(_user(telegram_username="Ann", first_name="SECRET"))
    assert "SECRET" not in str(caught.value)


# Troubles.


def trouble(db: Database, work: Callable[[Database], Any]) -> str:
    with pytest.raises(Unavailable) as caught:
        work(db)
    db.close()
    sentence = str(caught.value)
    assert len(sentence.split()) > 5
    assert "sqlite3" not in sentence
    assert "psycopg" not in sentence
    return sentence


def test_a_file_that_is_no_database_is_said_so(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    path.write_bytes(b"This is no database at all. " * 1000)
    for work in (Database.version, person):
        assert "damaged or no database" in trouble(Database(f"sqlite:///{path}"), work)


def test_a_directory_in_place_of_the_file_cannot_be_opened(tmp_path: Path) -> None:
    assert "cannot be opened" in trouble(Database(f"sqlite:///{tmp_path}"), Database.version)


def test_a_directory_that_cannot_be_made_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match="cannot be made"):
        Database(f"sqlite:///{tmp_path / 'file' / 'x.db'}")


def test_a_read_only_database_can_be_looked_at_but_not_written(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = sqlite_url.removeprefix("sqlite:///")
    db = Database(f"sqlite:///file:{path}?mode=ro&uri=true")
    assert db.version() == SCHEMA_VERSION
    assert not (tmp_path / "file:").exists(), "a URI is no path"
    assert "read-only" in trouble(db, person)


def test_a_read_only_server_is_said_so(postgresql_url: str) -> None:
    url = make_url(postgresql_url)
    options = "-c default_transaction_read_only=on"
    db = Database(url.update_query_dict({"options": options}).render_as_string(hide_password=False))
    assert db.version() == SCHEMA_VERSION
    assert "read-only" in trouble(db, person)


def test_a_full_disk_is_said_so_and_loses_nothing_that_was_written(sqlite_url: str) -> None:
    db = Database(sqlite_url)

    def limit(connection: sqlite3.Connection, _record: Any) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + 2}")

    event.listen(db.engine, "connect", limit)
    written = []

    def fill(full: Database) -> None:
        for number in range(1, 2000):
            person(full, number, None, first_name="x" * 64)
            written.append(number)

    assert "full" in trouble(db, fill)
    assert written
    assert [user.chat_id for user in rows(Database(sqlite_url), TelegramUser)] == written


def test_a_writer_that_waits_too_long_hears_that_the_database_is_busy(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db_module, "BUSY_SECONDS", 0.1)
    db = Database(sqlite_url)
    with db.begin() as session:
        session.execute(text("SELECT 1"))
        (error,) = in_parallel(1, lambda _: person(db))
    assert isinstance(error, Unavailable)
    assert "busy" in str(error)
    db.close()


def test_an_exhausted_pool_is_said_so(postgresql_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db_module, "BUSY_SECONDS", 0.1)
    monkeypatch.setattr(db_module, "POOL_SIZE", 2)
    db = Database(postgresql_url)
    with db.begin() as one, db.begin() as two:
        one.execute(text("SELECT 1"))
        two.execute(text("SELECT 1"))
        (error,) = in_parallel(1, lambda _: person(db))
    assert isinstance(error, Unavailable)
    assert "busy" in str(error)
    db.close()


def test_a_server_that_is_down_is_said_so_quickly_without_the_password() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    started = time.monotonic()
    for url in (
        f"postgresql+psycopg://u:SECRET@127.0.0.1:{port}/d",
        "postgresql+psycopg://u:SECRET@/d?host=/nowhere",
    ):
        for work in (Database.version, person, rows_of_plans):
            sentence = trouble(Database(url), work)
            assert "does not answer" in sentence
            assert "SECRET" not in sentence
    assert time.monotonic() - started < 5


def rows_of_plans(db: Database) -> list[Any]:
    return rows(db, Plan)


def test_a_database_that_does_not_exist_is_said_so(postgresql_url: str) -> None:
    url = make_url(postgresql_url).set(database="nowhere")
    sentence = trouble(Database(url.render_as_string(hide_password=False)), Database.version)
    assert "does not exist" in sentence


def test_a_user_without_rights_is_said_so(postgresql_url: str) -> None:
    owner = Database(postgresql_url)
    with owner.begin() as session:
        session.execute(text("CREATE ROLE guest_of_tests LOGIN"))
    owner.close()
    try:
        url = make_url(postgresql_url).set(username="guest_of_tests")
        db = Database(url.render_as_string(hide_password=False))
        assert "does not allow this" in trouble(db, person)
    finally:
        with owner.begin() as session:
            session.execute(text("DROP ROLE guest_of_tests"))
        owner.close()


def _kill_all_but(session: Any) -> None:
    session.execute(
        text(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    )


def test_a_connection_that_died_while_it_rested_is_replaced_silently(postgresql_url: str) -> None:
    db, killer = Database(postgresql_url), Database(postgresql_url)
    person(db)
    with killer.begin() as session:
        _kill_all_but(session)
    person(db, 8, "bob")
    assert len(rows(db, TelegramUser)) == 2
    db.close()
    killer.close()


def test_a_connection_that_dies_at_work_is_unavailable_and_the_next_one_works(
    postgresql_url: str,
) -> None:
    db, killer = Database(postgresql_url), Database(postgresql_url)

    def work(dying: Database) -> None:
        with dying.begin() as session:
            session.add(_user())
            session.flush()
            with killer.begin() as other:
                _kill_all_but(other)
            session.execute(text("SELECT 1"))

    assert "does not answer" in trouble(db, work)
    assert rows(db, TelegramUser) == []
    db.close()
    killer.close()


def test_a_bug_in_a_statement_is_not_dressed_up_as_an_outage(db: Database) -> None:
    with pytest.raises(Exception, match="(?i)syntax") as caught, db.read() as session:
        session.execute(text("SELEKT 1"))
    assert not isinstance(caught.value, Unavailable)
