"""The two databases: how they are opened, and their two kinds of transaction."""

import time
from datetime import UTC
from pathlib import Path

import pytest
from helpers import NOW, in_parallel, person, rows
from sqlalchemy import make_url
from sqlmodel import select

from buffettsbot.core.app import open_app, utcnow
from buffettsbot.core.errors import BadSettings, NotAllowed
from buffettsbot.core.settings.settings import load_settings
from buffettsbot.core.storage import statements
from buffettsbot.core.storage.database import SCHEMA_VERSION, Database
from buffettsbot.core.storage.models import PLAN, Plan, TelegramUser
from buffettsbot.core.storage.statements import insert_once, paged

# Opening


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


# Transactions


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
