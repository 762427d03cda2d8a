"""When each pass is to run: the `schedule` library counts the minutes, the calendar says the day.

A daily pass is due in the first minute of a date that it has not run on. So a midnight that is
slept through, skipped or doubled by summer time costs nothing, and the first minute of all is now.
The library's own `.at("00:00", zone)` knows no such dates, and needs pytz.
"""

from collections.abc import Callable
from datetime import date, datetime
from zoneinfo import ZoneInfo

from schedule import Scheduler

EVERY_MINUTE = ("settle", "deliver")
DAILY = ("remind", "expire")
MINUTE = 60.0  # seconds


class Timetable:
    """Calls `start` with the name of each pass whose time has come; it may say no (False).

    `zone`: whose midnight begins a day. `clock`: the time, aware.
    """

    def __init__(
        self, start: Callable[[str], bool], *, zone: ZoneInfo, clock: Callable[[], datetime]
    ) -> None:
        self._start = start
        self._zone = zone
        self._clock = clock
        self._ran_on: dict[str, date] = {}
        self._scheduler = Scheduler()
        self._plan()

    def start_all(self) -> None:
        """Start every pass once: what was missed while nothing ran is caught up."""
        self._scheduler.run_all()

    def start_due(self) -> None:
        """Start what is due now."""
        if (self._scheduler.idle_seconds or 0.0) > MINUTE:
            self._plan()  # the clock was set back; the library would wait until it has caught up
        self._scheduler.run_pending()

    def let_run_again(self, name: str) -> None:
        """Let a daily pass that could not do its work have another minute of this day."""
        self._ran_on.pop(name, None)

    def _plan(self) -> None:
        self._scheduler.clear()
        for name in DAILY:
            self._scheduler.every().minute.at(":00").do(self._start_daily, name)
        for name in EVERY_MINUTE:
            self._scheduler.every().minute.at(":00").do(self._start, name)

    def _start_daily(self, name: str) -> None:
        today = self._clock().astimezone(self._zone).date()
        if self._ran_on.get(name) != today and self._start(name):
            self._ran_on[name] = today
