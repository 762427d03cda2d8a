"""The doctor's look at the database itself: is it there, can it be written, how quick is it."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import make_url, text

from buffettsbot.core.health.findings import FAILED, OK, WARNING, Finding
from buffettsbot.core.storage.database import SCHEMA_VERSION, Database

SLOW = 0.25  # seconds


def check_database(db: Database) -> Iterator[Finding]:
    """Check that the database is there, can be written, has the right form, and is quick."""
    found = db.version()
    began = time.monotonic()
    with db.read() as session:
        server = session.scalar(text(_VERSION[db.is_sqlite]))
        if not db.is_sqlite:
            read_only = session.scalar(text("SHOW transaction_read_only")) == "on"
    seconds = time.monotonic() - began
    kind = "SQLite" if db.is_sqlite else "PostgreSQL"
    where = f"{kind} {str(server).split()[0]}, {_place(db)}"
    if found != SCHEMA_VERSION:
        yield _wrong_form(found)
    elif db.is_sqlite and (locked := _not_writable(db)):
        yield locked
    elif not db.is_sqlite and read_only:
        advice = "Name the primary in BUFFETTSBOT_DATABASE_URL (target_session_attrs=read-write)."
        yield Finding("database", FAILED, f"{where}: it is read-only, a standby perhaps", advice)
    else:
        status, advice = OK, ""
        if seconds > SLOW:
            status, advice = WARNING, "Look at the load of its host, and at the way there."
        what = f"{where}: version {found}, answers in {seconds * 1000:.1f} ms"
        yield Finding("database", status, what, advice)


_VERSION = {True: "SELECT sqlite_version()", False: "SHOW server_version"}


def _place(db: Database) -> str:
    url = db.engine.url
    return str(url.database) if db.is_sqlite else f"{url.database} on {url.host or 'this host'}"


def file_of(url: str) -> Path | None:
    """Given a database's URL, return the file of an SQLite database that lives in one."""
    parsed = make_url(url)
    path = parsed.database if parsed.get_backend_name() == "sqlite" else None
    return None if not path or path == ":memory:" or path.startswith("file:") else Path(path)


def missing_file(path: Path) -> Finding | None:
    """Return what is to be said of an SQLite file that is not there, or empty: opening it would
    make one, and nothing is to be changed."""
    try:
        if path.stat().st_size:
            return None
    except FileNotFoundError:
        pass
    except OSError as error:
        advice = "Run this as the user of the service: sudo -u buffettsbot buffettsbot doctor"
        return Finding("database", FAILED, f"{path} cannot be seen: {error.strerror}", advice)
    return Finding(
        "database", FAILED, f"there is none at {path} yet", "Make it: buffettsbot db upgrade"
    )


def _not_writable(db: Database) -> Finding | None:
    path = Path(str(db.engine.url.database))
    if not path.is_file() or (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
        return None
    advice = (
        "Run this as the user of the service (sudo -u buffettsbot buffettsbot doctor), "
        "or give the file and its directory to who runs it."
    )
    return Finding("database", FAILED, f"{path} may not be written by this user", advice)


def _wrong_form(found: str | None) -> Finding:
    if found is not None and found > SCHEMA_VERSION:
        what = f"its data has version {found}, this program knows {SCHEMA_VERSION}"
        return Finding("database", FAILED, what, "Install the newer version of buffettsbot.")
    what = f"its data has {'version ' + found if found else 'no form yet'}, not {SCHEMA_VERSION}"
    return Finding("database", FAILED, what, "Run: buffettsbot db upgrade")
