"""Settlement: judged as of the claim; an outage refuses nobody; whoever was faster decides.

Every test runs on both databases.
"""

from datetime import timedelta
from typing import Any

import pytest
from claiming import HASH, ann_and_a_month, claimed, counts, settled
from helpers import (
    DAY,
    EXPECTATION,
    MINUTE,
    NOW,
    Said,
    buy,
    fake_chain,
    hash_of,
    ledger,
    membership,
    not_found,
    paid,
    person,
    queued,
    rows,
    silence,
    staff,
)
from sqlalchemy import update

from buffettsbot.core.chain.judge import Reason
from buffettsbot.core.chain.transaction import ChainTransaction
from buffettsbot.core.errors import Conflict
from buffettsbot.core.ledger import settlement
from buffettsbot.core.ledger.claims import claim
from buffettsbot.core.ledger.settlement import backoff
from buffettsbot.core.members.standing import Raced
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import Outbox, Payment, Subscription


@pytest.fixture(autouse=True)
def _ann_and_a_month(db: Database) -> None:
    ann_and_a_month(db)


def test_the_waits_grow_from_thirty_seconds_to_fifteen_minutes() -> None:
    seconds = [backoff(attempts).total_seconds() for attempts in range(9)]
    assert seconds == [30, 30, 60, 120, 240, 480, 900, 900, 900]
    assert backoff(10**6) == timedelta(minutes=15)


def test_an_outage_of_days_refuses_nobody_and_makes_nothing_too_old(db: Database) -> None:
    claimed(db, chain=fake_chain({HASH: silence()}))
    for hours in range(1, 120, 7):
        report = settled(db, {HASH: silence()}, now=NOW + timedelta(hours=hours))
        assert counts(report) == (1, 0, 1, 0)
    back = NOW + timedelta(days=5)
    assert counts(settled(db, {HASH: paid(HASH)}, now=back)) == (1, 1, 0, 0)
    assert membership(db).end_date == back + 30 * DAY, "the days begin when the claim is settled"


def test_a_host_that_was_off_for_days_still_sells_what_was_claimed(db: Database) -> None:
    claimed(db)
    settled(db, {HASH: paid(HASH)}, now=NOW + 9 * DAY)
    assert ledger(db)[0].status == "accepted"


def test_what_the_chain_never_shows_is_refused_only_after_the_highest_age(db: Database) -> None:
    staff(db, 1)
    claimed(db, chain=fake_chain({}))
    day = timedelta(hours=24)
    assert counts(settled(db, {}, now=NOW + day)) == (1, 0, 1, 0)
    report = settled(db, {}, now=NOW + day + timedelta(minutes=16))
    assert counts(report) == (1, 1, 0, 0)
    assert (ledger(db)[0].status, ledger(db)[0].reason) == ("refused", "never-found")
    assert queued(db, 7) == ["payment-pending", "payment-refused"]
    assert queued(db, 1) == ["admin-refused"]


@pytest.mark.parametrize(
    "said",
    [
        [silence(), not_found(HASH, "trongrid")],
        [not_found(HASH), silence("trongrid")],
        [not_found(HASH), paid(HASH, final=False, source="trongrid")],
    ],
    ids=["first-silent", "second-silent", "one-sees-it"],
)
def test_never_found_needs_every_source_to_say_so(
    db: Database, said: list[ChainTransaction]
) -> None:
    claimed(db)
    chain = fake_chain(*({HASH: answer} for answer in said))
    settled(db, chain, now=NOW + 99 * DAY)
    assert ledger(db)[0].status == "pending"


def test_the_first_answer_after_an_outage_never_refuses(db: Database) -> None:
    """The indexer may still lag; who had to claim again would then be too old."""
    claimed(db, chain=fake_chain({HASH: silence()}))
    said: dict[str, Said] = {HASH: [not_found(HASH), paid(HASH)]}
    chain = fake_chain(said)
    settled(db, chain, now=NOW + 3 * DAY)
    assert (ledger(db)[0].status, ledger(db)[0].reason) == ("pending", "not-found")
    settled(db, chain, now=NOW + 3 * DAY + 15 * MINUTE)
    assert ledger(db)[0].status == "accepted"


def test_a_transaction_that_vanishes_before_it_is_final_stays_undecided(db: Database) -> None:
    said: dict[str, Said] = {HASH: [paid(HASH, final=False), not_found(HASH), paid(HASH)]}
    chain = fake_chain(said)
    reasons = [claimed(db, chain=chain).verdict.reason]
    for minutes in (1, 3):
        settled(db, chain, now=NOW + minutes * MINUTE)
        reasons.append(Reason(ledger(db)[0].reason))
    assert reasons == [Reason.UNCONFIRMED, Reason.NOT_FOUND, Reason.ACCEPTED]


def test_a_payment_that_was_old_at_the_claim_stays_old_however_late_it_is_found(
    db: Database,
) -> None:
    claimed(db)
    settled(db, {HASH: paid(HASH, at=NOW - timedelta(hours=25))}, now=NOW + DAY)
    assert ledger(db)[0].reason == "too-old"


def test_with_a_quorum_one_source_alone_never_decides(db: Database) -> None:
    claimed(db)
    one = fake_chain({HASH: paid(HASH)}, {HASH: silence("trongrid")}, quorum=2)
    settled(db, one, now=NOW + 9 * DAY)
    assert ledger(db)[0].reason == "source-unavailable"
    both = fake_chain({HASH: paid(HASH)}, {HASH: paid(HASH, source="trongrid")}, quorum=2)
    settled(db, both, now=NOW + 10 * DAY)
    assert ledger(db)[0].status == "accepted"


def test_a_slow_pass_does_not_undo_what_a_faster_one_decided(db: Database) -> None:
    """While the slow one asks, its claim is refused, claimed by another, and sold to them."""
    person(db, 8, "bob")
    claimed(db)

    def answer_late(_: str) -> ChainTransaction:
        with db.begin() as session:
            session.execute(
                update(Payment).values(
                    status="refused", reason="underpaid", decided_at=NOW, next_check_at=None
                )
            )
        assert buy(db, HASH, who=8, now=NOW + MINUTE).verdict.reason is Reason.ACCEPTED
        return paid(HASH)

    settled(db, {HASH: answer_late})
    assert [(e.customer_id, e.status) for e in ledger(db)] == [(7, "refused"), (8, "accepted")]
    assert [s.customer_id for s in rows(db, Subscription)] == [8]
    assert queued(db, 7) == []


def test_a_customer_whose_membership_never_stands_still_is_a_failure_not_a_loop(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed(db)

    def raced(*_: Any, **__: Any) -> Any:
        raise Raced

    monkeypatch.setattr(settlement, "extend", raced)
    assert counts(settled(db, {HASH: paid(HASH)})) == (1, 0, 0, 1)
    monkeypatch.undo()
    assert counts(settled(db, {HASH: paid(HASH)}, now=NOW + 5 * MINUTE)) == (1, 1, 0, 0)


def test_a_number_that_became_anothers_settles_nothing(db: Database) -> None:
    """A backup was restored while the chain was asked: the number is another's claim now."""
    person(db, 8, "bob")

    def restored(transaction_hash: str) -> ChainTransaction:
        with db.begin() as session:
            session.execute(update(Payment).values(transaction_hash=hash_of(0xB0B), customer_id=8))
        return paid(transaction_hash)

    with pytest.raises(Conflict, match="Claim it again"):
        claim(
            db,
            fake_chain({HASH: restored}),
            EXPECTATION,
            person=7,
            period="1 month",
            transaction_hash=HASH,
            now=NOW,
        )
    (standing,) = ledger(db)
    assert (standing.customer_id, standing.status) == (8, "pending")
    assert rows(db, Subscription) == rows(db, Outbox) == []
