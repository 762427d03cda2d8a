"""The remind pass, on both databases: promise 5, everyone due is told once."""

import json
import threading
from datetime import timedelta
from typing import Any

import pytest
from helpers import DAY, MINUTE, NOW, buy, hash_of, in_parallel, member, person, rows, shop, staff
from sqlalchemy import update
from sqlmodel import col

from buffettsbot.core.members import reminders
from buffettsbot.core.members import spans as sweeps
from buffettsbot.core.members.reminders import due_reminders, remind
from buffettsbot.core.outbox.queue import queue_all
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import Outbox

DAYS = (7, 3, 1)
END = NOW + 30 * DAY


def told(db: Database, chat_id: int = 7) -> list[int]:
    """The thresholds of the reminders a chat was sent, in order."""
    return [
        row.payload["days"]
        for row in rows(db, Outbox)
        if row.kind == "reminder" and row.chat_id == chat_id
    ]


def test_whoever_ends_within_a_threshold_is_told_with_picture_and_details(db: Database) -> None:
    member(db)
    report = remind(db, now=END - 7 * DAY, days=DAYS)
    assert report.summary() == {
        "pass": "remind",
        "due": 1,
        "done": 1,
        "skipped": 0,
        "failed": 0,
        "dry_run": False,
    }
    picture, details = [row for row in rows(db, Outbox) if row.kind.startswith("reminder")]
    assert (picture.kind, details.kind) == ("reminder", "reminder-details")
    assert picture.chat_id == 7
    assert picture.status == "queued"
    assert picture.payload == {
        "chat_id": 7,
        "telegram_username": "ann",
        "first_name": "",
        "last_name": "",
        "plan": "1 month",
        "price": 50,
        "transaction_hash": hash_of(7),
        "start_date": NOW.isoformat(timespec="microseconds"),
        "end_date": END.isoformat(timespec="microseconds"),
        "days": 7,
    }


@pytest.mark.parametrize(
    ("left", "days"),
    [
        (7 * DAY + timedelta(microseconds=1), []),
        (7 * DAY, [7]),
        (3 * DAY + timedelta(microseconds=1), [7]),
        (3 * DAY, [3]),
        (1 * DAY, [1]),
        (MINUTE, [1]),
        (timedelta(0), []),
    ],
)
def test_the_right_reminder_is_that_of_the_smallest_threshold(
    db: Database, left: timedelta, days: list[int]
) -> None:
    member(db)
    remind(db, now=END - left, days=DAYS)
    assert told(db) == days


def test_each_threshold_tells_once_however_often_the_pass_runs(db: Database) -> None:
    member(db)
    for hours in range(8 * 24, -2, -6):
        remind(db, now=END - timedelta(hours=hours), days=DAYS)
    assert told(db) == [7, 3, 1]


def test_after_days_of_downtime_the_one_right_reminder_is_sent(db: Database) -> None:
    member(db)
    remind(db, now=END - 2 * DAY, days=DAYS)
    assert told(db) == [3]


def test_a_renewal_cancels_what_is_queued_and_the_new_end_is_reminded_again(db: Database) -> None:
    member(db)
    remind(db, now=END - 2 * DAY, days=DAYS)
    buy(db, hash_of(99), now=END - DAY)
    reminders = [row for row in rows(db, Outbox) if row.kind.startswith("reminder")]
    assert [row.status for row in reminders] == ["cancelled", "cancelled"]
    remind(db, now=END, days=DAYS)
    assert told(db) == [3]
    remind(db, now=END + 30 * DAY - 2 * DAY, days=DAYS)
    assert told(db) == [3, 3]


def test_what_was_sent_already_is_not_cancelled(db: Database) -> None:
    member(db)
    remind(db, now=END - 2 * DAY, days=DAYS)
    with db.begin() as session:
        session.execute(update(Outbox).where(col(Outbox.kind) == "reminder").values(status="sent"))
    buy(db, hash_of(99), now=END - DAY)
    statuses = {row.kind: row.status for row in rows(db, Outbox) if row.kind.startswith("rem")}
    assert statuses == {"reminder": "sent", "reminder-details": "cancelled"}


def test_two_processes_at_once_do_not_tell_twice(db: Database) -> None:
    shop(db)
    for chat_id in range(100, 140):
        member(db, chat_id, f"user{chat_id}")
    reports = in_parallel(4, lambda _: remind(db, now=END - DAY, days=DAYS))
    assert sum(report.done for report in reports) == 40
    assert len([row for row in rows(db, Outbox) if row.kind == "reminder"]) == 40


def test_the_spans_leave_nobody_out(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeps, "SPAN", 3)
    for chat_id in range(100, 111):
        member(db, chat_id, f"user{chat_id}")  # all with the same end: the key breaks the tie
    assert remind(db, now=END - DAY, days=DAYS).done == 11


def test_a_limit_stops_early_and_limited_runs_get_to_the_end(db: Database) -> None:
    for chat_id in range(100, 105):
        member(db, chat_id, f"user{chat_id}")
    now = END - DAY
    done = [remind(db, now=now, days=DAYS, limit=2).done for _ in range(4)]
    assert done == [2, 2, 1, 0]
    assert {chat: told(db, chat) for chat in range(100, 105)} == dict.fromkeys(range(100, 105), [1])


def test_the_admins_hear_of_it_once_a_run(db: Database) -> None:
    staff(db, 900, 901)
    member(db)
    remind(db, now=END - DAY, days=DAYS)
    remind(db, now=END - DAY + MINUTE, days=DAYS)
    digests = [row for row in rows(db, Outbox) if row.kind == "digest-remind"]
    assert sorted(row.chat_id for row in digests) == [900, 901]
    person = {"chat_id": 7, "telegram_username": "ann", "first_name": "", "last_name": ""}
    ends = {"end_date": END.isoformat(timespec="microseconds")}
    assert digests[0].payload == {"told": 1, "by_days": {"1": 1}, "people": [person | ends]}


def test_the_digest_names_twenty_people_however_many_there_are(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeps, "SPAN", 8)
    staff(db, 900)
    for chat_id in range(100, 125):
        member(db, chat_id, f"user{chat_id}")
    assert remind(db, now=END - DAY, days=DAYS).done == 25
    (digest,) = [row for row in rows(db, Outbox) if row.kind == "digest-remind"]
    named = [one["chat_id"] for one in digest.payload["people"]]
    assert (digest.payload["told"], named) == (25, list(range(100, 120)))


def test_a_rehearsal_shows_who_is_due_and_changes_nothing(db: Database) -> None:
    member(db)
    member(db, 8, "ben")
    before = len(rows(db, Outbox))
    due = list(due_reminders(db, now=END - 2 * DAY, days=DAYS))
    assert [(one.chat_id, days) for one, days in due] == [(7, 3), (8, 3)]
    assert len(rows(db, Outbox)) == before
    remind(db, now=END - 2 * DAY, days=DAYS)
    assert list(due_reminders(db, now=END - 2 * DAY, days=DAYS)) == []


def test_names_of_every_kind_survive_the_database_s_json(db: Database) -> None:
    odd = 'Зоя "quote" \\ back \n line 🟢 </b> \x01'
    person(db, 7, "ann", first_name=odd)
    shop(db)
    buy(db, hash_of(7))
    remind(db, now=END - DAY, days=DAYS)
    (row,) = [row for row in rows(db, Outbox) if row.kind == "reminder"]
    assert row.payload["first_name"] == odd
    assert json.loads(json.dumps(row.payload)) == row.payload


def test_a_renewal_while_reminders_are_queued_takes_its_own_back(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    member(db)
    moment = END - DAY / 2
    renewals: list[threading.Thread] = []

    def renewed_meanwhile(*args: Any, **kwargs: Any) -> int:
        queued = queue_all(*args, **kwargs)
        if not renewals:
            renewals.append(threading.Thread(target=lambda: buy(db, hash_of(60), now=moment)))
            renewals[0].start()
            renewals[0].join(0.5)  # it has to wait until the reminders are there to be taken back
        return queued

    monkeypatch.setattr(reminders, "queue_all", renewed_meanwhile)
    remind(db, now=moment, days=DAYS)
    renewals[0].join()
    left = [row.kind for row in rows(db, Outbox) if row.status == "queued" and row.chat_id == 7]
    assert left == ["welcome", "renewal"]
