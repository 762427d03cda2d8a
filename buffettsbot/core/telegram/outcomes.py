"""What follows from one try to carry out an outbox row: for the row, the report and the run.

It succeeded, or Telegram wants a pause, or nothing will work until a person does something, or it
will never work for this chat, or it may work later. Nothing is lost but what can never succeed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from buffettsbot.core.telegram.bot import (
    Misconfigured,
    Refused,
    TelegramError,
    Throttled,
    Trouble,
)

FIRST_RETRY = timedelta(seconds=30)
SLOWEST_RETRY = timedelta(hours=1)
MOST_ATTEMPTS = 60


class Fate(StrEnum):
    """What becomes of a row: the status that it has afterwards."""

    SENT = "sent"
    FAILED = "failed"
    QUEUED = "queued"


@dataclass(frozen=True)
class Sequel:
    """What follows from one try.

    `values`: the columns of the row that change. `pause`: the seconds in which nobody may call
    Telegram. `cure`: what a person has to do before anything works. `is_trouble`: Telegram itself,
    or the way to it, is in trouble.
    """

    fate: Fate
    values: Mapping[str, Any]
    pause: float = 0.0
    cure: str | None = None
    is_trouble: bool = False


def follow(outcome: TelegramError | None, *, attempts: int, now: datetime) -> Sequel:
    """Given how a try ended (None: well) and how many there were before, return what follows."""
    if outcome is None:
        sent = {"status": Fate.SENT, "sent_at": now, "leased_until": None, "error": None}
        return Sequel(Fate.SENT, sent)
    if isinstance(outcome, Throttled):  # no fault of this row: the attempt does not count
        later = now + timedelta(seconds=outcome.retry_after)
        waits = {"not_before": later, "leased_until": None, "attempts": attempts}
        return Sequel(Fate.QUEUED, waits, pause=outcome.retry_after)
    if isinstance(outcome, Misconfigured):  # nor is this
        stays = {"leased_until": None, "attempts": attempts, "error": str(outcome)}
        return Sequel(Fate.QUEUED, stays, cure=str(outcome))
    is_trouble = isinstance(outcome, Trouble)
    if isinstance(outcome, Refused) or attempts + 1 >= MOST_ATTEMPTS:
        failed = {"status": Fate.FAILED, "leased_until": None, "error": str(outcome)}
        return Sequel(Fate.FAILED, failed, is_trouble=is_trouble)
    later = now + min(FIRST_RETRY * 2 ** min(attempts, 10), SLOWEST_RETRY)
    # A lease that is over and still stands says: this may have been sent already.
    lease = now if isinstance(outcome, Trouble) and outcome.sent else None
    again = {"not_before": later, "leased_until": lease, "error": str(outcome)}
    return Sequel(Fate.QUEUED, again, is_trouble=is_trouble)
