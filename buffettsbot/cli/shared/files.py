"""Files that a command writes for the owner alone."""

import contextlib
import os
import tempfile
from pathlib import Path

from buffettsbot.core.errors import NotAllowed, Unavailable


def write_private(name: str, text: str) -> Path:
    """Write a file that only its owner may read (0600), all of it or nothing; return its path.

    Raises NotAllowed for what is there and no ordinary file, Unavailable when it cannot be written.
    """
    path = Path(name)
    try:
        if path.is_dir():
            raise NotAllowed(f"{name} is a directory: name a file in it. Nothing was written.")
        if path.exists() and not path.is_file():
            raise NotAllowed(f"{name} is no ordinary file, so it stays. For stdout, write -")
        _replace(path, text)
    except OSError as error:
        raise Unavailable(
            f"{name} cannot be written: {error.strerror}. Choose another place."
        ) from None
    return path


def _replace(path: Path, text: str) -> None:
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.")
    try:
        with open(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(draft)
        raise
