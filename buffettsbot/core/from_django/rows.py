"""What a row of the original means here: pure, total, and every oddity named.

A time without a zone is UTC, as Django stores it. An `Odd` never stops anything: it says which row
was not what it should be, and its kind says what is done about it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

from buffettsbot.core.errors import BuffettsbotError, Invalid
from buffettsbot.core.from_django.source import RawPlan, RawSale, RawUser
from buffettsbot.core.hashes import parse_hash
from buffettsbot.core.members.users import LARGEST_ID, LONGEST_NAME, parse_chat_id, parse_username
from buffettsbot.core.offers.plans import HIGHEST_PRICE, parse_period
from buffettsbot.core.storage.models import PERIODS

# Whose hash it is when the original does not know: a chat id that Telegram gives to no one.
NOBODY = LARGEST_ID

KINDS = {
    "zoneless-times": "times without a zone; read as UTC",
    "bad-chat-id": "no chat id of a person; not imported",
    "bad-username": "no username of Telegram's; imported without one",
    "username-rewritten": "username written otherwise; imported bare",
    "username-shared": "somebody who joined later has this name; imported without one",
    "username-taken": "somebody else has this name here; imported without one",
    "long-name": f"a name of more than {LONGEST_NAME} characters; cut",
    "no-group-flag": "not said whether in the group; taken as no",
    "bad-join-date": "no date of joining; the time of the import instead",
    "changed-here": "not as it is here; left as it is here",
    "unknown-period": "a plan that is not sold here; not imported",
    "plan-shared": "a second plan for the same period; the first counts",
    "bad-price": f"a price that is not 1 to {HIGHEST_PRICE:,}; imported, but not on sale",
    "plan-changed-here": "a plan that is not as it is here; left as it is here",
    "no-customer": "a subscription of nobody; its hash is burnt, nobody becomes a member",
    "unknown-customer": "a customer without a row of their own; known by chat id alone",
    "no-plan": "a subscription without a plan of ours; a member without a plan",
    "plan-from-length": "a subscription without a plan of ours; the plan is that of its length",
    "bad-dates": "no time that was bought; its hash is burnt, nobody becomes a member",
    "hash-rewritten": "a hash spelled otherwise; burnt in its one form",
    "bad-hash": "no transaction hash; burnt as it is",
    "hash-shared": "a hash that bought for somebody else before; not a member, decide by hand",
    "hash-used-here": "a hash that bought for somebody else here; not a member, decide by hand",
    "hash-open-here": "a hash that is pending or held here; import again once it is decided",
    "sold-again": "a hash that has bought already; the later end does not count, decide by hand",
    "ended-in-group": "time is up, but still in the group; the next `pass expire` ends it",
    "paid-not-in-group": "time runs, but not in the group; `pass audit-group --fix` invites them",
}


@dataclass(frozen=True)
class Odd:
    """One row that was not what it should be: of which kind, which row, and what it holds."""

    kind: str
    row: str
    detail: str = ""


@dataclass(frozen=True)
class Person:
    """Somebody as they are to be entered."""

    chat_id: int
    telegram_username: str | None
    first_name: str
    last_name: str
    at_private_group: bool
    date_joined: datetime
    is_staff: bool


@dataclass(frozen=True)
class Offer:
    """A plan as it is to be entered. Price in whole USDT."""

    period: str
    price: int
    is_active: bool


@dataclass(frozen=True)
class Sale:
    """A payment that has bought. `spelled`: the hash as the original has it; `customer`: None for
    nobody; `end`: None when no time was bought; `period`: None when it is none of ours."""

    transaction_hash: str
    spelled: str
    customer: int | None
    is_registered: bool
    start: datetime
    end: datetime | None
    seconds: int
    period: str | None
    price: int
    at_private_group: bool


def read_user(raw: RawUser, now: datetime) -> tuple[Person | None, list[Odd]]:
    """Return a person as they are to be entered (None: they cannot be), and what was odd."""
    row = f"user {_shown(raw.chat_id)}"
    chat_id = _chat_id(raw.chat_id)
    if chat_id is None:
        return None, [Odd("bad-chat-id", row, _shown(raw.telegram_username))]
    odd = []
    username, kind = _username(raw.telegram_username)
    if kind:
        odd.append(Odd(kind, row, _shown(raw.telegram_username)))
    first, last = _name(raw.first_name), _name(raw.last_name)
    if len(first) > LONGEST_NAME or len(last) > LONGEST_NAME:
        odd.append(Odd("long-name", row, f"{first} {last}"))
    if raw.at_private_group is None:
        odd.append(Odd("no-group-flag", row))
    joined = _moment(raw.date_joined)
    if joined is None:
        odd.append(Odd("bad-join-date", row, _shown(raw.date_joined)))
    return Person(
        chat_id,
        username,
        first[:LONGEST_NAME],
        last[:LONGEST_NAME],
        _flag(raw.at_private_group),
        joined or now,
        _flag(raw.is_staff),
    ), odd


def read_plan(raw: RawPlan) -> tuple[Offer | None, list[Odd]]:
    """Return a plan as it is to be entered (None: it cannot be), and what was odd."""
    row = f"plan {_shown(raw.period)}"
    period = _period(raw.period)
    if period is None:
        return None, [Odd("unknown-period", row, f"{_shown(raw.price)} USDT")]
    price = _whole(raw.price)
    if not 0 < price <= HIGHEST_PRICE:
        odd = [Odd("bad-price", row, f"{_shown(raw.price)} USDT")]
        return Offer(period, min(max(price, 1), HIGHEST_PRICE), is_active=False), odd
    return Offer(period, price, is_active=True), []


def read_sale(raw: RawSale, now: datetime) -> tuple[Sale, list[Odd]]:
    """Return what was bought with a hash, and what was odd."""
    spelled = _clean(raw.transaction_hash)
    row = f"subscription {spelled or 'without a hash'}"
    customer = _chat_id(raw.customer_id)
    burnt = _hash(spelled)
    odd_hash = "" if burnt == raw.transaction_hash else "hash-rewritten" if burnt else "bad-hash"
    start, end, seconds = _times(raw)
    named = _period(raw.period)
    period = named or _period_of(seconds)
    kinds = {
        odd_hash: burnt or "",
        "no-customer" if customer is None else "": _shown(raw.customer_id),
        "unknown-customer" if customer and raw.known is None else "": f"user {customer}",
        "no-plan" if period is None else "": _shown(raw.period),
        "plan-from-length" if period and not named else "": f"{_shown(raw.period)}: {period}",
        "bad-dates" if end is None else "": f"{_shown(raw.start_date)}, {_shown(raw.end_date)}",
    }
    sale = Sale(
        burnt or _as_it_is(spelled, customer),
        spelled,
        customer,
        raw.known is not None,
        start or now,
        end,
        seconds,
        period,
        _whole(raw.price),
        _flag(raw.at_private_group),
    )
    return sale, [Odd(kind, row, detail) for kind, detail in kinds.items() if kind]


# A hash as people and forms decorate it: `0x…`, a link, with words or parameters behind. The
# original sent whatever it was given to Tronscan, so each of these has bought.
_WITHIN = re.compile(r"(?<![0-9a-f])(?:0x)?([0-9a-f]{64})(?![0-9a-f])", re.ASCII | re.IGNORECASE)


def _hash(spelled: str) -> str | None:
    """Return the hash in the form in which it is burnt; None when there is none in it."""
    try:
        return parse_hash(spelled)
    except Invalid:
        within = _WITHIN.search(unquote(spelled))
        return within[1].lower() if within else None


def _as_it_is(spelled: str, customer: int | None) -> str:
    """What is no hash stands for itself, unless it is nothing or looks like our own grants."""
    ours = not spelled or spelled.startswith(("grant-", "import-"))
    return f"import-{customer}-{spelled}" if ours else spelled


def _times(raw: RawSale) -> tuple[datetime | None, datetime | None, int]:
    """Return start, end and seconds; end is None unless they make sense. The end rules, then the
    duration, then the plan."""
    start, end = _moment(raw.start_date), _moment(raw.end_date)
    duration = _duration(raw.seconds) or PERIODS.get(_period(raw.period) or "")
    if start is None and end is not None and duration:
        start = end - duration
    if start is not None and end is None and duration:
        end = start + duration
    if start is None or end is None or end <= start:
        return start, None, int(duration.total_seconds()) if duration else 0
    return start, end, max(int((duration or end - start).total_seconds()), 1)


def _period_of(seconds: int) -> str | None:
    lengths = {int(length.total_seconds()): period for period, length in PERIODS.items()}
    return lengths.get(seconds)


def _chat_id(value: Any) -> int | None:
    try:
        return parse_chat_id(value)
    except Invalid:
        return None


def _username(value: Any) -> tuple[str | None, str]:
    text = _clean(value)
    try:
        bare = parse_username(text)
    except Invalid:
        return None, "bad-username"
    return bare, "" if bare == value else "username-rewritten"


def _period(value: Any) -> str | None:
    try:
        return parse_period(_clean(value))
    except BuffettsbotError:
        return None


def _moment(value: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(_clean(value))
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        moment = moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return moment if 1970 <= moment.year < 3000 else None


def _duration(value: Any) -> timedelta | None:
    try:
        length = timedelta(seconds=float(value))
    except (TypeError, ValueError, OverflowError):
        return None
    return length if timedelta(seconds=1) <= length < timedelta(days=100 * 365) else None


def _whole(value: Any) -> int:
    try:
        return min(max(int(value), 0), HIGHEST_PRICE + 1)
    except (TypeError, ValueError, OverflowError):
        return 0


def _flag(value: Any) -> bool:
    return str(value).lower() in ("true", "1", "t")


def _name(value: Any) -> str:
    return _clean(value)


def _clean(value: Any) -> str:
    """Return a value as text that every database holds."""
    if value is None:
        return ""
    return str(value).replace("\0", "").encode("utf-8", "replace").decode().strip()


def _shown(value: Any) -> str:
    return "NULL" if value is None else repr(value)[:80] if isinstance(value, str) else str(value)


def kinds_in_order(odd: list[Odd]) -> Iterator[tuple[str, list[Odd]]]:
    """Yield each kind that occurs, and its rows."""
    for kind in KINDS:
        rows = [one for one in odd if one.kind == kind]
        if rows:
            yield kind, rows
