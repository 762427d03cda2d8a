"""The original's database is only ever read, and what is none is refused in a sentence."""

import hashlib
from pathlib import Path

import pytest
from django_original import Original, bring
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError

from buffettsbot.core.errors import Invalid, NotFound, Unavailable
from buffettsbot.core.from_django.opening import open_original
from buffettsbot.core.storage.database import Database


def test_the_original_is_only_read(db: Database, original: Original) -> None:
    original.plan()
    with open_original(original.url) as opened, pytest.raises(DBAPIError):
        opened.connection.execute(text("DELETE FROM subscription_service_plan"))
    if original.is_sqlite:
        path = Path(original.url.removeprefix("sqlite:///"))
        before = hashlib.sha256(path.read_bytes()).digest()
        bring(db, original)
        assert hashlib.sha256(path.read_bytes()).digest() == before


def test_what_is_not_the_original_is_refused_in_a_sentence(
    postgresql_url: str, tmp_path: Path
) -> None:
    text_file, empty = tmp_path / "notes.txt", tmp_path / "empty.db"
    text_file.write_text("no database at all, only words " * 50)
    empty.touch()
    secret = make_url(postgresql_url).set(username="ann", password="hush")
    nowhere = secret.set(host="127.0.0.1", port=1).render_as_string(hide_password=False)
    cases: list[tuple[str, type[Exception], str]] = [
        (str(tmp_path / "nothing.db"), NotFound, "no file"),
        (str(text_file), Invalid, "not the original's database"),
        (str(empty), Invalid, "subscription_service_telegramuser is missing"),
        (postgresql_url, Invalid, "subscription_service_telegramuser is missing"),
        ("mysql://ann:hush@host/db", Invalid, "postgresql://"),
        ("postgres://ann:hush@host:port/db", Invalid, "postgresql://"),
        (nowhere, Unavailable, "does not answer"),
    ]
    for where, error, words in cases:
        with pytest.raises(error, match=words) as raised, open_original(where):
            pass
        assert "hush" not in str(raised.value)
    half = Original(f"sqlite:///{tmp_path / 'half.sqlite3'}")
    half.run("ALTER TABLE subscription_service_subscription DROP COLUMN duration")
    with pytest.raises(Invalid, match="has no duration"), open_original(half.url):
        pass
    half.engine.dispose()
