"""When each pass is to run: the `schedule` library counts the minutes, the calendar says the day.

The library's own `.at("00:00", zone)` is not used: it loses the day on which the host slept through
midnight, and it needs pytz. Here a daily pass is due in the first minute of a date that it has not
run on, so a midnight that is slept through, skipped or doubled by summer time costs nothing, and
the first minute of all is now.
"""

from collections.abc import Callable
from datetime import date, datetime
from zoneinfo import ZoneInfo

from schedule import Scheduler

EVERY_MINUTE = ("settle", "deliver")
DAILY = ("remind", "expire")
PASSES = (*DAILY, *EVERY_MINUTE)
MINUTE = 60.0


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

    def begin(self) -> None:
        """Start every pass once: what was missed while nothing ran is caught up."""
        self._scheduler.run_all()

    def run_due(self) -> None:
        """Start what is due now."""
        if (self._scheduler.idle_seconds or 0.0) > MINUTE:
            self._plan()  # the clock was set back; the library would wait until it has caught up
        self._scheduler.run_pending()

    @property
    def idle_seconds(self) -> float:
        """The seconds until something may be due, a minute at most; negative when it is already."""
        return min(self._scheduler.idle_seconds or 0.0, MINUTE)

    def again(self, name: str) -> None:
        """Let a daily pass that could not do its work have another minute of this day."""
        self._ran_on.pop(name, None)

    def _plan(self) -> None:
        self._scheduler.clear()
        for name in PASSES:
            job = self._start_daily if name in DAILY else self._start
            self._scheduler.every().minute.at(":00").do(job, name)

    def _start_daily(self, name: str) -> None:
        today = self._clock().astimezone(self._zone).date()
        if self._ran_on.get(name) != today and self._start(name):
            self._ran_on[name] = today
