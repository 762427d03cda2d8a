"""The pace at which Telegram is called, and the pauses that it asks for."""

import threading
import time
from datetime import timedelta

import pytest
from helpers import NOW

from buffettsbot.core.storage.database import Database
from buffettsbot.core.telegram.pacing import Pacer, pause_everyone, pause_left


def test_a_pause_need_not_wait_for_those_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many calls are under way when Telegram wants a pause, and each of them hears of it: counted
    one after the other, their pauses would outlast every lease."""
    pacer, asleep, wake = Pacer(), threading.Event(), threading.Event()

    def sleep(_seconds: float) -> None:
        asleep.set()
        wake.wait(10)

    monkeypatch.setattr(time, "sleep", sleep)
    pacer.pause(0.01)
    waiting = threading.Thread(target=pacer.turn)
    waiting.start()
    assert asleep.wait(10)
    pausing = threading.Thread(target=pacer.pause, args=(0.01,))
    pausing.start()
    pausing.join(5)
    was_heard = not pausing.is_alive()
    wake.set()
    waiting.join()
    pausing.join()
    assert was_heard


def test_a_short_pause_does_not_end_a_long_one(db: Database) -> None:
    pause_everyone(db, NOW, 300)
    pause_everyone(db, NOW + timedelta(seconds=1), 2)
    assert pause_left(db, NOW) == 300
    pause_everyone(db, NOW + timedelta(seconds=301), 2)
    assert pause_left(db, NOW + timedelta(seconds=301)) == 2
