"""A value of the original as one that this system holds: pure, and total.

What cannot be read is None. A time without a zone is UTC, as Django stores it.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from buffettsbot.core.errors import BuffettsbotError, Invalid
from buffettsbot.core.hashes import GRANT, hashes_in
from buffettsbot.core.members.users import parse_chat_id, parse_username
from buffettsbot.core.offers.plans import HIGHEST_PRICE, parse_period
from buffettsbot.core.storage.models import PERIODS


def hash_in(spelled: str) -> str | None:
    """Return the hash in the form in which it is burnt; None when there is none in it.

    The original sent whatever it was given to Tronscan, so each of these spellings has bought.
    """
    return next(iter(hashes_in(spelled)), None)


def as_it_is(spelled: str, customer: int | None) -> str:
    """What is no hash stands for itself, unless it is nothing or looks like a name of our own."""
    ours = not spelled or spelled.startswith((GRANT, "import-"))
    return f"import-{customer}-{spelled}" if ours else spelled


def chat_id(value: Any) -> int | None:
    """Return a person's chat id."""
    try:
        return parse_chat_id(value)
    except Invalid:
        return None


def username(value: Any) -> str | None:
    """Return a username, bare."""
    try:
        return parse_username(clean(value))
    except Invalid:
        return None


def period(value: Any) -> str | None:
    """Return the period of ours that is meant."""
    try:
        return parse_period(clean(value))
    except BuffettsbotError:
        return None


def period_of_length(seconds: int) -> str | None:
    """Return the period of ours that is so long."""
    lengths = {int(length.total_seconds()): period for period, length in PERIODS.items()}
    return lengths.get(seconds)


def moment(value: Any) -> datetime | None:
    """Return a time of our days, in UTC."""
    try:
        read = datetime.fromisoformat(clean(value))
        read = read if read.tzinfo else read.replace(tzinfo=UTC)
        read = read.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return read if 1970 <= read.year < 3000 else None


def duration(value: Any) -> timedelta | None:
    """Return a length that somebody may have paid for, given in seconds."""
    try:
        length = timedelta(seconds=float(value))
    except (TypeError, ValueError, OverflowError):
        return None
    return length if timedelta(seconds=1) <= length < timedelta(days=100 * 365) else None


def price(value: Any) -> int:
    """Return a price in whole USDT; what is none, or too high, is just beyond 1 to the highest."""
    try:
        return min(max(int(value), 0), HIGHEST_PRICE + 1)
    except (TypeError, ValueError, OverflowError):
        return 0


def flag(value: Any) -> bool:
    """Return whether something is said to be so."""
    return str(value).lower() in ("true", "1", "t")


def clean(value: Any) -> str:
    """Return a value as text that every database holds."""
    if value is None:
        return ""
    return str(value).replace("\0", "").encode("utf-8", "replace").decode().strip()


def shown(value: Any) -> str:
    """Return a value as an oddity shows it."""
    if value is None:
        return "NULL"
    return repr(value)[:80] if isinstance(value, str) else str(value)
