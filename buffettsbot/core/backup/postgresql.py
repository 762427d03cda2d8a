"""PostgreSQL's data as a file and back, by PostgreSQL's own programs.

`pg_dump` sees the very snapshot in which the rows were counted. A restore is one transaction of
`psql`, which takes every lock first and commits only when `pg_restore` has told all it had; whoever
reads or writes meanwhile waits, and finds the restored tables.
"""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, cast

from psycopg import Connection as Driver
from psycopg import ConnectionInfo
from psycopg.pq import Conninfo
from sqlalchemy import func, inspect, select, table
from sqlalchemy.engine import Connection

from buffettsbot.core.errors import BuffettsbotError, Unavailable
from buffettsbot.core.storage.database import BUSY_SECONDS, Database
from buffettsbot.core.storage.models import METADATA

_VERSION = "alembic_version"
_PIECE = 65_536


def dump(db: Database, into: Path) -> dict[str, int]:
    """Write the data of one moment into a file; return how many rows each table has.

    Raises Unavailable when the server is away or `pg_dump` is missing, older than it, or fails.
    """
    with db.begin() as session:
        connection = session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        snapshot = connection.execute(select(func.pg_export_snapshot())).scalar_one()
        known = _ours(connection)
        rows = {
            name: connection.scalar(select(func.count()).select_from(table(name))) or 0
            for name in known
            if name != _VERSION
        }
        _dumped(connection, into, snapshot, known)
    return rows


def load(db: Database, source: Path) -> None:
    """Replace all data by those of a backup, in one transaction.

    Raises NotAllowed when the data are from a newer program, Unavailable when others are in the
    way, or a program is missing or fails; nothing is changed then.
    """
    db.refuse_newer(db.version())
    with db.begin() as session:
        connection = session.connection()
        known, environment = _ours(connection), _environment(connection)
        major = _major(connection)
    with tempfile.TemporaryFile() as complaints:
        telling = [
            "pg_restore",
            "--file=-",
            "--no-owner",
            "--no-privileges",
            str(source.absolute()),
        ]
        doing = ["psql", "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1"]
        with (
            _program(doing, environment, complaints, major, stdin=True) as psql,
            _program(telling, environment, complaints, major) as script,
        ):
            with suppress(BrokenPipeError):  # psql has met an error, and says which
                _feed(psql, script, known)
            failed = psql.wait() or script.wait()
        if failed:
            raise _failure("restore", complaints, major)


def _dumped(connection: Connection, into: Path, snapshot: str, tables: Sequence[str]) -> None:
    command = ["pg_dump", "--format=custom", f"--snapshot={snapshot}", f"--file={into}"]
    command += [f"--table={name}" for name in tables]
    major = _major(connection)
    with tempfile.TemporaryFile() as complaints:
        with _program(command, _environment(connection), complaints, major) as program:
            failed = program.wait()
        if failed:
            raise _failure("back up", complaints, major)


def _beginning(tables: Sequence[str]) -> bytes:
    """Return what psql does first: all locks are taken by dropping what is there.

    Never CASCADE: a view of the owner's on these tables is not ours to drop.
    """
    drop = f"DROP TABLE {', '.join(tables)};" if tables else ""
    return f"BEGIN;\nSET LOCAL lock_timeout = '{BUSY_SECONDS}s';\n{drop}\n".encode()


def _feed(
    psql: "subprocess.Popen[bytes]", script: "subprocess.Popen[bytes]", tables: Sequence[str]
) -> None:
    """Let psql do what the script says; without the COMMIT at its end, all of it is undone."""
    source, target = cast(IO[bytes], script.stdout), cast(IO[bytes], psql.stdin)
    with target:
        target.write(_beginning(tables))
        # pg_restore 17 and newer says this to every server, and older servers do not know it.
        target.write(source.read(_PIECE).replace(b"\nSET transaction_timeout = 0;\n", b"\n", 1))
        shutil.copyfileobj(source, target)
        if script.wait() == 0:
            target.write(b"COMMIT;\n")


def _ours(connection: Connection) -> list[str]:
    """Return those of our tables that exist, in the order in which claims lock them."""
    found = set(inspect(connection).get_table_names())
    order = [table.name for table in METADATA.sorted_tables]
    return [name for name in [*order, _VERSION] if name in found]


def _major(connection: Connection) -> int:
    return _told(connection).server_version // 10_000


def _told(connection: Connection) -> ConnectionInfo:
    """Return what the driver knows of a connection."""
    return cast(Driver[Any], connection.connection.driver_connection).info


def _environment(connection: Connection) -> dict[str, str]:
    """Return the variables by which libpq's programs reach the same server as this connection.

    Arguments can be read by everyone on the host; a password must not be among them.
    """
    info = _told(connection)
    wanted = info.get_parameters() | {
        "host": info.host,
        "hostaddr": info.hostaddr,
        "port": str(info.port),
        "dbname": info.dbname,
        "password": info.password,
    }
    names = {o.keyword.decode(): o.envvar.decode() for o in Conninfo.get_defaults() if o.envvar}
    named = {names[word]: value for word, value in wanted.items() if value and word in names}
    return {**os.environ, **named, "LC_ALL": "C"}


@contextmanager
def _program(
    command: Sequence[str],
    environment: dict[str, str],
    complaints: IO[bytes],
    major: int,
    *,
    stdin: bool = False,
) -> Iterator["subprocess.Popen[bytes]"]:
    try:
        process = subprocess.Popen(  # noqa: S603 -- the command is ours, and no shell is asked
            command,
            env=environment,
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if stdin else subprocess.PIPE,
            stderr=complaints,
        )
    except FileNotFoundError:
        raise Unavailable(
            f"{command[0]} is missing. Install PostgreSQL's own programs for server {major} "
            f"(Debian: apt install postgresql-client, or postgresql-client-{major})."
        ) from None
    with process:
        try:
            yield process
        finally:
            process.kill()


_SENTENCES = {
    r"version mismatch|unsupported version": "PostgreSQL's programs here are older than the server "
    "or than the backup. Install newer ones (Debian: apt install postgresql-client-{major}).",
    r"lock timeout|deadlock": "Others are working with the database, so it could not be replaced. "
    "Stop the services, or try again in a moment.",
    r"other objects depend": "Something that is not the program's own (a view?) depends on its "
    "tables. Drop it first, and make it again afterwards.",
    r"no space left": "The disk is full. Make room and try again.",
    r"permission denied": "The database does not allow this. Check the rights of its user.",
}


def _failure(what: str, complaints: IO[bytes], major: int) -> BuffettsbotError:
    """Return the error for what the programs complained of; values are never repeated."""
    complaints.seek(0)
    words = complaints.read().decode(errors="replace")
    for pattern, sentence in _SENTENCES.items():
        if re.search(pattern, words, re.IGNORECASE):
            return Unavailable(sentence.format(major=major))
    said = re.search(r"(?:error|fatal|ERROR|FATAL): +([^\n]+)", words)
    told = said[1].rstrip(".") if said else "they say nothing of why"
    return Unavailable(f"PostgreSQL's programs could not {what} the data: {told}.")
