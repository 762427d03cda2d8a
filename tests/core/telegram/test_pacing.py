"""The rest that each chat gets between two messages."""

from types import SimpleNamespace

import pytest

from buffettsbot.core.telegram import pacing
from buffettsbot.core.telegram.pacing import Chats


class Seconds:
    """A clock of seconds that the test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(pacing, "time", SimpleNamespace(monotonic=lambda: self.now))


def test_a_person_rests_a_second_a_group_three(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, chats = Seconds(monkeypatch), Chats()
    assert chats.resting() == []
    chats.take([7, -7])
    assert sorted(chats.resting()) == [-7, 7]
    chats.rest(7)
    chats.rest(-7)
    assert chats.seconds_until_free([7, -7]) == 1.0
    assert chats.seconds_until_free([-7]) == 3.0
    clock.now += 1.0
    assert chats.resting() == [-7]
    assert chats.seconds_until_free([7, -7]) == 0.0
    clock.now += 2.0
    assert chats.resting() == []


def test_a_chat_that_was_sent_nothing_need_not_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    _, chats = Seconds(monkeypatch), Chats()
    chats.take([7, 8])
    chats.free(7)
    assert chats.resting() == [8]
