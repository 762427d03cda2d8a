"""The troubles of a database, each told as a sentence, and none dressed up as another."""

import socket
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import NOW, in_parallel, person, rows
from sqlalchemy import event, make_url, text

from buffettsbot.core.errors import Unavailable
from buffettsbot.core.storage import database as db_module
from buffettsbot.core.storage.database import SCHEMA_VERSION, Database
from buffettsbot.core.storage.models import Plan, TelegramUser


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
            session.add(TelegramUser(chat_id=8, date_joined=NOW))
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
