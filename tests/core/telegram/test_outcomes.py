"""What follows from one try to carry out an outbox row."""

from datetime import timedelta

import pytest
from helpers import NOW

from buffettsbot.core.telegram.bot import (
    Migrated,
    Misconfigured,
    Refused,
    TelegramError,
    Throttled,
    Trouble,
)
from buffettsbot.core.telegram.outcomes import MOST_ATTEMPTS, Fate, Sequel, follow

LAST = MOST_ATTEMPTS - 1


def test_what_was_sent_is_done() -> None:
    sent = {"status": "sent", "sent_at": NOW, "leased_until": None, "error": None}
    assert follow(None, attempts=LAST, now=NOW) == Sequel(Fate.SENT, sent)


@pytest.mark.parametrize("attempts", [0, 7, LAST])
def test_a_pause_is_nobodys_fault_and_uses_up_no_attempt(attempts: int) -> None:
    later = NOW + timedelta(seconds=40)
    waits = {"not_before": later, "leased_until": None, "attempts": attempts}
    sequel = follow(Throttled(40.0), attempts=attempts, now=NOW)
    assert sequel == Sequel(Fate.QUEUED, waits, pause=40.0)


@pytest.mark.parametrize("attempts", [0, 7, LAST])
def test_what_a_person_has_to_fix_loses_nothing(attempts: int) -> None:
    stays = {"leased_until": None, "attempts": attempts, "error": "set the token"}
    sequel = follow(Misconfigured("set the token"), attempts=attempts, now=NOW)
    assert sequel == Sequel(Fate.QUEUED, stays, cure="set the token")


def test_whoever_refuses_is_never_tried_again() -> None:
    failed = {"status": "failed", "leased_until": None, "error": "bot was blocked"}
    assert follow(Refused("bot was blocked"), attempts=0, now=NOW) == Sequel(Fate.FAILED, failed)


@pytest.mark.parametrize(
    ("error", "lease"),
    [
        (Trouble("no answer", sent=True), NOW),  # it may have been sent: the lease says so
        (Trouble("status 500", sent=False), None),
        (Migrated(-5), None),
        (TelegramError("a bug"), None),
    ],
)
def test_other_trouble_is_tried_again_with_growing_delay_and_not_for_ever(
    error: TelegramError, lease: object
) -> None:
    is_trouble = isinstance(error, Trouble)
    for attempts, seconds in {0: 30, 1: 60, 2: 120, 6: 1920, 7: 3600, 40: 3600}.items():
        later = NOW + timedelta(seconds=seconds)
        again = {"not_before": later, "leased_until": lease, "error": str(error)}
        sequel = follow(error, attempts=attempts, now=NOW)
        assert sequel == Sequel(Fate.QUEUED, again, is_trouble=is_trouble), attempts
    failed = {"status": "failed", "leased_until": None, "error": str(error)}
    assert follow(error, attempts=LAST, now=NOW) == Sequel(
        Fate.FAILED, failed, is_trouble=is_trouble
    )
