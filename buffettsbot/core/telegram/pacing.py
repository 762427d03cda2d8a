"""Telegram's speed: at most 30 calls a second, and the pauses that it asks for.

A pause holds for everyone, on any host: it is kept as a lease in the database.
"""

import threading
import time
from collections import deque
from datetime import datetime, timedelta

from buffettsbot.core.storage import leases
from buffettsbot.core.storage.database import Database

PAUSE = "telegram-pause"
LONGEST_WAIT = 30.0  # seconds; whoever is asked for more does not wait for it
CALLS_A_SECOND = 30
SECOND = 1.04  # a little long: calls may be under way for different times
STEP = SECOND / CALLS_A_SECOND


class Pacer:
    """Turns shared by all threads: evenly spaced, and whatever is late, never 31 in one second.

    Given at the moment they are used: turns that a busy machine uses late must not crowd the next,
    and only a step's delay is made up for.
    """

    def __init__(self) -> None:
        self._next = 0.0
        self._given: deque[float] = deque(maxlen=CALLS_A_SECOND)
        self._queue = threading.Lock()
        self._lock = threading.Lock()

    def turn(self) -> None:
        """Wait for this thread's turn. Nobody who sleeps here keeps a pause waiting."""
        with self._queue:
            while (left := self._take()) > 0:
                time.sleep(left)

    def _take(self) -> float:
        """Take the next turn if its time has come; else return the seconds until then."""
        with self._lock:
            if len(self._given) == CALLS_A_SECOND:
                self._next = max(self._next, self._given[0] + SECOND)
            now = time.monotonic()
            if self._next > now:
                return self._next - now
            self._given.append(now)
            self._next = max(self._next, now - STEP) + STEP
            return 0.0

    def pause(self, seconds: float) -> None:
        """Give no turn before so many seconds have passed."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)


def pause_left(db: Database, now: datetime) -> float:
    """Return for how many seconds from `now` on Telegram wants to be left alone."""
    until = leases.held_until(db, PAUSE)
    return 0.0 if until is None else max(0.0, (until - now).total_seconds())


def pause_everyone(db: Database, now: datetime, seconds: float) -> None:
    """Keep everyone from Telegram for so long: whoever comes next, on any host."""
    if pause_left(db, now) >= seconds:
        return
    until = now + timedelta(seconds=seconds)
    leases.take(db, PAUSE, holder="telegram", now=now, until=until)
