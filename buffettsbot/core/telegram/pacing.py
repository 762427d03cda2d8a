"""Telegram's speed: 30 calls a second, one a second to a chat, and the pauses that it asks for.

A pause holds for everyone, on any host: it is kept as a lease in the database.
"""

import threading
import time
from collections import deque
from collections.abc import Iterable
from datetime import datetime, timedelta

from buffettsbot.core.storage import leases
from buffettsbot.core.storage.database import Database

PAUSE = "telegram-pause"
LONGEST_WAIT = 30.0  # seconds; whoever is asked for more does not wait for it
CALLS_A_SECOND = 30
SECOND = 1.04  # a little long: calls may be under way for different times
STEP = SECOND / CALLS_A_SECOND
CHAT_SECONDS = 1.0  # between two messages to a person
GROUP_SECONDS = 3.0  # and to a group, which takes 20 a minute


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


class Chats:
    """Which chats may be written to, for all threads: one message at a time, then a rest."""

    def __init__(self) -> None:
        self._busy: set[int] = set()
        self._free_at: dict[int, float] = {}
        self._lock = threading.Lock()

    def take(self, chats: Iterable[int]) -> None:
        """Something is under way to these."""
        with self._lock:
            self._busy.update(chats)

    def free(self, chat_id: int) -> None:
        """Nothing was sent to this one after all."""
        with self._lock:
            self._busy.discard(chat_id)

    def rest(self, chat_id: int) -> None:
        """Something was sent to this one: nothing more before its rest is over."""
        seconds = CHAT_SECONDS if chat_id > 0 else GROUP_SECONDS
        with self._lock:
            self._busy.discard(chat_id)
            self._free_at[chat_id] = time.monotonic() + seconds

    def resting(self) -> list[int]:
        """Return those that may not be written to now."""
        with self._lock:
            now = time.monotonic()
            self._free_at = {chat: at for chat, at in self._free_at.items() if at > now}
            return [*self._busy, *self._free_at]

    def seconds_until_free(self, chats: Iterable[int]) -> float:
        """Return the seconds until one of these, to none of which anything is under way, is free;
        0 when one is."""
        with self._lock:
            now = time.monotonic()
            return max(0.0, min(self._free_at.get(chat, now) for chat in chats) - now)


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
