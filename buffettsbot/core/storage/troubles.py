"""The database's troubles, told in its own words, as sentences for a person."""

import contextlib
import re
import sqlite3
from collections.abc import Iterator

from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from buffettsbot.core.errors import Unavailable


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Let a trouble of the database within leave as Unavailable; IntegrityError and bugs pass."""
    try:
        yield
    except IntegrityError:
        raise
    except PoolTimeout:
        raise Unavailable("The database is too busy to answer. Try again in a moment.") from None
    except DBAPIError as error:
        raise _error_of(error) from error


_SENTENCES = {
    r"readonly|read-only": "The database cannot be written: it is read-only. "
    "Check who owns its file and directory, or whether the server is a standby.",
    r"disk is full|no space left": "The disk of the database is full. Make room and try again.",
    r"unable to open": "The database file cannot be opened. "
    "Check BUFFETTSBOT_DATABASE_URL and who may read and write that path.",
    r"is locked": "The database is busy with another change. Try again in a moment.",
    r"not a database|malformed": "The database file is damaged or no database. "
    "Restore a backup, or choose another file with BUFFETTSBOT_DATABASE_URL.",
    r"disk i/o error": "The disk of the database fails, or its file was taken away. "
    "Check the disk, then try again.",
    r"permission denied": "The database does not allow this. Check the rights of its user.",
    r"no such table|no such column|does not exist": "The database is not prepared, or does not "
    "exist. Create it if need be, then run: buffettsbot db upgrade",
    r"authentication failed|no password": "The database refuses the login. "
    "Check BUFFETTSBOT_DATABASE_URL.",
}


def sentence_of(words: str) -> str | None:
    """Return what to say of a trouble that the database told in its own words, None if unknown."""
    matching = (s for pattern, s in _SENTENCES.items() if re.search(pattern, words, re.IGNORECASE))
    return next(matching, None)


def _error_of(error: DBAPIError) -> Exception:
    if sentence := sentence_of(str(error.orig)):
        return Unavailable(sentence)
    away = type(error).__name__ in ("OperationalError", "InterfaceError")
    # SQLite is never away, and calls every mistake in a statement an OperationalError.
    if error.connection_invalidated or (away and not isinstance(error.orig, sqlite3.Error)):
        return Unavailable(
            "The database does not answer. Check that it runs and that BUFFETTSBOT_DATABASE_URL "
            "is right, then try again."
        )
    return error
