"""One payment buys once, for ever: whoever claims it again, in whatever spelling.

Every test runs on both databases.
"""

from dataclasses import replace
from datetime import datetime

import pytest
from claiming import HASH, SPELLINGS, ann_and_a_month, claimed, reason
from helpers import (
    DAY,
    EXPECTATION,
    MINUTE,
    NOW,
    FakeSource,
    buy,
    fake_chain,
    hash_of,
    ledger,
    membership,
    paid,
    payments_chain,
    person,
    queued,
    rows,
    shop,
)
from sqlalchemy import update

from buffettsbot.core.chain.judge import Reason
from buffettsbot.core.ledger.outcome import Outcome
from buffettsbot.core.ledger.settle import settle
from buffettsbot.core.offers import plans
from buffettsbot.core.storage.audit import By, list_audit
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import Subscription


@pytest.fixture(autouse=True)
def _ann_and_a_month(db: Database) -> None:
    ann_and_a_month(db)


def test_the_same_claim_again_is_answered_the_same_without_asking(db: Database) -> None:
    source = FakeSource({HASH: paid(HASH)})
    first = claimed(db, fake_chain(source))
    for days, spelling in enumerate([HASH, *SPELLINGS]):
        again = claimed(db, fake_chain(source), spelling, now=NOW + days * DAY)
        assert replace(again, verdict=first.verdict) == first
        assert reason(again) is Reason.ACCEPTED
    assert source.asked == [HASH]
    assert membership(db).end_date == NOW + 30 * DAY
    assert len(ledger(db)) == 1


def test_the_same_claim_is_answered_the_same_after_a_renewal_too(db: Database) -> None:
    first = buy(db, HASH)
    buy(db, hash_of(2), now=NOW + DAY)
    again = claimed(db, payments_chain(paid(HASH)), now=NOW + 2 * DAY)
    assert (again.start_date, again.end_date) == (first.start_date, first.end_date)
    assert membership(db).end_date == NOW + 60 * DAY


@pytest.mark.parametrize("spelling", SPELLINGS, ids=["upper", "0x", "0X", "blanks", "link"])
def test_another_customer_cannot_use_a_used_hash_in_any_spelling(
    db: Database, spelling: str
) -> None:
    buy(db, HASH)
    person(db, 8, "bob")
    outcome = buy_as(db, 8, spelling)
    assert (reason(outcome), outcome.transaction_hash) == (Reason.ALREADY_USED, HASH)
    assert (outcome.customer_id, outcome.start_date, outcome.end_date) == (None, None, None)
    assert [s.customer_id for s in rows(db, Subscription)] == [7]


def buy_as(db: Database, who: int, spelling: str = HASH, now: datetime = NOW) -> Outcome:
    return claimed(db, payments_chain(paid(HASH, at=now - MINUTE)), spelling, who=who, now=now)


def test_the_same_customer_cannot_buy_another_plan_with_it(db: Database) -> None:
    shop(db, year=50)
    buy(db, HASH)
    outcome = claimed(db, payments_chain(paid(HASH)), period="1 year")
    assert reason(outcome) is Reason.ALREADY_USED
    assert membership(db).end_date == NOW + 30 * DAY


def test_a_used_hash_stays_used_after_renewal_and_after_expiry(db: Database) -> None:
    shop(db, year=50)
    person(db, 8, "bob")
    buy(db, HASH)
    buy(db, hash_of(2), now=NOW + DAY)
    assert membership(db).transaction_hash == hash_of(2), "the subscription holds it no longer"
    years_later = NOW + 1000 * DAY
    with db.begin() as session:
        session.execute(update(Subscription).values(expired_at=years_later))
    for who, period in ((8, "1 month"), (7, "1 year")):
        outcome = claimed(
            db,
            payments_chain(paid(HASH, at=years_later - MINUTE)),
            who=who,
            period=period,
            now=years_later,
        )
        assert reason(outcome) is Reason.ALREADY_USED
    assert len(rows(db, Subscription)) == 1


def test_a_hash_that_is_pending_for_one_is_already_used_for_everyone_else(db: Database) -> None:
    claimed(db, None)
    person(db, 8, "bob")
    source = FakeSource({HASH: paid(HASH)})
    assert reason(claimed(db, fake_chain(source), who=8)) is Reason.ALREADY_USED
    assert source.asked == []


def test_whoever_claims_what_is_anothers_leaves_one_trace(db: Database) -> None:
    buy(db, HASH)
    person(db, 8, "bob")
    for minutes in range(3):
        buy_as(db, 8, now=NOW + minutes * MINUTE)
    trace = ledger(db)[1:]
    assert [(t.customer_id, t.status, t.reason, t.claimed_at) for t in trace] == [
        (8, "refused", "already-used", NOW)
    ]
    assert queued(db, 8) == []


def test_a_hash_that_was_refused_may_be_claimed_again_for_what_it_pays(db: Database) -> None:
    shop(db, year=400)
    chain = payments_chain(paid(HASH, "50"))
    assert reason(claimed(db, chain, period="1 year")) is Reason.UNDERPAID
    assert reason(claimed(db, chain, period="1 month")) is Reason.ACCEPTED
    assert reason(claimed(db, chain, period="1 year")) is Reason.ALREADY_USED
    assert [entry.status for entry in ledger(db)] == ["refused", "accepted"]


def test_a_refused_claim_that_is_made_again_is_judged_anew(db: Database) -> None:
    chain = payments_chain(paid(HASH, "40"))
    assert reason(claimed(db, chain)) is Reason.UNDERPAID
    plans.set_price(db, period="1 month", price=40)
    outcome = claimed(db, chain, now=NOW + MINUTE)
    assert reason(outcome) is Reason.ACCEPTED
    (entry,) = ledger(db)
    assert (entry.status, entry.price, entry.claimed_at) == ("accepted", 40, NOW + MINUTE)


def test_what_was_refused_to_one_is_open_to_another(db: Database) -> None:
    person(db, 8, "bob")
    claimed(db, fake_chain({HASH: paid(HASH, succeeded=False)}))
    assert reason(buy_as(db, 8)) is Reason.ACCEPTED
    assert reason(buy_as(db, 7)) is Reason.ALREADY_USED


def test_a_trace_of_a_thief_becomes_a_sale_only_when_the_first_claim_failed(db: Database) -> None:
    person(db, 8, "bob")
    claimed(db, None)
    assert reason(buy_as(db, 8)) is Reason.ALREADY_USED
    settle(db, payments_chain(paid(HASH, "1")), EXPECTATION, now=NOW + MINUTE)
    assert reason(buy_as(db, 8, now=NOW + 2 * MINUTE)) is Reason.ACCEPTED
    assert [(e.customer_id, e.status) for e in ledger(db)] == [(7, "refused"), (8, "accepted")]


def test_by_hand_each_claim_that_writes_something_is_in_the_audit_log_once(db: Database) -> None:
    person(db, 8, "bob")
    olga = By("olga", NOW)
    underpaid = payments_chain(paid(HASH, "40"))
    assert reason(claimed(db, underpaid, by=olga)) is Reason.UNDERPAID
    plans.set_price(db, period="1 month", price=40)
    for _ in range(2):  # judged anew, then told what it came to
        assert reason(claimed(db, underpaid, by=olga)) is Reason.ACCEPTED
    for _ in range(2):  # a trace, once
        assert reason(claimed(db, underpaid, who=8, by=olga)) is Reason.ALREADY_USED
    what = f"USDT, {HASH}"
    assert [(entry.subject, entry.detail) for entry in list_audit(db)] == [
        ("8", f"1 month for 40 {what}"),
        ("7", f"1 month for 40 {what}"),
        ("7", f"1 month for 50 {what}"),
    ]
    assert {(entry.actor, entry.action) for entry in list_audit(db)} == {
        ("olga", "subscribers claim")
    }
