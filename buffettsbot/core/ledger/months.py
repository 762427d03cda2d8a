"""The months that are shown, in the owner's zone, and what was counted in each.

A moment is a number here, in seconds since 1970: to read four million of them as datetimes takes
4 s more.
"""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, time
from itertools import dropwhile
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, Float, cast, extract


@dataclass
class Month:
    """A calendar month. `income` in micro-USDT of so many `payments`; `members` at its end, or now;
    of the paid periods that `ended` (and 14 days have passed), how many were `followed`."""

    first: date
    income: int = 0
    payments: int = 0
    joined: int = 0
    renewed: int = 0
    left: int = 0
    members: int = 0
    ended: int = 0
    followed: int = 0
    waiting: int = 0

    @property
    def renewal_rate(self) -> float | None:
        """The share of what ended that was followed; None when nothing ended."""
        return rate(self.followed, self.ended)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was counted in it."""
        return self == Month(self.first)


def rate(part: int, whole: int) -> float | None:
    """Return a share to four decimals, None of nothing."""
    return round(part / whole, 4) if whole else None


def seconds(moment: ColumnElement[Any]) -> ColumnElement[float]:
    """Return what selects a column's moment as a number; SQLite tells whole seconds."""
    return cast(extract("epoch", moment), Float)


def midnights(days: Iterable[date], zone: ZoneInfo) -> list[float]:
    """Return the moments at which these days begin in a zone."""
    return [datetime.combine(day, time(), zone).timestamp() for day in days]


class Months:
    """The last so many months, that of `today` included.

    All the time before them is counted as a month more, and so is all the time after them.
    """

    def __init__(self, today: date, number: int, zone: ZoneInfo) -> None:
        firsts = [_first(today, back) for back in range(number - 1, -2, -1)]
        self._begins = midnights(firsts, zone)
        self._shown = [Month(first) for first in firsts[:-1]]
        self.ever = [Month(date.min), *self._shown, Month(firsts[-1])]

    def at(self, moment: float) -> Month:
        """Return the month that a moment is in, to count something in it."""
        return self.ever[bisect_right(self._begins, moment)]

    def shown(self, members: int) -> list[Month]:
        """Return the months from the first in which anything happened; there are so many members
        now, from which those of each earlier month follow."""
        for month in reversed(self._shown):
            month.members = members
            members -= month.joined - month.left
        *earlier, this = self._shown
        return [*dropwhile(lambda month: month.is_empty, earlier), this]


def _first(day: date, back: int) -> date:
    """Return the first day of the month so many months before that of a day."""
    year, month = divmod(day.year * 12 + day.month - 1 - back, 12)
    return date(year, month + 1, 1)
