"""The audit log, on both databases: every change by a person, in the transaction that makes it."""

import csv
import io
import os
from collections.abc import Callable
from typing import Any

import pytest
from commands import Commands, InsideCommands
from helpers import (
    DAY,
    EXPECTATION,
    NOW,
    buy,
    fake_chain,
    hash_of,
    member,
    paid,
    person,
    rows,
    shop,
)
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlmodel import SQLModel

from buffettsbot.cli.shared.options import actor
from buffettsbot.core.errors import BuffettsbotError, Conflict, NotFound, Unavailable
from buffettsbot.core.ledger.claims import claim
from buffettsbot.core.ledger.decisions import decide_by_hand
from buffettsbot.core.members import grants, users
from buffettsbot.core.members.memberships import running_member
from buffettsbot.core.offers import plans
from buffettsbot.core.outbox import by_hand
from buffettsbot.core.storage.audit import By, list_audit
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import Audit

LATER = NOW + DAY
BY = By("olga", LATER)
SLOW = hash_of(1)


def claimed(db: Database, transaction_hash: str, by: By | None = BY, who: int = 7) -> Any:
    wanted = {"person": who, "period": "1 month", "transaction_hash": transaction_hash}
    chain = fake_chain({hash_of(60): paid(hash_of(60), "50", at=NOW)})
    return claim(db, chain, EXPECTATION, **wanted, now=LATER, by=by)  # type: ignore[arg-type]


def granted(db: Database) -> Any:
    return grants.grant(db, person=7, days=1, reason="a gift", by=BY)


def revoked(db: Database) -> None:
    seen = running_member(db, 7, now=LATER)
    grants.revoke(db, member=seen, reason="rude", by=BY, group=False)


def decided(db: Database) -> Any:
    told = {"transaction_hash": SLOW, "accept": False, "actor": "olga", "why": "not ours"}
    return decide_by_hand(db, **told, now=LATER)  # type: ignore[arg-type]


def registered(db: Database, chat_id: int, name: str, **names: str) -> Any:
    return users.register(db, chat_id=chat_id, telegram_username=name, **names, now=LATER, by=BY)


# Every change there is: what it does, and what the log says of it. Message 1 is Ann's welcome.
CHANGES: dict[str, tuple[Callable[[Database], Any], str, str]] = {
    "outbox cancel": (lambda db: by_hand.cancel_one(db, 1, by=BY), "1", "welcome for 7"),
    "plans create": (
        lambda db: plans.create_plan(db, period="1 year", price=400, by=BY),
        "1 year",
        "400 USDT",
    ),
    "users add": (lambda db: registered(db, 8, "Ben", last_name="X"), "8", "@Ben X"),
    "users promote": (lambda db: users.set_staff(db, 7, is_staff=True, by=BY), "7", "@ann"),
    "users demote": (lambda db: users.set_staff(db, 9, is_staff=False, by=BY), "9", "@boss"),
    "subscribers claim": (
        lambda db: claimed(db, hash_of(60)),
        "7",
        f"1 month for 50 USDT, {hash_of(60)}",
    ),
    "subscribers grant": (granted, "7", "a gift (1 day, "),
    "subscribers revoke": (revoked, "7", "rude (ended "),
    "payments reject": (decided, SLOW, "not ours"),
    "plans set-price": (
        lambda db: plans.set_price(db, period="1 month", price=60, by=BY),
        "1 month",
        "from 50 to 60 USDT",
    ),
    "plans retire": (
        lambda db: plans.retire_plan(db, period="1 month", by=BY),
        "1 month",
        "60 USDT",
    ),
}


def ready(db: Database) -> None:
    """Ann is in, a payment of hers is pending, and there is an admin; nobody did it by hand."""
    member(db)
    claimed(db, SLOW, by=None)
    person(db, 9, "boss")
    users.set_staff(db, 9, is_staff=True)


def everything(db: Database) -> dict[str, list[tuple[Any, ...]]]:
    with db.read() as session:
        return {
            table.name: [tuple(row) for row in session.execute(table.select())]
            for table in SQLModel.metadata.sorted_tables
            if table.name != "audit"
        }


def test_every_change_by_hand_is_written_down_once(db: Database) -> None:
    ready(db)
    assert rows(db, Audit) == []
    for action, (change, subject, begins) in CHANGES.items():
        change(db)
        entry = next(iter(list_audit(db)))
        found = (entry.at, entry.actor, entry.action, entry.subject)
        assert found == (LATER, "olga", action, subject)
        assert entry.detail.startswith(begins), action
    assert len(rows(db, Audit)) == len(CHANGES)
    by_hand.requeue(db, 1, now=LATER, by=BY)
    assert [e.action for e in list_audit(db, limit=2)] == ["outbox requeue", "plans retire"]


def test_a_change_that_cannot_be_written_down_is_not_made(db: Database) -> None:
    ready(db)
    with db.begin() as session:
        session.execute(text("ALTER TABLE audit RENAME TO elsewhere"))
    before = everything(db)
    for action, (change, _, _) in CHANGES.items():
        with pytest.raises((Unavailable, DBAPIError)):
            change(db)
        assert everything(db) == before, action


def test_nothing_changed_is_nothing_written(db: Database) -> None:
    ready(db)
    registered(db, 8, "ben", first_name="Ben")
    CHANGES["subscribers claim"][0](db)
    assert claimed(db, hash_of(60), who=8).verdict.reason == "already-used"  # leaves a trace
    assert len(rows(db, Audit)) == 3
    for same in (
        lambda: plans.set_price(db, period="1 month", price=50, by=BY),
        lambda: registered(db, 8, "ben", first_name="Ben"),
        lambda: registered(db, 8, "ben"),
        lambda: users.set_staff(db, 7, is_staff=False, by=BY),
        lambda: users.set_staff(db, 9, is_staff=True, by=BY),
        lambda: claimed(db, hash_of(60)),
        lambda: claimed(db, hash_of(60), who=8),
        lambda: claimed(db, "no hash"),
    ):
        same()
    refused: list[tuple[type[BuffettsbotError], Callable[[], Any]]] = [
        (Conflict, lambda: plans.create_plan(db, period="1 month", price=9, by=BY)),
        (NotFound, lambda: plans.retire_plan(db, period="1 year", by=BY)),
        (NotFound, lambda: users.set_staff(db, "nobody", is_staff=True, by=BY)),
        (NotFound, lambda: by_hand.cancel_one(db, 999, by=BY)),
        (Conflict, lambda: by_hand.requeue(db, 1, now=LATER, by=BY)),
    ]
    for kind, change in refused:
        with pytest.raises(kind):
            change()
    assert len(rows(db, Audit)) == 3


def test_what_the_bot_does_is_not_in_it(db: Database) -> None:
    shop(db)
    person(db)
    buy(db, hash_of(7))
    assert rows(db, Audit) == []


def test_a_name_that_moves_is_said_to_have_moved(db: Database) -> None:
    person(db, 7, "ann")
    registered(db, 8, "ANN", first_name="Anna")
    assert next(iter(list_audit(db))).detail == "@ANN Anna, whose name it was: 7"
    registered(db, 8, "ANN", first_name="Änne")
    assert next(iter(list_audit(db))).detail == "@ANN Änne"


def test_it_is_looked_at_by_admin_and_by_subject(database_url: str, db: Database) -> None:
    ready(db)
    for action in ("plans set-price", "subscribers grant", "payments reject"):
        CHANGES[action][0](db)
    run = InsideCommands(database_url)
    named = run.env | {"SUDO_USER": "ivan"}
    run("users", "promote", "ann", env=named)
    for arguments, actions in (
        ((), ["users promote", "payments reject", "subscribers grant", "plans set-price"]),
        (("--actor", "ivan"), ["users promote"]),
        (("--subject", "@ANN"), ["users promote", "subscribers grant"]),
        (("--subject", "ann"), ["users promote", "subscribers grant"]),
        (("--subject", "7", "--actor", "olga"), ["subscribers grant"]),
        (("--subject", f"0x{SLOW}"), ["payments reject"]),
        (("--subject", "1 month"), ["plans set-price"]),
        (("--limit", "2"), ["users promote", "payments reject"]),
    ):
        shown = run("audit", *arguments, "--json").json()
        assert [entry["action"] for entry in shown] == actions, arguments
        listed = csv.DictReader(io.StringIO(run("audit", *arguments, "--csv").stdout))
        assert [row["action"] for row in listed] == actions, arguments
    run("audit", "--actor", "nobody").refused(0, "No change matches.")
    run("audit", "--subject", "@nobody").refused(4, "is known")


def test_the_command_line_writes_down_what_it_changes(sqlite_url: str) -> None:
    run = Commands(sqlite_url)
    for line in (
        "plans create 1month 50",
        "plans set-price 1month 60",
        "users add 7 ann",
        "users promote ann",
        "users demote ann",
        "subscribers grant ann --days 3 --reason prize",
        "outbox cancel 1 --yes",
        "outbox requeue 1",
        "subscribers revoke ann --reason rude --yes",
        "plans retire 1month --yes",
    ):
        (run if line.startswith("subscribers grant") else run.inside)(*line.split()).refused(0)
        (newest,) = run.inside("audit", "--limit", "1", "--json").json()
        assert line.startswith(newest["action"]), line
    screen = run.on_terminal("audit")
    assert screen.widest <= 80
    assert "subscribers revoke  7" in screen.text
    assert "from 50 to 60 USDT" in screen.text


def test_the_actor_is_whoever_used_sudo_or_is_logged_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "olga")
    assert actor() == "olga"
    monkeypatch.delenv("SUDO_USER")
    monkeypatch.setenv("LOGNAME", "ivan")
    assert actor() == "ivan"
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54321)  # a container's number, without a name
    assert actor() == "uid 54321"
