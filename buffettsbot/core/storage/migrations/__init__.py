"""The data's form, version by version, applied by Alembic (configured here, no ini file).

Imported only by commands that change the form: Alembic takes three times a bare Python's start.
"""

from alembic import command
from alembic.config import Config
from sqlalchemy import text
from sqlalchemy.engine import Connection

from buffettsbot.core.storage.database import SCHEMA_VERSION, Database

_LOCK = 0x62756666  # any number that no one else uses as an advisory lock


def upgrade(db: Database) -> tuple[str | None, str | None]:
    """Bring the data to the newest form in one transaction; return its version before and after.

    Safe to repeat and to race: on SQLite the transaction excludes all others, on PostgreSQL a lock
    does. Raises NotAllowed for a database from a newer version, Unavailable when it cannot answer.
    """
    before = db.version()
    if before is not None and before > SCHEMA_VERSION:
        db.check_version()
    with db.begin() as session:
        connection = session.connection()
        if not db.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        command.upgrade(_config(connection), "head")
    return before, db.version()


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", "buffettsbot.core.storage:migrations")
    config.attributes["connection"] = connection
    return config
