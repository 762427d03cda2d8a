"""The roll call: Telegram is asked about each person the database knows, at its speed.

It gives bots no list of members. A pause that it wants is waited for, unless it is a long one; one
person about whom it says nothing stops nobody, several in a row are trouble for all.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from buffettsbot.core.storage.database import Database
from buffettsbot.core.telegram import belonging, group
from buffettsbot.core.telegram.bot import Misconfigured, Telegram, TelegramError, Throttled, Trouble
from buffettsbot.core.telegram.group import Presence
from buffettsbot.core.telegram.pacing import LONGEST_WAIT, Pacer, pause_everyone, pause_left

CHUNK = 60
WORKERS = 16
MOST_PAUSES = 5
TROUBLES_IN_A_ROW = 5

Answer = TypeVar("Answer")


@dataclass
class RollCall:
    """One roll call. `clock`: the time, aware."""

    db: Database
    telegram: Telegram
    clock: Callable[[], datetime]
    pacer: Pacer = field(default_factory=Pacer)

    def begin(self, *rights: str) -> None:
        """Wait out a pause that Telegram wanted of anybody, and see that the bot has its rights.

        Raises a TelegramError: Throttled when the pause is a long one, Misconfigured without the
        rights.
        """
        self._wait(pause_left(self.db, self.clock()))
        self._call(lambda: group.check_rights(self.telegram, *rights))

    def answers(self, now: datetime) -> Iterator[tuple[Any, Presence | TelegramError]]:
        """Yield each person as `belonging.people` does, with what Telegram says of them, or why it
        says nothing. Raises a TelegramError when it is no use to go on."""
        after = troubles = 0
        with ThreadPoolExecutor(WORKERS) as workers:
            while True:
                chunk = belonging.people(self.db, after, CHUNK, now=now)
                for person, answer in zip(chunk, workers.map(self._ask, chunk), strict=True):
                    if isinstance(answer, Trouble):
                        troubles += 1
                        if troubles >= TROUBLES_IN_A_ROW:
                            raise answer
                    else:
                        troubles = 0
                    yield person, answer
                if len(chunk) < CHUNK:
                    return
                after = chunk[-1].chat_id

    def _ask(self, person: Any) -> Presence | TelegramError:
        """Return what Telegram says of one person, or what is amiss with them alone.

        Raises Misconfigured, and Throttled when the pause is too long to wait for.
        """
        try:
            return self._call(lambda: group.look_up(self.telegram, person.chat_id))
        except (Misconfigured, Throttled):
            raise
        except TelegramError as error:
            return error

    def _call(self, call: Callable[[], Answer]) -> Answer:
        """Make a call in its turn, and again after each pause that Telegram wants."""
        for _ in range(MOST_PAUSES):
            self.pacer.turn()
            try:
                return call()
            except Throttled as error:
                pause_everyone(self.db, self.clock(), error.retry_after)
                self._wait(error.retry_after)
        self.pacer.turn()
        return call()

    def _wait(self, seconds: float) -> None:
        """Give no turn before so many seconds have passed. Raises Throttled for too many."""
        if seconds > LONGEST_WAIT:
            raise Throttled(seconds)
        self.pacer.pause(seconds)
