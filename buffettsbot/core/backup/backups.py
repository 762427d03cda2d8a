"""Backups: the whole database in one file that proves itself, and back again in one step."""

import os
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from types import ModuleType

from buffettsbot import __version__
from buffettsbot.core.backup import archive as archives
from buffettsbot.core.backup import postgresql as postgresql_dump
from buffettsbot.core.backup import sqlite as sqlite_dump
from buffettsbot.core.backup.archive import PARTIAL, Archive
from buffettsbot.core.errors import NotAllowed, Unavailable
from buffettsbot.core.storage import audit
from buffettsbot.core.storage.audit import By
from buffettsbot.core.storage.database import SCHEMA_VERSION, Database

_NAME = "buffettsbot-%Y%m%dT%H%M%SZ.backup"
_OURS = re.compile(r"buffettsbot-\d{8}T\d{6}Z\.backup", re.ASCII)
_LEFT = re.compile(rf"\.{_OURS.pattern}\.\w+{re.escape(PARTIAL)}.*", re.ASCII)
_LEFT_AFTER = timedelta(days=1)


@dataclass(frozen=True)
class Backup:
    """A backup that was made. `removed`: the older ones that made room for it."""

    file: Path
    archive: Archive
    removed: list[Path]


def back_up(
    db: Database,
    target: Path,
    *,
    now: datetime,
    keep: int | None = None,
    overwrite: bool = False,
) -> Backup:
    """Write all data as they are at one moment, while others go on, into a file that proves itself.

    A directory as `target` gets a file named by the time; `keep` then leaves only so many of these.
    The file appears whole and private (0600), or not at all. Raises NotAllowed when there are no
    data, or a newer program's; Conflict when the file exists and is not to be overwritten;
    Unavailable.
    """
    version = _version(db)
    file = target / now.strftime(_NAME) if os.path.isdir(target) else target
    if keep is not None and file == target:
        raise NotAllowed(f"Old backups are only removed in a directory, which {target} is not.")
    with archives.written(file, overwrite=overwrite) as partial:
        rows = _dump_of(db).dump(db, partial)
        archive = Archive(
            database=db.engine.dialect.name,
            version=version,
            created_at=now,
            program=__version__,
            size=partial.stat().st_size,
            rows=rows,
        )
        archives.seal(partial, archive)
    return Backup(file, archive, _rotated(file, keep, now) if keep else [])


def examine(db: Database, source: Path) -> Archive:
    """Return what a backup is, if it may be restored into this database; nothing is changed.

    Raises NotFound, Invalid when it is damaged, NotAllowed when it is a newer program's or another
    database's.
    """
    archive = archives.read(source)
    if archive.database != db.engine.dialect.name:
        raise NotAllowed(
            f"{source} is a backup of {_TITLES[archive.database]}, but BUFFETTSBOT_DATABASE_URL "
            f"names {_TITLES[db.engine.dialect.name]}. Restore it into a database of its own kind."
        )
    if archive.version > SCHEMA_VERSION:
        raise NotAllowed(
            f"{source} was made by a newer version of buffettsbot (its data has version "
            f"{archive.version}, this program knows {SCHEMA_VERSION}). Install the newer version; "
            "nothing was changed."
        )
    return archive


def restore(db: Database, source: Path, *, now: datetime, actor: str) -> Archive:
    """Replace all data by those of a backup in one step, and bring them to this program's form.

    Whoever has the database open goes on with the restored data. Raises what `examine` does, and
    Unavailable; the data are untouched then.
    """
    archive = examine(db, source)
    _dump_of(db).load(db, source)
    if archive.version < SCHEMA_VERSION:
        from buffettsbot.core.storage import migrations  # half a second, and seldom needed

        migrations.upgrade(db)
    with db.begin() as session:
        made = f"made {archive.created_at.isoformat()}"
        audit.record(session.connection(), By(actor, now), "db restore", source.name, made)
    return archive


_TITLES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}


def _dump_of(db: Database) -> ModuleType:
    """Return the module that dumps and loads this kind of database."""
    return sqlite_dump if db.is_sqlite else postgresql_dump


def _version(db: Database) -> str:
    found = db.version()
    if found is None:
        raise NotAllowed("There are no data to back up yet. To begin: buffettsbot db upgrade")
    db.refuse_newer(found)
    return found


def _rotated(made: Path, keep: int, now: datetime) -> list[Path]:
    """Remove all but `made` and the newest other backups, and what killed ones left; return the
    backups that were removed.

    Only files named as we name them are looked at: a directory may hold others. A clock that once
    ran ahead left names that seem newer for ever: the one just made stays all the same.
    """
    try:
        here = sorted(made.parent.iterdir())
        others = [path for path in here if _OURS.fullmatch(path.name) and path != made]
        old = others[: max(0, len(others) + 1 - keep)]
        before = (now - _LEFT_AFTER).timestamp()
        left = [p for p in here if _LEFT.fullmatch(p.name) and p.lstat().st_mtime < before]
        for path in (*old, *left):
            path.unlink(missing_ok=True)
    except OSError as error:
        raise Unavailable(
            f"The backup {made} is made, but an old one cannot be removed: {error.strerror}. "
            f"Check who owns what is in {made.parent}."
        ) from None
    return old
