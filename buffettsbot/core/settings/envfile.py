"""Env files that both python-dotenv (so, this program) and systemd read alike, written whole.

A file is changed line by line: comments, order and everything that is not ours to change stay.
"""

import contextlib
import errno
import io
import os
import re
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from buffettsbot.core.errors import BadSettings, Invalid, NotAllowed, Unavailable

_PLAIN = re.compile(r"[A-Za-z0-9_@%+=:,./-]*", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def read_text(path: Path) -> str:
    """Return a file's text, empty for one that does not exist. Raises BadSettings."""
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        closed = isinstance(error, PermissionError)
        cure = " Run this with sudo, or name another file." if closed else ""
        raise BadSettings(f"{path} cannot be read: {why}.{cure}") from None


def is_there(path: Path) -> bool:
    """Say whether a file is there. Raises BadSettings when that cannot be seen."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise BadSettings(
            f"{path} cannot be seen: {error.strerror}. Run this as the user of the service, "
            "or fix the rights of the directories above."
        ) from None


def values_in(text: str) -> dict[str, str]:
    """Return the variables that a file's text sets, as this program reads them."""
    found = dotenv_values(stream=io.StringIO(text))
    return {name: value for name, value in found.items() if value}


def quoted(value: str) -> str:
    """Return a value as it is written. Raises Invalid for one that the two would read differently.

    Single quotes keep everything as it is, for a shell too; double quotes know two escapes. A
    backslash at the end and `${` have no spelling that both readers understand.
    """
    if _CONTROL.search(value) or value.endswith("\\") or "${" in value:
        raise Invalid(
            "A setting may hold no line break or other control character, no ${, and no backslash "
            "at its end. Choose another value."
        )
    if _PLAIN.fullmatch(value):
        return value
    if "'" not in value and "\\" not in value:
        return f"'{value}'"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def with_values(text: str, values: Mapping[str, str], notes: Mapping[str, str]) -> str:
    """Return a file's text with these variables set: in their place, or at the end after a note.

    Raises Invalid for a value that cannot be written.
    """
    lines = {name: f"{name}={quoted(value)}" for name, value in values.items()}
    pieces = [
        (binding.key if not binding.error else None, binding.original.string)
        for binding in parse_stream(io.StringIO(text))
    ]
    last = {name: number for number, (name, _) in enumerate(pieces)}
    for name in lines.keys() & last.keys():
        original = pieces[last[name]][1]
        blank = original[: len(original) - len(original.lstrip())]
        pieces[last[name]] = (name, f"{blank}{lines[name]}\n")
    written = "".join(string for _, string in pieces)
    if written and not written.endswith("\n"):
        written += "\n"
    added = [name for name in lines if name not in last]
    return written + "".join(
        (f"\n# {notes[name]}\n" if name in notes else "") + f"{lines[name]}\n" for name in added
    )


def write(path: Path, text: str) -> None:
    """Put a text in a file's place, whole or not at all, on the disk when this returns.

    A new file is 0600; one that is there keeps its owner and group, and loses what it grants to
    others. Raises NotAllowed, Unavailable.
    """
    path = path.resolve()  # a link stays a link
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.stat() if path.exists() else None
        if before is not None and not stat.S_ISREG(before.st_mode):
            raise NotAllowed(f"{path} is no ordinary file. Choose another with --env-file.")
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with open(handle, "w", encoding="utf-8", newline="") as file:
                if before is not None:
                    os.fchown(handle, before.st_uid, before.st_gid)
                    os.fchmod(handle, stat.S_IMODE(before.st_mode) & 0o640)
                file.write(text)
                file.flush()
                os.fsync(handle)
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise
        _sync(path.parent)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Unavailable(f"{path} cannot be written: the disk is full. Make room.") from None
        raise NotAllowed(
            f"{path} cannot be written: {error.strerror}. "
            "Run this with sudo, or choose another place with --env-file."
        ) from None


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
