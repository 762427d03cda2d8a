"""An admin decides by hand what is pending or held, on both databases."""

from dataclasses import replace
from datetime import timedelta

import pytest
from helpers import (
    DAY,
    EXPECTATION,
    MINUTE,
    NOW,
    buy,
    fake_chain,
    hash_of,
    in_parallel,
    ledger,
    membership,
    paid,
    person,
    queued,
    shop,
    staff,
)

from buffettsbot.core.chain.judge import Reason
from buffettsbot.core.errors import Conflict, NotFound
from buffettsbot.core.ledger.claims import claim
from buffettsbot.core.ledger.decisions import decide_by_hand
from buffettsbot.core.ledger.outcome import Outcome
from buffettsbot.core.ledger.payments import open_payment
from buffettsbot.core.ledger.settle import settle
from buffettsbot.core.storage.audit import list_audit
from buffettsbot.core.storage.database import Database

HASH = hash_of(1)
LATER = NOW + MINUTE


def pending(db: Database) -> None:
    """Ann claims a hash that no source knows."""
    person(db)
    shop(db)
    wanted = {"person": 7, "period": "1 month", "transaction_hash": HASH}
    claim(db, fake_chain({}), EXPECTATION, **wanted, now=NOW)  # type: ignore[arg-type]


def decide(db: Database, *, accept: bool, seen: int | None = None) -> Outcome:
    return decide_by_hand(
        db,
        transaction_hash=HASH,
        accept=accept,
        actor="olga",
        now=LATER,
        why="seen by hand",
        seen=seen,
    )


def test_approving_what_is_pending_starts_the_membership_and_is_written_down(
    db: Database,
) -> None:
    staff(db, 900)
    pending(db)
    outcome = decide(db, accept=True)
    assert outcome.verdict.verdict == "accepted"
    assert membership(db).end_date == LATER + 30 * DAY
    assert ledger(db)[0].status == "accepted"
    assert queued(db, 900) == ["admin-add"]
    (entry,) = list_audit(db)
    assert (entry.actor, entry.action, entry.subject) == ("olga", "payments approve", HASH)


def test_rejecting_refuses_for_good_and_tells_the_customer(db: Database) -> None:
    pending(db)
    assert decide(db, accept=False).verdict.reason is Reason.REJECTED
    assert queued(db, 7) == ["payment-pending", "payment-refused"]
    assert buy(db, HASH, now=LATER + DAY).verdict.reason is Reason.REJECTED
    assert next(iter(list_audit(db))).detail == "seen by hand"


def test_what_is_held_for_review_waits_for_the_admin_alone(db: Database) -> None:
    person(db)
    shop(db)
    risky = replace(paid(HASH, "50", at=NOW), risky=True)
    careful = replace(EXPECTATION, hold_risky=True)
    wanted = {"person": 7, "period": "1 month", "transaction_hash": HASH}
    held = claim(db, fake_chain({HASH: risky}), careful, **wanted, now=NOW)  # type: ignore[arg-type]
    assert held.verdict.reason is Reason.HELD_FOR_REVIEW
    assert settle(db, fake_chain({HASH: risky}), careful, now=NOW + DAY).due == 0
    assert decide(db, accept=True).verdict.verdict == "accepted"
    assert membership(db).end_date == LATER + 30 * DAY


def test_what_is_decided_cannot_be_decided_again(db: Database) -> None:
    pending(db)
    decide(db, accept=False)
    for accept in (True, False):
        with pytest.raises(NotFound, match="pending or held"):
            decide(db, accept=accept)


def test_only_the_claim_that_the_admin_has_seen_is_decided(db: Database) -> None:
    pending(db)
    seen = open_payment(db, HASH)["id"]
    decide(db, accept=False, seen=seen)
    with pytest.raises(NotFound, match="pending or held"):
        open_payment(db, HASH)
    person(db, 8, "bob")
    claim(db, None, EXPECTATION, person=8, period="1 month", transaction_hash=HASH, now=LATER)
    with pytest.raises(Conflict, match="Another claims this hash now"):
        decide(db, accept=True, seen=seen)
    assert [entry.status for entry in ledger(db)] == ["refused", "pending"]
    decide(db, accept=True, seen=open_payment(db, HASH)["id"])
    assert [entry.status for entry in ledger(db)] == ["refused", "accepted"]


def test_an_approval_that_races_the_settle_pass_sells_once(db: Database) -> None:
    pending(db)
    chain = fake_chain({HASH: paid(HASH, "50", at=NOW)})

    def work(number: int) -> object:
        if number % 2:
            return decide(db, accept=True)
        return settle(db, chain, EXPECTATION, now=NOW + timedelta(seconds=30 + number))

    results = in_parallel(4, work)
    assert [r for r in results if isinstance(r, Exception) and not isinstance(r, NotFound)] == []
    assert [entry.status for entry in ledger(db)] == ["accepted"]
    assert membership(db).duration == 30 * 86400
    assert membership(db).end_date - membership(db).start_date == 30 * DAY
