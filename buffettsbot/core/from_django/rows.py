"""What a row of the original means here: pure, total, and every oddity named."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from buffettsbot.core.from_django import fields
from buffettsbot.core.from_django.fields import shown
from buffettsbot.core.from_django.oddities import Odd
from buffettsbot.core.from_django.source import RawPlan, RawSale, RawUser
from buffettsbot.core.members.users import LARGEST_ID, LONGEST_NAME
from buffettsbot.core.offers.plans import HIGHEST_PRICE
from buffettsbot.core.storage.models import PERIODS

# Whose hash it is when the original does not know: a chat id that Telegram gives to no one.
NOBODY = LARGEST_ID


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
    row = f"user {shown(raw.chat_id)}"
    chat_id = fields.chat_id(raw.chat_id)
    if chat_id is None:
        return None, [Odd("bad-chat-id", row, shown(raw.telegram_username))]
    odd = []
    username = fields.username(raw.telegram_username)
    if username is None:
        odd.append(Odd("bad-username", row, shown(raw.telegram_username)))
    elif username != raw.telegram_username:
        odd.append(Odd("username-rewritten", row, shown(raw.telegram_username)))
    first, last = fields.clean(raw.first_name), fields.clean(raw.last_name)
    if len(first) > LONGEST_NAME or len(last) > LONGEST_NAME:
        odd.append(Odd("long-name", row, f"{first} {last}"))
    if raw.at_private_group is None:
        odd.append(Odd("no-group-flag", row))
    joined = fields.moment(raw.date_joined)
    if joined is None:
        odd.append(Odd("bad-join-date", row, shown(raw.date_joined)))
    person = Person(
        chat_id,
        username,
        first[:LONGEST_NAME],
        last[:LONGEST_NAME],
        fields.flag(raw.at_private_group),
        joined or now,
        fields.flag(raw.is_staff),
    )
    return person, odd


def read_plan(raw: RawPlan) -> tuple[Offer | None, list[Odd]]:
    """Return a plan as it is to be entered (None: it cannot be), and what was odd."""
    row, asked = f"plan {shown(raw.period)}", f"{shown(raw.price)} USDT"
    period = fields.period(raw.period)
    if period is None:
        return None, [Odd("unknown-period", row, asked)]
    price = fields.price(raw.price)
    if 0 < price <= HIGHEST_PRICE:
        return Offer(period, price, is_active=True), []
    nearest = min(max(price, 1), HIGHEST_PRICE)
    return Offer(period, nearest, is_active=False), [Odd("bad-price", row, asked)]


def read_sale(raw: RawSale, now: datetime) -> tuple[Sale, list[Odd]]:
    """Return what was bought with a hash, and what was odd."""
    spelled = fields.clean(raw.transaction_hash)
    row = f"subscription {spelled or 'without a hash'}"
    odd = []
    burnt = fields.hash_in(spelled)
    if burnt != raw.transaction_hash:
        kind = "hash-rewritten" if burnt else "bad-hash"
        odd.append(Odd(kind, row, burnt or ""))
    customer = fields.chat_id(raw.customer_id)
    if customer is None:
        odd.append(Odd("no-customer", row, shown(raw.customer_id)))
    elif raw.known is None:
        odd.append(Odd("unknown-customer", row, f"user {customer}"))
    start, end, seconds = _times(raw)
    period = fields.period(raw.period)
    if period is None:
        period = fields.period_of_length(seconds)
        if period is None:
            odd.append(Odd("no-plan", row, shown(raw.period)))
        else:
            odd.append(Odd("plan-from-length", row, f"{shown(raw.period)}: {period}"))
    if end is None:
        odd.append(Odd("bad-dates", row, f"{shown(raw.start_date)}, {shown(raw.end_date)}"))
    sale = Sale(
        burnt or fields.as_it_is(spelled, customer),
        spelled,
        customer,
        raw.known is not None,
        start or now,
        end,
        seconds,
        period,
        fields.price(raw.price),
        fields.flag(raw.at_private_group),
    )
    return sale, odd


def _times(raw: RawSale) -> tuple[datetime | None, datetime | None, int]:
    """Return start, end and seconds; end is None unless they make sense. The end rules, then the
    duration, then the plan."""
    start, end = fields.moment(raw.start_date), fields.moment(raw.end_date)
    duration = fields.duration(raw.seconds) or PERIODS.get(fields.period(raw.period) or "")
    if start is None and end is not None and duration:
        start = end - duration
    if start is not None and end is None and duration:
        end = start + duration
    if start is None or end is None or end <= start:
        return start, None, _seconds(duration) if duration else 0
    return start, end, max(_seconds(duration or end - start), 1)


def _seconds(length: timedelta) -> int:
    return int(length.total_seconds())
