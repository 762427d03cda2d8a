"""What is told and under which key, letter by letter.

The key is what lets a notice be told once, so an upgrade must write the same: these rows are those
of the first release (906a11e), on both databases. Its SQL wrote six digits of microseconds always.
"""

import secrets
from datetime import datetime, timedelta
from typing import Any

import pytest
from helpers import (
    DAY,
    EXPECTATION,
    MINUTE,
    NOW,
    buy,
    fake_chain,
    hash_of,
    paid,
    person,
    rows,
    shop,
    staff,
)

from buffettsbot.core.ledger.claims import claim
from buffettsbot.core.ledger.settle import settle
from buffettsbot.core.members import grants
from buffettsbot.core.members.expiry import expire
from buffettsbot.core.members.memberships import running_member
from buffettsbot.core.members.reminders import due_reminders, remind
from buffettsbot.core.outbox.staff import raise_alarm
from buffettsbot.core.storage.audit import By
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import SUBSCRIPTION, Outbox
from buffettsbot.core.telegram import belonging

Told = dict[str, tuple[str, int, dict[str, Any]]]

END = NOW + 30 * DAY
WHOLE, ODD = "2026-03-31T12:00:00.000000+00:00", "2026-03-31T12:00:00.000120+00:00"
ANN: dict[str, Any] = {
    "chat_id": 7,
    "telegram_username": "ann",
    "first_name": 'Ann "✓" \\',
    "last_name": "Example",
    "plan": "1 month",
    "price": 50,
    "transaction_hash": hash_of(7),
    "start_date": "2026-03-01T12:00:00.000000+00:00",
    "end_date": WHOLE,
}
BEN: dict[str, Any] = ANN | {  # no name, and times with microseconds
    "chat_id": 8,
    "telegram_username": None,
    "first_name": "",
    "last_name": "",
    "transaction_hash": hash_of(8),
    "start_date": "2026-03-01T12:00:00.000120+00:00",
    "end_date": ODD,
}
EVE: dict[str, Any] = ANN | {  # a grant from when nothing was on sale: no plan
    "chat_id": 9,
    "telegram_username": "eve",
    "first_name": "",
    "last_name": "",
    "plan": None,
    "price": None,
    "transaction_hash": "grant-00c0ffee00c0ffee",
}


@pytest.fixture
def club(db: Database) -> Database:
    """Ann, Ben and Eve are members, 900 and 901 are admins."""
    staff(db, 900, 901)
    plan = shop(db)
    person(db, 7, "ann", first_name=ANN["first_name"], last_name="Example")
    person(db, 8, None)
    person(db, 9, "eve")
    enter(db, 7, hash_of(7), plan.id)
    enter(db, 8, hash_of(8), plan.id, timedelta(microseconds=120))
    enter(db, 9, EVE["transaction_hash"], None)
    return db


def enter(
    db: Database, chat_id: int, name: str, plan: int | None, later: timedelta = timedelta(0)
) -> None:
    with db.begin() as session:
        session.execute(
            SUBSCRIPTION.insert().values(
                transaction_hash=name,
                customer_id=chat_id,
                plan_id=plan,
                start_date=NOW + later,
                end_date=END + later,
                duration=30 * 86400,
            )
        )


def told(db: Database, *kinds: str) -> Told:
    """What the outbox holds by its keys, but for the digests, whose keys are random."""
    found = [row for row in rows(db, Outbox) if not row.kind.startswith("digest-")]
    assert {(row.status, row.attempts, row.leased_until) for row in found} == {("queued", 0, None)}
    assert all(row.not_before == row.created_at for row in found)
    return {
        row.key: (row.kind, row.chat_id, row.payload)
        for row in found
        if not kinds or row.kind in kinds
    }


def to_admins(kind: str, about: str, payload: dict[str, Any]) -> Told:
    return {f"{kind}:{about}:{admin}": (kind, admin, payload) for admin in (900, 901)}


def test_reminders(club: Database) -> None:
    moment = END - 2 * DAY
    assert len(list(due_reminders(club, now=moment, days=(7, 3, 1)))) == 3
    remind(club, now=moment, days=(7, 3, 1))
    assert told(club) == {
        f"{kind}:{who['chat_id']}:{who['end_date']}:3": (kind, who["chat_id"], who | {"days": 3})
        for who in (ANN, BEN, EVE)
        for kind in ("reminder", "reminder-details")
    }
    assert {row.created_at for row in rows(club, Outbox)} == {moment}
    assert list(due_reminders(club, now=moment, days=(7, 3, 1))) == []


def test_what_was_told_before_the_upgrade_is_not_told_again(club: Database) -> None:
    """The condition in SQL reads the very keys that are written from Python."""
    with club.begin() as session:
        session.execute(
            Outbox.__table__.insert(),  # type: ignore[attr-defined]
            [
                {
                    "key": f"reminder:{chat}:{end}:3",
                    "kind": "reminder",
                    "chat_id": chat,
                    "payload": {},
                    "status": "sent",
                    "attempts": 1,
                    "not_before": NOW,
                    "created_at": NOW,
                }
                for chat, end in ((7, WHOLE), (8, ODD))
            ],
        )
    moment = END - 2 * DAY
    assert [m.chat_id for m, _ in due_reminders(club, now=moment, days=(7, 3, 1))] == [9]
    assert remind(club, now=moment, days=(7, 3, 1)).done == 1


@pytest.mark.parametrize("group", [True, False])
def test_the_end(club: Database, group: bool) -> None:
    assert expire(club, now=END + MINUTE, guard=1, group=group).done == 3
    expected: Told = {}
    for who in (ANN, BEN, EVE):
        about = f"{who['chat_id']}:{who['end_date']}"
        if group:
            expected[f"remove:{about}"] = ("remove", who["chat_id"], who)
        expected[f"expired:{about}"] = ("expired", who["chat_id"], who)
        expected |= to_admins("admin-delete", about, who | {"by_itself": group})
    assert told(club) == expected


def test_a_revocation(club: Database) -> None:
    by = By("olga", NOW + 5 * DAY)
    seen = running_member(club, 8, now=by.now)
    grants.revoke(club, member=seen, reason="rude", by=by, group=True)
    now = "2026-03-06T12:00:00.000000+00:00"
    who = BEN | {"end_date": now}
    assert told(club) == {
        f"remove:8:{now}": ("remove", 8, who),
        f"expired:8:{now}": ("expired", 8, who),
        **to_admins("admin-delete", f"8:{now}", who | {"by_itself": True}),
    }


def test_an_invitation_by_the_audit_of_the_group(club: Database) -> None:
    people = [one for one in belonging.people(club, 0, 9, now=NOW) if one.chat_id < 900]
    assert [one.invited for one in people] == [False, False, False]
    assert [belonging.invite(club, one, now=NOW) for one in people] == [True, True, True]
    assert [belonging.invite(club, one, now=NOW) for one in people] == [False, False, False]
    assert told(club) == {
        f"invitation:{who['chat_id']}:{who['end_date']}": ("invitation", who["chat_id"], who)
        for who in (ANN, BEN, EVE)
    }
    assert all(one.invited for one in belonging.people(club, 0, 9, now=NOW) if one.chat_id < 900)


def test_grants(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    staff(db, 900, 901)
    shop(db)
    person(db, 8, None)
    person(db, 7, "ann", first_name="Ann")
    names = iter(("aaaa000011112222", "bbbb000011112222", "cccc000011112222"))
    monkeypatch.setattr(secrets, "token_hex", lambda _: next(names))
    odd = NOW + timedelta(microseconds=120)
    for who, moment in ((8, NOW), (7, odd), (7, NOW + DAY)):
        grants.grant(db, person=who, days=10, reason="a gift", by=By("olga", moment))
    ann = {"chat_id": 7, "telegram_username": "ann", "first_name": "Ann", "last_name": ""}
    grants_of: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("welcome", "admin-add", ann | {
            "chat_id": 8, "telegram_username": None, "first_name": "",
            "transaction_hash": "grant-aaaa000011112222",
            "start_date": "2026-03-01T12:00:00+00:00", "end_date": "2026-03-11T12:00:00+00:00",
        }),
        ("welcome", "admin-add", ann | {
            "transaction_hash": "grant-bbbb000011112222",
            "start_date": "2026-03-01T12:00:00.000120+00:00",
            "end_date": "2026-03-11T12:00:00.000120+00:00",
        }),
        ("renewal", "admin-keep", ann | {
            "transaction_hash": "grant-cccc000011112222",
            "start_date": "2026-03-02T12:00:00+00:00",
            "end_date": "2026-03-21T12:00:00.000120+00:00",
        }),
    )  # fmt: skip
    expected: Told = {}
    for kind, staff_kind, payload in grants_of:
        about = payload["transaction_hash"]
        expected[f"{kind}:{about}"] = (kind, payload["chat_id"], payload)
        expected |= to_admins(staff_kind, about, payload)
    assert told(db) == expected


def accepted(who: dict[str, Any], number: int, start: str, end: str) -> dict[str, Any]:
    return who | {
        "transaction_hash": hash_of(number),
        "reason": "accepted",
        "start_date": start,
        "end_date": end,
    }


def test_payments_that_are_accepted(db: Database) -> None:
    staff(db, 900, 901)
    shop(db)
    person(db, 7, "ann", first_name="Ann", last_name="Example")
    ann = ANN | {"first_name": "Ann"}
    buy(db, hash_of(70))
    buy(db, hash_of(71), now=NOW + timedelta(microseconds=120))
    first = accepted(ann, 70, "2026-03-01T12:00:00+00:00", "2026-03-31T12:00:00+00:00")
    second = accepted(ann, 71, "2026-03-01T12:00:00.000120+00:00", "2026-04-30T12:00:00+00:00")
    assert told(db) == {
        "welcome:1:2026-03-01T12:00:00+00:00": ("welcome", 7, first),
        **to_admins("admin-add", "1:2026-03-01T12:00:00+00:00", first),
        "renewal:2:2026-03-01T12:00:00.000120+00:00": ("renewal", 7, second),
        **to_admins("admin-keep", "2:2026-03-01T12:00:00.000120+00:00", second),
    }


def test_payments_that_are_not(db: Database) -> None:
    staff(db, 900, 901)
    shop(db)
    person(db, 8, None)
    late: datetime = NOW + timedelta(microseconds=120)
    chain = fake_chain({hash_of(80): paid(hash_of(80), "49", at=NOW - MINUTE)})
    wanted: dict[str, Any] = {"person": 8, "period": "1 month"}
    claim(db, None, EXPECTATION, **wanted, transaction_hash=hash_of(80), now=NOW)
    claim(db, fake_chain({}), EXPECTATION, **wanted, transaction_hash=hash_of(81), now=late)
    settle(db, chain, EXPECTATION, now=NOW + MINUTE)
    none = BEN | {"start_date": None, "end_date": None}
    pending = none | {"transaction_hash": hash_of(81), "reason": "not-found"}
    refused = none | {"transaction_hash": hash_of(80), "reason": "underpaid", "amount": "49"}
    refused["start_date"] = "2026-03-01T12:01:00+00:00"
    about = "1:2026-03-01T12:00:00+00:00"
    assert told(db) == {
        "payment-pending:2:2026-03-01T12:00:00.000120+00:00": ("payment-pending", 8, pending),
        f"payment-refused:{about}": ("payment-refused", 8, refused),
        **to_admins("admin-refused", about, refused),
    }


def test_an_alarm(db: Database) -> None:
    staff(db, 900, 901)
    raise_alarm(db, unit="a.service", error="broken", now=NOW)
    payload = {"pass": "a.service", "error": "broken"}
    assert told(db) == to_admins("pass-failed", "a.service:2026-03-01T12", payload)
