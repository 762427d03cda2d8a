"""Every message a person receives: the template, filled, or the owner's own version of it.

What an owner broke is never silence: the shipped text goes out, with a warning.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from buffettsbot.core.errors import Invalid
from buffettsbot.core.messages.kinds import FIELDS, NAMES, PICTURED
from buffettsbot.core.messages.markup import escape, shorten
from buffettsbot.core.messages.owners import own_file, picture_for, words_of
from buffettsbot.core.messages.template import check_template, fill
from buffettsbot.core.messages.values import values_of
from buffettsbot.core.messages.words import LANGUAGES, TEXTS, Style, read_text


@dataclass(frozen=True)
class Message:
    """One message, ready for Telegram: HTML, and a picture if the text is its caption.

    `warnings`: what is wrong with the owner's own version, which was not used.
    """

    text: str
    picture: Path | None = None
    warnings: tuple[str, ...] = ()


def render(kind: str, payload: Mapping[str, Any], style: Style, *, again: bool = False) -> Message:
    """Given a kind of message and what an outbox row says, return the message.

    `again`: the row may have been sent before; a small line says so. Raises Invalid for a kind
    that does not exist.
    """
    if kind not in FIELDS:
        raise Invalid(f"There is no message {kind!r}. There are: {', '.join(NAMES)}.")
    warnings = list[str]()
    words = words_of(style, warnings)
    values = values_of(kind, payload, style, words)
    note = f"\n\n<i>{escape(shorten(words.word('again'), 100))}</i>" if again else ""
    text = None
    path = own_file(style, f"{kind}.html", warnings)
    if path is not None:
        try:
            template = read_text(path)
            check_template(kind, template)
            text = fill(kind, template, values, note)
        except Invalid as error:
            warnings.append(f"{path}: {error} The shipped text is used instead.")
    if text is None:
        text = fill(kind, _shipped(kind, style.language), values, note)
    picture = None
    if kind == PICTURED:
        picture = picture_for(payload.get("days"), style, warnings)
    return Message(text, picture, tuple(warnings))


def _shipped(kind: str, language: str) -> str:
    return _shipped_text(kind, language if language in LANGUAGES else LANGUAGES[0])


@lru_cache
def _shipped_text(kind: str, language: str) -> str:
    return read_text(TEXTS / language / f"{kind}.html")
