"""Where the original and this system both sold to one customer, paid days are never lost."""

from datetime import datetime
from typing import Any

import pytest
from helpers import DAY, NOW

from buffettsbot.core.from_django.merge import Membership, merged


def day(number: int) -> datetime:
    return NOW + number * DAY


@pytest.mark.parametrize(
    ("standing", "start", "end", "expected"),
    [
        (None, 0, 30, 30),
        ({"start": -20, "end": 10}, 0, 30, 30),  # the original's renewal: its own end
        ({"start": -20, "end": 10}, -5, 5, 10),  # never back
        ({"start": -40, "end": -10}, 0, 30, 30),  # ended long before
        ({"start": 0, "end": 30, "imported": False}, -20, 10, 40),  # bought here meanwhile
        ({"start": -5, "end": 30, "imported": False}, 0, 30, 60),  # and there once more
        ({"start": 0, "end": 60, "imported": False, "renewed": True}, -5, 25, 90),
        ({"start": 0, "end": 30, "imported": False}, -40, -10, 30),  # over before it began here
        ({"start": -20, "end": 40, "expired": 1, "imported": False}, 2, 32, 32),  # revoked
        ({"start": -20, "end": 1, "expired": 1}, 0, 30, 30),  # expired here, renewed there
    ],
)
def test_paid_days_are_never_lost(
    standing: dict[str, Any] | None, start: int, end: int, expected: int
) -> None:
    bought = Membership("there", 1, day(start), day(end), 1)
    here = None
    if standing is not None:
        ended = standing.get("expired")
        here = Membership(
            "here",
            1,
            day(standing["start"]),
            day(standing["end"]),
            1,
            None if ended is None else day(ended),
            standing.get("imported", True),
            standing.get("renewed", False),
        )
    result = merged(here, bought)
    assert result.end_date == day(expected)
    assert result is here or result.expired_at is None
