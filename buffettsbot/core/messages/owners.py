"""The owner's own texts and pictures: found, used, and checked before they are."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buffettsbot.core.errors import Invalid
from buffettsbot.core.messages.kinds import FIELDS, LONGEST, LONGEST_OTHER, NAMES
from buffettsbot.core.messages.template import check_purpose, check_template, fill
from buffettsbot.core.messages.words import (
    LANGUAGES,
    WORDS_FILE,
    Style,
    Words,
    is_count,
    own_words,
    read_text,
    shipped_words,
)

PICTURES = Path(__file__).parent / "pictures"
PICTURE_SUFFIXES = (".png", ".jpg")
BIGGEST_PICTURE = 10 * 1024 * 1024
CLOSENESS = (1, 3, 7)


@dataclass(frozen=True)
class UnusedFile:
    """Something in the owner's directory that is not used as it was meant, and why."""

    path: Path
    problem: str


def check(style: Style) -> list[UnusedFile]:
    """Return everything in the owner's directory that would not be used as it was meant."""
    if style.directory is None:
        return []
    if not os.path.isdir(style.directory):
        return [UnusedFile(style.directory, "There is no such directory.")]
    try:
        files = list(_files_in(style.directory))
    except OSError as error:
        return [UnusedFile(Path(error.filename), f"It cannot be read: {error.strerror}.")]
    found = list[UnusedFile]()
    for path, language in files:
        try:
            _check_own(path, language, style.has_group)
        except Invalid as error:
            found.append(UnusedFile(path, str(error)))
    return found


def own_file(style: Style, name: str, warnings: list[str] | None = None) -> Path | None:
    """Return the owner's file of this name, that of the language first; None without one."""
    if style.directory is None:
        return None
    if not os.path.isdir(style.directory):
        if warnings is not None and not warnings:
            warnings.append(f"{style.directory}: There is no such directory.")
        return None
    paths = (style.directory / style.language / name, style.directory / name)
    return next((path for path in paths if _is_there(path)), None)


def _is_there(path: Path) -> bool:
    """Say whether a file is there; also of one that cannot be seen, for who reads it says why."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def words_of(style: Style, warnings: list[str]) -> Words:
    language = style.language if style.language in LANGUAGES else LANGUAGES[0]
    path = own_file(style, WORDS_FILE, warnings)
    if path is not None:
        try:
            return own_words(read_text(path), language)
        except Invalid as error:
            warnings.append(f"{path}: {error} The shipped words are used instead.")
    return shipped_words(language)


def picture_for(days: Any, style: Style, warnings: list[str]) -> Path | None:
    """Return the picture for so many days: of exactly these, else of the next closeness."""
    number = int(days) if is_count(days) else CLOSENESS[-1]
    near = next((step for step in CLOSENESS if number <= step), CLOSENESS[-1])
    for wanted in dict.fromkeys((number, near)):
        for suffix in PICTURE_SUFFIXES:
            path = own_file(style, f"reminder-{wanted}{suffix}")
            if path is None:
                continue
            try:
                _check_picture(path)
            except Invalid as error:
                warnings.append(f"{path}: {error} The shipped picture is used instead.")
            else:
                return path
    shipped = PICTURES / f"reminder-{near}.png"
    return shipped if shipped.is_file() else None


def _check_picture(path: Path) -> None:
    try:
        size = path.stat().st_size if path.is_file() else 0
        with path.open("rb") as file:
            head = file.read(24)
    except OSError as error:
        raise Invalid(f"It cannot be read: {error.strerror}.") from None
    if size > BIGGEST_PICTURE:
        raise Invalid("It is larger than the 10 MB that Telegram takes.")
    if head.startswith(b"\xff\xd8\xff"):
        return
    if not head.startswith(b"\x89PNG\r\n\x1a\n") or len(head) < 24:
        raise Invalid("It is no PNG and no JPEG.")
    width, height = int.from_bytes(head[16:20]), int.from_bytes(head[20:24])
    if (
        not min(width, height)
        or width + height > 10_000
        or max(width, height) > 20 * min(width, height)
    ):
        raise Invalid(f"Telegram takes no picture of {width} × {height}.")


def _files_in(directory: Path) -> Iterator[tuple[Path, str | None]]:
    """Yield the files of the owner's directory, each with the language it is for."""
    for path in sorted(directory.iterdir()):
        if path.name.startswith("."):
            continue
        if path.name in LANGUAGES and path.is_dir():
            inside = sorted(path.iterdir())
            yield from ((p, path.name) for p in inside if not p.name.startswith("."))
        else:
            yield path, None


def _check_own(path: Path, language: str | None, has_group: bool) -> None:
    """Raise Invalid when a file in the owner's directory is not used as it was meant."""
    if re.fullmatch(r"reminder-\d+\.(png|jpg)", path.name):
        _check_picture(path)
        return
    languages = (language,) if language else LANGUAGES
    if path.name == WORDS_FILE:
        for one in languages:
            own_words(read_text(path), one)
        return
    if path.suffix != ".html" or path.stem not in FIELDS:
        raise Invalid(
            "No message has this name. There are: "
            f"{', '.join(NAMES)} (each .html), {WORDS_FILE}, reminder-7.png, en/ and ru/."
        )
    template = read_text(path)
    check_template(path.stem, template)
    check_purpose(path.stem, template, has_group=has_group)
    for values in _extremes(path.stem):
        fill(path.stem, template, values, f"\n\n{'x' * 100}")


def _extremes(kind: str) -> Iterator[dict[str, str]]:
    """Yield values as long as they may be, with each flag on and off."""
    full = {name: "x" * LONGEST.get(name, LONGEST_OTHER) for name in FIELDS[kind]}
    yield full
    yield full | {name: "" for name in ("by_itself", "invite_link", "granted") if name in full}
