"""A template: Telegram's HTML with `${name}` for a value.

A line vanishes when a value in it is empty; `${?name}` prints nothing and keeps its line only with
the value, `${!name}` only without it.
"""

import re
from collections.abc import Mapping

from buffettsbot.core.errors import Invalid
from buffettsbot.core.messages.kinds import FIELDS, NEEDED, PICTURED
from buffettsbot.core.messages.markup import CAPTION_LIMIT, TEXT_LIMIT, plain, utf16_length

_PLACEHOLDER = re.compile(r"\$\{([?!]?)([a-z_]+)\}")
_BARE = re.compile(r"\$([a-z_]+)")
_OTHER_BRACES = re.compile(r"\{\{?\s*([A-Za-z_]+)\s*\}?\}|%\(([A-Za-z_]+)\)s")


def fill(kind: str, template: str, values: Mapping[str, str], note: str) -> str:
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


def check_template(kind: str, template: str) -> None:
    """Raise Invalid when a template cannot become a message, whatever fills it."""
    if not template.strip():
        raise Invalid("It is empty.")
    rest = _PLACEHOLDER.sub("", template)
    if "${" in rest:
        raise Invalid("Each ${ begins a value such as ${name}, in lower-case letters.")
    for name in _BARE.findall(rest):
        if name in FIELDS[kind]:
            raise Invalid(f"Write ${{{name}}} in place of ${name}.")
    other = _OTHER_BRACES.search(rest)
    if other:
        raise Invalid(
            f"Nothing is put in place of {other[0]}: a value is written as ${{name}}. "
            f"There are: {', '.join(FIELDS[kind])}."
        )
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


def check_purpose(kind: str, template: str, *, has_group: bool) -> None:
    """Raise Invalid when a template lacks a value without which its message is of no use.

    `has_group`: whether the program invites people; where it does not, there are no links.
    """
    shown = {name for sign, name in _PLACEHOLDER.findall(template) if not sign}
    for choices in NEEDED.get(kind, ()):
        if shown.isdisjoint(choices) and (has_group or choices != ("invite_link",)):
            values = " or ".join(f"${{{name}}}" for name in choices)
            raise Invalid(f"It lacks {values}, which this message is for.")
