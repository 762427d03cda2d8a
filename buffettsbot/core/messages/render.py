"""Every message a person receives: templates, what fills them, and an owner's own versions.

A template is Telegram's HTML with `${name}` for a value. A line vanishes when a value in it is
empty; `${?name}` prints nothing and keeps its line only with the value, `${!name}` only without it.
What an owner broke is never silence: the shipped text goes out, with a warning.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from buffettsbot.core.errors import Invalid
from buffettsbot.core.hashes import GRANT
from buffettsbot.core.messages.markup import (
    CAPTION_LIMIT,
    TEXT_LIMIT,
    escape,
    isolated,
    plain,
    shorten,
    tidy,
    utf16_length,
)
from buffettsbot.core.messages.words import (
    DEFAULT_COMMUNITY,
    LANGUAGES,
    TEXTS,
    WORDS_FILE,
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

_COMMON = ("community", "support", "zone")
_PERSON = (*_COMMON, "chat_id", "username", "name", "person")
_MEMBERSHIP = (*_PERSON, "granted", "plan", "price", "start", "end", "hash", "full_hash", "link")
_PAYMENT = (*_MEMBERSHIP, "reason", "reason_slug")

# Each kind of message, and the values its template may use.
FIELDS: dict[str, tuple[str, ...]] = {
    "reminder": (*_MEMBERSHIP, "days", "days_left"),
    "reminder-details": (*_MEMBERSHIP, "days", "days_left"),
    "welcome": (*_MEMBERSHIP, "invite_link"),
    "renewal": (*_MEMBERSHIP, "invite_link"),
    "invitation": (*_MEMBERSHIP, "invite_link"),
    "expired": _MEMBERSHIP,
    "payment-accepted": _PAYMENT,
    "payment-pending": _PAYMENT,
    "payment-refused": _PAYMENT,
    "admin-add": (*_MEMBERSHIP, "by_itself"),
    "admin-keep": (*_MEMBERSHIP, "by_itself"),
    "admin-delete": (*_MEMBERSHIP, "by_itself"),
    "admin-held": _PAYMENT,
    "admin-refused": _PAYMENT,
    "digest-remind": (*_COMMON, "told", "by_days"),
    "digest-expire": (*_COMMON, "ended"),
    "digest-deliver": (*_COMMON, "failed", "people", "more"),
    "pass-failed": (*_COMMON, "pass", "error"),
}
NAMES = tuple(FIELDS)
PICTURED = "reminder"

# How many UTF-16 units of a value are shown. The longest of them all still fit into a message.
LONGEST_NAME = 128
LONGEST = {
    "name": LONGEST_NAME + 2,
    "person": 2 * LONGEST_NAME + 5,
    "community": 120,
    "support": 120,
    "start": 80,
    "end": 80,
    "full_hash": 80,
    "link": 200,
    "invite_link": 200,
    "reason": 300,
    "by_days": 800,
    "people": 2400,
    "error": 600,
}
LONGEST_OTHER = 40
MOST_PEOPLE = 12
_URLS = ("link", "invite_link")

_PLACEHOLDER = re.compile(r"\$\{([?!]?)([a-z_]+)\}")
_BARE = re.compile(r"\$([a-z_]+)")


@dataclass(frozen=True)
class Style:
    """How an owner's messages look. `directory`: their own texts and pictures."""

    language: str
    zone: ZoneInfo
    community: str
    support: str | None
    explorer_url: str
    directory: Path | None = None


@dataclass(frozen=True)
class Message:
    """One message, ready for Telegram: HTML, and a picture if the text is its caption.

    `warnings`: what is wrong with the owner's own version, which was not used.
    """

    text: str
    picture: Path | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finding:
    """Something in the owner's directory that is not used as it was meant, and why."""

    path: Path
    problem: str


def render(kind: str, payload: Mapping[str, Any], style: Style, *, again: bool = False) -> Message:
    """Given a kind of message and what an outbox row says, return the message.

    `again`: the row may have been sent before; a small line says so. Raises Invalid for a kind
    that does not exist.
    """
    if kind not in FIELDS:
        raise Invalid(f"There is no message {kind!r}. There are: {', '.join(NAMES)}.")
    warnings = list[str]()
    words = _words(style, warnings)
    values = _values(kind, payload, style, words)
    note = f"\n\n<i>{escape(shorten(words.word('again'), 100))}</i>" if again else ""
    text = None
    path = _own(style, f"{kind}.html", warnings)
    if path is not None:
        try:
            template = read_text(path)
            _check_template(kind, template)
            text = _written(kind, template, values, note)
        except Invalid as error:
            warnings.append(f"{path}: {error} The shipped text is used instead.")
    if text is None:
        text = _written(kind, _shipped(kind, style.language), values, note)
    picture = None
    if kind == PICTURED:
        picture = _picture(payload.get("days"), style, warnings)
    return Message(text, picture, tuple(warnings))


def check(style: Style) -> list[Finding]:
    """Return everything in the owner's directory that would not be used as it was meant."""
    if style.directory is None:
        return []
    if not os.path.isdir(style.directory):
        return [Finding(style.directory, "There is no such directory.")]
    try:
        files = list(_own_files(style.directory))
    except OSError as error:
        return [Finding(Path(error.filename), f"It cannot be read: {error.strerror}.")]
    found = list[Finding]()
    for path, language in files:
        try:
            _check_own(path, language)
        except Invalid as error:
            found.append(Finding(path, str(error)))
    return found


def sample(kind: str) -> dict[str, Any]:
    """Return an outbox row's data for a kind of message, to look at the message with."""
    return dict(_SAMPLES.get(kind, _SAMPLE))


def _shipped(kind: str, language: str) -> str:
    return _shipped_text(kind, language if language in LANGUAGES else LANGUAGES[0])


@lru_cache
def _shipped_text(kind: str, language: str) -> str:
    return read_text(TEXTS / language / f"{kind}.html")


# --- filling a template


def _written(kind: str, template: str, values: Mapping[str, str], note: str) -> str:
    """Return a filled template. Raises Invalid when Telegram would not take it."""
    text = _filled(template, values)
    if not plain(text).strip():
        raise Invalid("With these values nothing of it is left.")
    text += note
    limit = CAPTION_LIMIT if kind == PICTURED else TEXT_LIMIT
    length = utf16_length(plain(text))
    if length > limit:
        raise Invalid(f"It is too long: {length} characters, and Telegram takes {limit}.")
    return text


def _filled(template: str, values: Mapping[str, str]) -> str:
    lines = list[str]()
    for line in template.split("\n"):
        placeholders = _PLACEHOLDER.findall(line)
        if all(bool(values[name]) != (sign == "!") for sign, name in placeholders):
            lines.append(_PLACEHOLDER.sub(lambda m: "" if m[1] else values[m[2]], line).rstrip())
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def _check_template(kind: str, template: str) -> None:
    """Raise Invalid when a template cannot become a message, whatever fills it."""
    if not template.strip():
        raise Invalid("It is empty.")
    rest = _PLACEHOLDER.sub("", template)
    if "${" in rest:
        raise Invalid("Each ${ begins a value such as ${name}, in lower-case letters.")
    for name in _BARE.findall(rest):
        if name in FIELDS[kind]:
            raise Invalid(f"Write ${{{name}}} in place of ${name}.")
    for _, name in _PLACEHOLDER.findall(template):
        if name not in FIELDS[kind]:
            allowed = ", ".join(FIELDS[kind])
            raise Invalid(f"There is no ${{{name}}} in this message. There are: {allowed}.")
    plain(_PLACEHOLDER.sub("x", template))
    for number, line in enumerate(template.split("\n"), 1):
        if _PLACEHOLDER.search(line):
            try:
                plain(_PLACEHOLDER.sub("x", line))
            except Invalid:
                raise Invalid(
                    f"In line {number}, which may vanish with its value, "
                    "every tag has to begin and to end."
                ) from None


def _values(kind: str, payload: Mapping[str, Any], style: Style, words: Words) -> dict[str, str]:
    """Return every value that this kind's template may use, as HTML and none too long."""
    values = _texts(payload, style, words)
    return {name: _value(name, values.get(name, "")) for name in FIELDS[kind]}


def _value(name: str, text: str) -> str:
    longest = LONGEST.get(name, LONGEST_OTHER)
    if name in _URLS:
        usable = utf16_length(text) <= longest and text.startswith(("https://", "http://"))
        return escape(text) if usable else ""
    return escape(shorten(text, longest))


def _texts(payload: Mapping[str, Any], style: Style, words: Words) -> dict[str, str]:
    community = tidy(style.community)
    if community in ("", DEFAULT_COMMUNITY):
        community = words.word("our-community")
    reason = payload.get("reason")
    return {
        "community": community,
        "support": tidy(style.support or ""),
        "zone": style.zone.key or "",
        **_person(payload),
        **_purchase(payload, style, words),
        "start": words.date(payload.get("start_date"), style.zone),
        "end": words.date(payload.get("end_date"), style.zone),
        "reason": words.reason(reason),
        "reason_slug": _text(reason),
        "days": _text(payload.get("days")),
        "days_left": words.less_than(payload.get("days")),
        "invite_link": _text(payload.get("invite_link")),
        "by_itself": "✓" if payload.get("by_itself") else "",
        "told": _text(payload.get("told")),
        "by_days": _by_days(payload.get("by_days"), words),
        "ended": _text(payload.get("ended")),
        "failed": _text(payload.get("failed")),
        **_people(payload.get("people"), payload.get("failed")),
        "pass": _text(payload.get("pass")),
        "error": _text(payload.get("error")),
    }


def _text(value: Any) -> str:
    return "" if value is None else tidy(str(value))


def _name(value: Any) -> str:
    return isolated(shorten(_text(value), LONGEST_NAME))


def _person(payload: Mapping[str, Any]) -> dict[str, str]:
    chat_id, username = _text(payload.get("chat_id")), _text(payload.get("telegram_username"))
    first, last = _name(payload.get("first_name")), _name(payload.get("last_name"))
    handle = f"@{username}" if username else ""
    return {
        "chat_id": chat_id,
        "username": handle,
        "name": first or last or handle,
        "person": f"{first} {last}".strip() or handle or chat_id,
    }


def _purchase(payload: Mapping[str, Any], style: Style, words: Words) -> dict[str, str]:
    """What was bought; for a grant, which nobody paid, plan, price and link are empty."""
    full = _text(payload.get("transaction_hash"))
    is_hash = re.fullmatch("[0-9a-f]{64}", full) is not None
    granted = full.startswith(GRANT)
    return {
        "granted": "✓" if granted else "",
        "plan": "" if granted else tidy(words.period(payload.get("plan"))),
        "price": "" if granted else _text(payload.get("price")),
        "full_hash": full,
        "hash": f"{full[:8]}…{full[-4:]}" if is_hash else full,
        "link": style.explorer_url + full if is_hash else "",
    }


def _by_days(counts: Any, words: Words) -> str:
    if not isinstance(counts, Mapping):
        return ""
    by_number = {int(d): n for d, n in counts.items() if n and is_count(d)}
    return "\n".join(
        f"• {words.less_than(days)}: {_text(by_number[days])}"
        for days in sorted(by_number, reverse=True)
    )


def _people(people: Any, count: Any) -> dict[str, str]:
    """Those whom messages did not reach: the first of them by name, and how many more."""
    listed = [p for p in people if isinstance(p, Mapping)] if isinstance(people, list) else []
    lines = list[str]()
    for one in listed[:MOST_PEOPLE]:
        who = _person({k: one.get(k) for k in ("chat_id", "telegram_username")})["person"]
        lines.append(f"• {shorten(who, 40)}: {shorten(_text(one.get('error')), 150)}")
    more = max(len(listed), count if isinstance(count, int) else 0) - len(lines)
    return {"people": "\n".join(lines), "more": str(more) if more else ""}


# --- the owner's own versions


def _own(style: Style, name: str, warnings: list[str] | None = None) -> Path | None:
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


def _words(style: Style, warnings: list[str]) -> Words:
    language = style.language if style.language in LANGUAGES else LANGUAGES[0]
    path = _own(style, WORDS_FILE, warnings)
    if path is not None:
        try:
            return own_words(read_text(path), language)
        except Invalid as error:
            warnings.append(f"{path}: {error} The shipped words are used instead.")
    return shipped_words(language)


def _picture(days: Any, style: Style, warnings: list[str]) -> Path | None:
    """Return the picture for so many days: of exactly these, else of the next closeness."""
    number = int(days) if is_count(days) else CLOSENESS[-1]
    near = next((step for step in CLOSENESS if number <= step), CLOSENESS[-1])
    for wanted in dict.fromkeys((number, near)):
        for suffix in PICTURE_SUFFIXES:
            path = _own(style, f"reminder-{wanted}{suffix}")
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


def _own_files(directory: Path) -> Iterator[tuple[Path, str | None]]:
    """Yield the files of the owner's directory, each with the language it is for."""
    for path in sorted(directory.iterdir()):
        if path.name.startswith("."):
            continue
        if path.name in LANGUAGES and path.is_dir():
            inside = sorted(path.iterdir())
            yield from ((p, path.name) for p in inside if not p.name.startswith("."))
        else:
            yield path, None


def _check_own(path: Path, language: str | None) -> None:
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
    _check_template(path.stem, template)
    for values in _extremes(path.stem):
        _written(path.stem, template, values, f"\n\n{'x' * 100}")


def _extremes(kind: str) -> Iterator[dict[str, str]]:
    """Yield values as long as they may be, with each flag on and off."""
    full = {name: "x" * LONGEST.get(name, LONGEST_OTHER) for name in FIELDS[kind]}
    yield full
    yield full | {name: "" for name in ("by_itself", "invite_link", "granted") if name in full}


# --- what the preview shows

_HASH = "ea70f1b3c29d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7"
_SAMPLE: dict[str, Any] = {
    "chat_id": 987654321,
    "telegram_username": "ann_x",
    "first_name": "Ann",
    "last_name": "Example",
    "plan": "3 months",
    "price": 140,
    "transaction_hash": _HASH,
    "start_date": "2026-11-02T09:30:00+00:00",
    "end_date": "2027-01-31T09:30:00+00:00",
    "days": 7,
}
_SAMPLES: dict[str, dict[str, Any]] = {
    "welcome": _SAMPLE | {"invite_link": "https://t.me/+AbCdEfGhIjKlMnOp"},
    "invitation": _SAMPLE | {"invite_link": "https://t.me/+AbCdEfGhIjKlMnOp"},
    "payment-accepted": _SAMPLE | {"reason": "accepted"},
    "payment-pending": _SAMPLE | {"reason": "unconfirmed", "start_date": None, "end_date": None},
    "payment-refused": _SAMPLE | {"reason": "underpaid", "start_date": None, "end_date": None},
    "admin-delete": _SAMPLE | {"by_itself": True},
    "admin-held": _SAMPLE | {"reason": "held-for-review", "start_date": None, "end_date": None},
    "admin-refused": _SAMPLE | {"reason": "underpaid", "start_date": None, "end_date": None},
    "digest-remind": {"told": 17, "by_days": {"7": 12, "3": 4, "1": 1}},
    "digest-expire": {"ended": 3},
    "digest-deliver": {
        "failed": 2,
        "people": [
            {
                "chat_id": 987654321,
                "telegram_username": "ann_x",
                "error": "Forbidden: bot was blocked by the user",
            },
            {
                "chat_id": 987654322,
                "telegram_username": None,
                "error": "Forbidden: user is deactivated",
            },
        ],
    },
    "pass-failed": {
        "pass": "buffettsbot-pass@settle.service",
        "error": "error: The database does not allow this. Check the rights of its user.",
    },
}
