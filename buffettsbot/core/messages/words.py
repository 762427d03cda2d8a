"""The words that messages are put together from, in each language: dates, plans, reasons."""

import configparser
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from buffettsbot.core.errors import Invalid
from buffettsbot.core.messages.markup import tidy

LANGUAGES = ("en", "ru")
TEXTS = Path(__file__).parent / "texts"
WORDS_FILE = "words.ini"
DEFAULT_COMMUNITY = "our community"
MOST_BYTES = 64 * 1024

_WORDS = {"months": 12, "day": 2}
_PARTS: dict[str, dict[str, Any]] = {
    "date": {"day": 1, "month": "", "year": 1, "time": "", "zone": ""},
    "less-than": {"count": 1, "days": ""},
    "arrived": {"amount": "", "price": ""},
}


@dataclass(frozen=True)
class Words:
    """One language's words, by section and name."""

    language: str
    sections: Mapping[str, Mapping[str, str]]

    def date(self, value: Any, zone: ZoneInfo) -> str:
        """Given an ISO 8601 time, return it as people read it in the zone; "" if it is none."""
        try:
            moment = datetime.fromisoformat(str(value))
            moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(zone)
        except (ValueError, OverflowError):
            return ""
        words = self.sections["words"]
        return words["date"].format(
            day=moment.day,
            month=words["months"].split()[moment.month - 1],
            year=moment.year,
            time=f"{moment:%H:%M}",
            zone=zone.key or "",
        )

    def less_than(self, days: Any) -> str:
        """Return "less than 7 days"; "" for what is no number of days."""
        if not is_count(days):
            return ""
        words, count = self.sections["words"], int(days)
        single = count % 10 == 1 and count % 100 != 11 if self.language == "ru" else count == 1
        one, many = words["day"].split()
        return words["less-than"].format(count=count, days=one if single else many)

    def period(self, period: Any) -> str:
        """Return a plan's period in this language."""
        return self.sections["periods"].get(str(period), "" if period is None else str(period))

    def reason(self, slug: Any, *, amount: Any = None, price: Any = None) -> str:
        """Return what a customer is told of a payment's reason; "" for an unknown one.

        Who paid too little hears what came and what it costs, if both are given, in USDT.
        """
        sentence = self.sections["reasons"].get(str(slug), "")
        if slug != "underpaid" or amount is None or price is None:
            return sentence
        arrived = self.word("arrived").format(amount=amount, price=price)
        return f"{arrived} {sentence}"

    def word(self, name: str) -> str:
        """Return a word by its name."""
        return self.sections["words"][name]


def is_count(value: Any) -> bool:
    """Whether a value out of a payload is a whole number, as a number or as text."""
    text = str(value)
    return text.isascii() and text.isdecimal() and len(text) < 10


def read_text(path: Path) -> str:
    """Return a text file that an owner wrote. Raises Invalid when there is no reading it."""
    try:
        if not path.is_file():
            raise Invalid("It is no file.")
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise Invalid(f"It cannot be read: {error.strerror}.") from None
    if len(data) > MOST_BYTES:
        raise Invalid("It is far too long.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Invalid("It is not UTF-8. Save it again in that encoding.") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


@lru_cache
def shipped_words(language: str) -> Words:
    """Return a language's words as they come with the program."""
    return Words(language, _parsed(read_text(TEXTS / language / WORDS_FILE)))


def own_words(text: str, language: str) -> Words:
    """Return a language's words with an owner's in place of some. Raises Invalid."""
    shipped = shipped_words(language).sections
    merged = {section: dict(words) for section, words in shipped.items()}
    for section, words in _parsed(text).items():
        for name, value in words.items():
            if name not in shipped.get(section, {}):
                raise Invalid(f'There is no word "{name}" in a section [{section}].')
            _check(section, name, value)
            merged[section][name] = value
    return Words(language, merged)


def _parsed(text: str) -> dict[str, dict[str, str]]:
    parser = configparser.ConfigParser(
        interpolation=None, delimiters=("=",), comment_prefixes=("#",), default_section=""
    )
    try:
        parser.read_string(text)
    except configparser.Error as error:
        first = str(error).partition("\n")[0]
        raise Invalid(f"It is no list of words: {tidy(first)}.") from None
    return {name: dict(parser[name]) for name in parser.sections()}


def _check(section: str, name: str, value: str) -> None:
    if not value.strip():
        raise Invalid(f'"{name}" is empty.')
    if section != "words":
        return
    if len(value.split()) != _WORDS.get(name, len(value.split())):
        raise Invalid(f'"{name}" has to be {_WORDS[name]} words.')
    parts = _PARTS.get(name)
    if parts:
        try:
            value.format(**parts)
        except (LookupError, ValueError, AttributeError, TypeError):
            allowed = ", ".join(f"{{{part}}}" for part in parts)
            raise Invalid(f'"{name}" may hold {allowed} and no other braces.') from None


@dataclass(frozen=True)
class Style:
    """How an owner's messages look. `directory`: their own texts and pictures; `has_group`: whether
    people are invited to a group."""

    language: str
    zone: ZoneInfo
    community: str
    support: str | None
    explorer_url: str
    directory: Path | None = None
    has_group: bool = True
