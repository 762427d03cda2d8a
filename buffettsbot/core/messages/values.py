"""What fills a template: an outbox row's data as texts that are safe in HTML and none too long."""

import re
from collections.abc import Mapping
from typing import Any

from buffettsbot.core.hashes import GRANT
from buffettsbot.core.messages.kinds import FIELDS, LONGEST, LONGEST_NAME, LONGEST_OTHER
from buffettsbot.core.messages.markup import escape, isolated, shorten, tidy, utf16_length
from buffettsbot.core.messages.words import DEFAULT_COMMUNITY, Style, Words, is_count

MOST_PEOPLE = 12
MOST_REMINDED = 20
_URLS = ("link", "invite_link")


def values_of(kind: str, payload: Mapping[str, Any], style: Style, words: Words) -> dict[str, str]:
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
        "reason": words.reason(reason, amount=payload.get("amount"), price=payload.get("price")),
        "reason_slug": _text(reason),
        "days": _text(payload.get("days")),
        "days_left": words.less_than(payload.get("days")),
        "invite_link": _text(payload.get("invite_link")),
        "by_itself": "✓" if payload.get("by_itself") else "",
        "told": _text(payload.get("told")),
        "by_days": _by_days(payload.get("by_days"), words),
        "ended": _text(payload.get("ended")),
        "failed": _text(payload.get("failed")),
        **_people(payload, style, words),
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


def _people(payload: Mapping[str, Any], style: Style, words: Words) -> dict[str, str]:
    """The first of those whom a digest is about, by name, and how many more.

    Whom messages did not reach, with what Telegram said; who was reminded, with their end.
    """
    people, reminded = payload.get("people"), "told" in payload
    count = payload.get("told" if reminded else "failed")
    listed = [p for p in people if isinstance(p, Mapping)] if isinstance(people, list) else []
    lines = list[str]()
    for one in listed[: MOST_REMINDED if reminded else MOST_PEOPLE]:
        person = _person(one)
        who = shorten(person["username"] or person["person"], 40)
        end = words.date(one.get("end_date"), style.zone)
        lines.append(f"• {who}: {shorten(end if reminded else _text(one.get('error')), 150)}")
    more = max(len(listed), count if isinstance(count, int) else 0) - len(lines)
    return {"people": "\n".join(lines), "more": str(more) if more else ""}
