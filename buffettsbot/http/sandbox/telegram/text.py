"""Text as Telegram takes it: HTML tags, entities, and lengths in UTF-16 units."""

import re

TAGS = {
    "a", "b", "blockquote", "code", "del", "em", "i", "ins", "pre", "s", "span", "strike",
    "strong", "tg-emoji", "tg-spoiler", "u",
}  # fmt: skip
PARSE_MODES = ("", "none", "html", "markdown", "markdownv2")
TAG = re.compile(r"<(/?)([^>]*)(>?)")
ENTITIES = {"lt": "<", "gt": ">", "amp": "&", "quot": '"'}
ENTITY = re.compile(r"&(?:#(\d+)|#x([0-9a-fA-F]+)|(lt|gt|amp|quot));?")


class BadEntities(ValueError):
    """The text's markup is wrong; the message says where."""


def utf16_length(text: str) -> int:
    """Given a text, return its length as Telegram counts it."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def plain_html(text: str) -> str:
    """Given HTML, return its text without tags. Raise BadEntities as Telegram's parser does."""
    open_tags: list[str] = []
    for tag in TAG.finditer(text):
        closing, inside, end = tag.groups()
        offset = len(text[: tag.start()].encode())
        if not end:
            what = "end" if closing else "start"
            raise BadEntities(f"Unclosed {what} tag at byte offset {offset}")
        if closing:
            _close(open_tags, inside.strip().lower(), offset)
        else:
            open_tags.append(_open(inside, offset))
    if open_tags:
        raise BadEntities(f'Can\'t find end tag corresponding to start tag "{open_tags[-1]}"')
    return ENTITY.sub(_character, TAG.sub("", text))


def _open(inside: str, offset: int) -> str:
    """Given what stands between the brackets of a start tag, return its name."""
    name = (re.match(r"[^\s/>]*", inside) or [""])[0].lower()
    spoiler = re.search(r"class\s*=\s*[\"']?tg-spoiler", inside)
    if name not in TAGS or (name == "span" and not spoiler):
        raise BadEntities(f'Unsupported start tag "{name}" at byte offset {offset}')
    return name


def _close(open_tags: list[str], name: str, offset: int) -> None:
    if not open_tags:
        raise BadEntities(f"Unexpected end tag at byte offset {offset}")
    expected = open_tags.pop()
    if name not in ("", expected):
        raise BadEntities(
            f"Unmatched end tag at byte offset {offset}, "
            f'expected "</{expected}>", found "</{name}>"'
        )


def _character(match: re.Match[str]) -> str:
    decimal, hexadecimal, name = match.groups()
    if name:
        return ENTITIES[name]
    code = int(decimal) if decimal else int(hexadecimal, 16)
    return chr(code) if 0 < code < 0x110000 else match[0]
