"""The file of a backup: what the database's own tools read, and a seal at its end.

The data begin at the first byte, as a SQLite database or in pg_dump's custom format, so `sqlite3`
and `pg_restore` read the file should this program be gone. The seal is two lines: a JSON object
that says what the file is, and the SHA-256 of every byte before. It is part of the file, so that it
can neither be lost nor be taken for another's, as a file beside it can.
"""

import errno
import glob
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from buffettsbot.core.errors import BuffettsbotError, Conflict, Invalid, NotFound, Unavailable

PARTIAL = ".partial"

_LARGEST_SEAL = 16_384
_PIECE = 1024 * 1024
_SEAL = re.compile(rb"\n(\{\"buffettsbot_backup\": [^\n]*\})\n([0-9a-f]{64})\n\Z")


@dataclass(frozen=True)
class Archive:
    """What a backup says of itself. `size`: bytes of the data, without the seal; `rows`: how many
    each table has."""

    database: str
    version: str
    created_at: datetime
    program: str
    size: int
    rows: dict[str, int]


@contextmanager
def written(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield an empty private file beside `target`, and put it there in one step if all goes well.

    Otherwise nothing stays of it. Raises Conflict when `target` exists and is not to be
    overwritten, Unavailable when it cannot be written.
    """
    try:
        _refuse_existing(target, overwrite)
        handle, name = tempfile.mkstemp(PARTIAL, f".{target.name}.", target.parent)
        os.close(handle)
        partial = Path(name)
        try:
            yield partial
            _sync(partial)
            _put(partial, target, overwrite)
            _sync(target.parent)
        finally:
            name = glob.escape(partial.name)
            for left in target.parent.glob(f"{name}*"):  # SQLite has files beside its own
                left.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(target, error) from None


def unwritable(target: Path, error: OSError) -> BuffettsbotError:
    """Return what to say when a backup cannot be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Unavailable("The disk is full, so there is no backup. Make room and try again.")
    return Unavailable(
        f"The backup cannot be written to {target}: {error.strerror}. Choose another place."
    )


def _put(partial: Path, target: Path, overwrite: bool) -> None:
    if not overwrite:
        try:
            os.link(partial, target)  # alone of all ways, it never replaces a file
        except OSError:  # it exists, or this file system knows no links
            _refuse_existing(target, overwrite)
        else:
            return
    partial.replace(target)


def _refuse_existing(target: Path, overwrite: bool) -> None:
    if not overwrite and os.path.lexists(target):
        raise Conflict(f"{target} exists already. Choose another name, or add --overwrite.")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def seal(path: Path, archive: Archive) -> None:
    """Append to a file of data what it is, and the checksum of all of it."""
    about = {"buffettsbot_backup": 1} | asdict(archive)
    about["created_at"] = archive.created_at.isoformat()
    with path.open("r+b") as file:
        digest = hashlib.file_digest(file, "sha256")
        line = b"\n" + json.dumps(about).encode() + b"\n"
        digest.update(line)
        file.write(line + digest.hexdigest().encode() + b"\n")


def read(path: Path) -> Archive:
    """Check every byte of a backup and return what it says of itself; nothing is changed.

    Raises NotFound, Unavailable when it cannot be read, Invalid when it is damaged or no backup.
    """
    try:
        return _read(path)
    except FileNotFoundError:
        raise NotFound(f"There is no file {path}.") from None
    except OSError as error:
        raise Unavailable(f"{path} cannot be read: {error.strerror}.") from None


def _read(path: Path) -> Archive:
    with path.open("rb") as file:
        length = file.seek(0, os.SEEK_END)
        file.seek(max(0, length - _LARGEST_SEAL))
        found = _SEAL.search(file.read())
        if found is None:
            raise Invalid(
                f"{path} is no backup of buffettsbot, or its end is missing. Nothing was changed; "
                "take another backup."
            )
        if _digest(file, length - len(found[2]) - 1) != found[2].decode():
            raise Invalid(
                f"{path} is damaged: it is not what was written. Nothing was changed; "
                "take another backup."
            )
    try:
        about = json.loads(found[1])
        if about.pop("buffettsbot_backup") == 1:
            return Archive(**about | {"created_at": datetime.fromisoformat(about["created_at"])})
    except (ValueError, TypeError, KeyError):  # it says more, or less, than we know of
        pass
    raise Invalid(f"{path} was written in a form that this program does not know. Update it.")


def _digest(file: BinaryIO, length: int) -> str:
    """Return the SHA-256 of the first `length` bytes."""
    digest = hashlib.sha256()
    file.seek(0)
    while length > 0 and (piece := file.read(min(length, _PIECE))):
        digest.update(piece)
        length -= len(piece)
    return digest.hexdigest()
