"""Telegram's HTML: what it accepts, how long it is, and how a stranger's name gets into it.

Lengths are counted in UTF-16 units after the entities are parsed, as Telegram counts them.
"""

import html
import re
import unicodedata

from buffettsbot.core.errors import Invalid

TEXT_LIMIT = 4096
CAPTION_LIMIT = 1024

TAGS = {
    "a", "b", "blockquote", "code", "del", "em", "i", "ins", "pre", "s", "span", "strike",
    "strong", "tg-emoji", "tg-spoiler", "u",
}  # fmt: skip
_TAG = re.compile(
    r"<(/?)([a-zA-Z][a-zA-Z0-9-]*)"
    r"((?:\s+[a-zA-Z-]+(?:\s*=\s*(?:\"[^\"]*\"|'[^']*'|[^\s\"'<>=]+))?)*)\s*>"
)
_SPOILER = re.compile(r"\s*class\s*=\s*[\"']?tg-spoiler[\"']?\s*")
_EMOJI_ID = re.compile(r"\s*emoji-id\s*=\s*[\"']?[1-9]\d{0,18}[\"']?\s*", re.ASCII)
_ENTITIES = {"lt": "<", "gt": ">", "amp": "&", "quot": '"'}
_ENTITY = re.compile(r"&(?:#(\d{1,7})|#x([0-9a-fA-F]{1,6})|(lt|gt|amp|quot));?")

# Whatever would turn the reading direction, or is no character at all; joiners stay, for emoji.
_UNWANTED = re.compile("[\x00-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_DANGLING = ("\u200d", "\ufe0e", "\ufe0f")
_ISOLATE, _END_ISOLATE = "\u2068", "\u2069"


def utf16_length(text: str) -> int:
    """Return a text's length as Telegram counts it."""
    return len(text) + sum(character > "\uffff" for character in text)


def escape(text: str) -> str:
    """Return a text as HTML that shows exactly it, in an attribute too."""
    return html.escape(text, quote=True)


def plain(source: str) -> str:
    """Given Telegram's HTML, return what a reader sees. Raise Invalid where it would refuse it."""
    shown, opened, position = list[str](), list[str](), 0
    while (start := source.find("<", position)) >= 0:
        shown.append(source[position:start])
        match = _TAG.match(source, start)
        if match is None:
            raise Invalid(
                f'"{source[start : start + 12]}" begins no tag. Write &lt; to show a "<".'
            )
        closing, name, attributes = match[1], match[2].lower(), match[3]
        if closing:
            _close(opened, name)
        else:
            _check_tag(name, attributes)
            opened.append(name)
        position = match.end()
    if opened:
        raise Invalid(f"<{opened[-1]}> is never closed. Add </{opened[-1]}>.")
    return _ENTITY.sub(_character, "".join(shown) + source[position:])


def _check_tag(name: str, attributes: str) -> None:
    if name in ("br", "p"):
        raise Invalid(f"Telegram knows no <{name}>. Break the line instead.")
    if name not in TAGS or (name == "span" and not _SPOILER.fullmatch(attributes)):
        raise Invalid(f"Telegram knows no <{name}>. Use {', '.join(sorted(TAGS - {'span'}))}.")
    if name == "tg-emoji" and not _EMOJI_ID.fullmatch(attributes):
        raise Invalid('<tg-emoji> needs the emoji\'s number, as in emoji-id="5368324170671202286".')


def _close(opened: list[str], name: str) -> None:
    if not opened:
        raise Invalid(f"</{name}> closes what was never opened.")
    expected = opened.pop()
    if name != expected:
        raise Invalid(f"</{name}> stands where </{expected}> is due.")


def _character(match: re.Match[str]) -> str:
    decimal, hexadecimal, name = match.groups()
    if name:
        return _ENTITIES[name]
    code = int(decimal) if decimal else int(hexadecimal, 16)
    return chr(code) if 0 < code < 0x110000 else match[0]


def shorten(text: str, units: int) -> str:
    """Return a text of at most so many UTF-16 units; what was longer ends in "…"."""
    if utf16_length(text) <= units:
        return text
    room, kept = units - 1, 0
    for character in text:
        room -= utf16_length(character)
        if room < 0:
            break
        kept += 1
    return text[:kept].rstrip("".join(_DANGLING)).rstrip() + "…"


def tidy(text: str) -> str:
    """Given whatever a stranger wrote, return one line that cannot turn its surroundings."""
    text = _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text)
    text = " ".join(_UNWANTED.sub(" ", text).split())
    return text.strip("".join(_DANGLING))


def isolated(text: str) -> str:
    """Return a text that keeps its right-to-left letters from reordering the line around it."""
    if any(unicodedata.bidirectional(character) in ("R", "AL") for character in text):
        return f"{_ISOLATE}{text}{_END_ISOLATE}"
    return text
