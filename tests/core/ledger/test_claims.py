"""Claims: real money counts, whatever else is refused, undecided is not refused.

Every test runs on both databases.
"""

from dataclasses import replace
from datetime import timedelta

import pytest
from claiming import HASH, ann_and_a_month, claimed, reason
from helpers import (
    DAY,
    EXPECTATION,
    FAKE_USDT,
    MINUTE,
    NOW,
    SENDER,
    STRANGER,
    FakeSource,
    buy,
    fake_chain,
    from_evidence,
    in_parallel,
    ledger,
    membership,
    not_found,
    paid,
    payments_chain,
    person,
    queued,
    rows,
    shop,
    silence,
    staff,
)

from buffettsbot.core.chain.judge import Reason
from buffettsbot.core.chain.sources import Chain
from buffettsbot.core.chain.transaction import ChainTransaction
from buffettsbot.core.errors import UnknownPlan, UnknownUser
from buffettsbot.core.ledger.settle import settle
from buffettsbot.core.offers import plans
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import Outbox, Subscription


@pytest.fixture(autouse=True)
def _ann_and_a_month(db: Database) -> None:
    ann_and_a_month(db)


# One good payment.


def test_a_good_payment_becomes_a_membership(db: Database) -> None:
    outcome = claimed(db, payments_chain(paid(HASH)))
    assert outcome.verdict.verdict == "accepted"
    assert outcome == replace(
        outcome,
        transaction_hash=HASH,
        customer_id=7,
        start_date=NOW,
        end_date=NOW + 30 * DAY,
        retry_after=None,
    )
    standing = membership(db)
    assert (standing.transaction_hash, standing.plan_id) == (HASH, outcome.plan_id)
    assert (standing.start_date, standing.end_date) == (NOW, NOW + 30 * DAY)
    assert (standing.duration, standing.expired_at) == (30 * 86400, None)


@pytest.mark.parametrize(
    ("period", "days"), [("1 month", 30), ("3 months", 90), ("6 months", 180), ("1 year", 365)]
)
def test_each_plan_buys_its_days(db: Database, period: str, days: int) -> None:
    shop(db, quarter=50, half=50, year=50)
    outcome = claimed(db, payments_chain(paid(HASH)), period=period)
    assert outcome.end_date == NOW + timedelta(days=days)


def test_the_ledger_says_what_was_paid_by_whom_when_and_keeps_the_evidence(db: Database) -> None:
    seen = paid(HASH, "50.5")
    claimed(db, payments_chain(seen))
    (entry,) = ledger(db)
    assert (entry.status, entry.reason, entry.price) == ("accepted", "accepted", 50)
    assert (entry.amount, entry.sender, entry.paid_at) == (50_500_000, SENDER, NOW - MINUTE)
    assert (entry.claimed_at, entry.decided_at, entry.attempts) == (NOW, NOW, 1)
    assert (entry.period_start, entry.period_end) == (NOW, NOW + 30 * DAY)
    assert entry.next_check_at is None
    assert from_evidence(entry.evidence or []) == (seen,)


@pytest.mark.parametrize("who", [7, "7", "ann", "@Ann", '"ANN"'])
def test_the_customer_is_named_by_id_or_by_any_spelling_of_the_name(
    db: Database, who: str | int
) -> None:
    assert claimed(db, payments_chain(paid(HASH)), who=who).customer_id == 7


def test_the_customer_and_every_admin_are_told_once(db: Database) -> None:
    staff(db, 1, 2, 3)
    for _ in range(3):
        claimed(db, payments_chain(paid(HASH)))
    assert queued(db, 7) == ["welcome"]
    assert [queued(db, admin) for admin in (1, 2, 3)] == [["admin-add"]] * 3
    (notice,) = [row for row in rows(db, Outbox) if row.chat_id == 1]
    assert notice.payload == {
        "chat_id": 7,
        "telegram_username": "ann",
        "first_name": "",
        "last_name": "",
        "plan": "1 month",
        "price": 50,
        "transaction_hash": HASH,
        "reason": "accepted",
        "start_date": NOW.isoformat(),
        "end_date": (NOW + 30 * DAY).isoformat(),
    }


def test_without_any_admin_the_sale_goes_through_all_the_same(db: Database) -> None:
    claimed(db, payments_chain(paid(HASH)))
    assert queued(db) == ["welcome"]


# What does not pay.


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        (paid(HASH, succeeded=False), Reason.FAILED_TRANSACTION),
        (replace(paid(HASH), transfers=()), Reason.NO_USDT_TRANSFER),
        (paid(HASH, contract=FAKE_USDT), Reason.NO_USDT_TRANSFER),
        (paid(HASH, "0"), Reason.NO_USDT_TRANSFER),
        (paid(HASH, to=STRANGER), Reason.WRONG_RECIPIENT),
        (paid(HASH, "49.999999"), Reason.UNDERPAID),
        (paid(HASH, at=NOW - timedelta(hours=24, seconds=1)), Reason.TOO_OLD),
    ],
    ids=lambda value: value if isinstance(value, Reason) else "",
)
def test_what_does_not_pay_is_refused_and_written_down(
    db: Database, seen: ChainTransaction, why: Reason
) -> None:
    staff(db, 1)
    outcome = claimed(db, payments_chain(seen))
    assert (reason(outcome), outcome.verdict.verdict) == (why, "refused")
    assert (outcome.start_date, outcome.end_date, outcome.retry_after) == (None, None, None)
    (entry,) = ledger(db)
    assert (entry.status, entry.reason, entry.decided_at) == ("refused", why, NOW)
    assert from_evidence(entry.evidence or []) == (seen,)
    assert rows(db, Subscription) == []
    assert queued(db) == [], "who claims hears it at once"


def test_an_amount_that_fits_no_column_is_accepted_and_kept_as_evidence(db: Database) -> None:
    huge = paid(HASH)
    huge = replace(huge, transfers=(replace(huge.transfers[0], amount=2**256 - 1),))
    assert claimed(db, payments_chain(huge)).verdict.verdict == "accepted"
    (entry,) = ledger(db)
    assert entry.amount == 2**63 - 1
    assert from_evidence(entry.evidence or []) == (huge,)


@pytest.mark.parametrize("text", ["", "x", HASH[:63], HASH + "0", "'; DROP TABLE payment", "\0"])
def test_what_is_no_hash_is_refused_without_asking_or_writing(db: Database, text: str) -> None:
    source = FakeSource()
    outcome = claimed(db, fake_chain(source), text)
    assert (reason(outcome), outcome.transaction_hash) == (Reason.MALFORMED_HASH, None)
    assert (source.asked, ledger(db)) == ([], [])


def test_an_unknown_person_or_plan_is_said_so_and_nothing_is_written(db: Database) -> None:
    source = FakeSource({HASH: paid(HASH)})
    with pytest.raises(UnknownUser):
        claimed(db, fake_chain(source), who="nobody")
    for period in ("2 months", "1 year"):
        with pytest.raises(UnknownPlan):
            claimed(db, fake_chain(source), period=period)
    plans.retire_plan(db, period="1 month")
    with pytest.raises(UnknownPlan):
        claimed(db, fake_chain(source))
    assert (source.asked, ledger(db)) == ([], [])


@pytest.mark.parametrize(
    ("who", "period", "error", "words"),
    [
        ("!", "2 months", UnknownUser, "No user '!' is known"),
        ("nobody", "2 months", UnknownPlan, "There is no period '2 months'"),
        ("nobody", "12 months", UnknownUser, "No user 'nobody' is known"),
        ("ann", "12 months", UnknownPlan, "No plan for '12 months' is on sale"),
    ],
)
def test_whoever_is_unknown_is_said_first_but_what_is_no_period_is_before_all_looking(
    db: Database, who: str, period: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        claimed(db, who=who, period=period)


# What is undecided.


@pytest.mark.parametrize(
    ("chain", "why"),
    [
        (fake_chain({}), Reason.NOT_FOUND),
        (fake_chain({HASH: paid(HASH, final=False)}), Reason.UNCONFIRMED),
        (fake_chain({HASH: paid(HASH, "1", final=False, succeeded=False)}), Reason.UNCONFIRMED),
        (fake_chain({HASH: silence()}), Reason.SOURCE_UNAVAILABLE),
        (fake_chain({HASH: silence()}, {HASH: not_found(HASH)}), Reason.SOURCE_UNAVAILABLE),
        (fake_chain({HASH: paid(HASH)}, {}, quorum=2), Reason.SOURCES_DISAGREE),
        (fake_chain({HASH: paid(HASH)}, {HASH: silence()}, quorum=2), Reason.SOURCE_UNAVAILABLE),
    ],
    ids=lambda value: value if isinstance(value, Reason) else "",
)
def test_what_is_undecided_is_pending_and_will_be_asked_again_in_thirty_seconds(
    db: Database, chain: Chain, why: Reason
) -> None:
    staff(db, 1)
    outcome = claimed(db, chain)
    assert (reason(outcome), outcome.verdict.verdict) == (why, "pending")
    assert (outcome.retry_after, outcome.start_date, outcome.end_date) == (30, None, None)
    (entry,) = ledger(db)
    assert (entry.status, entry.reason, entry.attempts) == ("pending", why, 1)
    assert entry.next_check_at == NOW + timedelta(seconds=30)
    assert rows(db, Subscription) == []
    assert (queued(db, 7), queued(db, 1)) == (["payment-pending"], [])


def test_a_pending_claim_that_is_made_again_is_asked_again_but_not_at_once(db: Database) -> None:
    source = FakeSource({HASH: [not_found(HASH), paid(HASH)]})
    chain = fake_chain(source)
    claimed(db, chain)
    again = claimed(db, chain, now=NOW + timedelta(seconds=4))
    assert (reason(again), again.retry_after, len(source.asked)) == (Reason.NOT_FOUND, 26, 1)
    done = claimed(db, chain, now=NOW + timedelta(seconds=6))
    assert (reason(done), len(source.asked)) == (Reason.ACCEPTED, 2)
    assert queued(db, 7) == ["payment-pending", "welcome"]


def test_a_refusal_after_waiting_is_told_to_the_customer_and_to_the_admins(db: Database) -> None:
    staff(db, 1, 2)
    chain = fake_chain({HASH: [not_found(HASH), paid(HASH, "1")]})
    claimed(db, chain)
    assert reason(claimed(db, chain, now=NOW + MINUTE)) is Reason.UNDERPAID
    assert queued(db, 7) == ["payment-pending", "payment-refused"]
    assert (queued(db, 1), queued(db, 2)) == (["admin-refused"], ["admin-refused"])


def test_without_a_chain_to_ask_the_claim_is_written_down_and_settled_later(db: Database) -> None:
    outcome = claimed(db, None)
    assert (reason(outcome), outcome.retry_after) == (Reason.SOURCE_UNAVAILABLE, 30)
    report = settle(db, payments_chain(paid(HASH)), EXPECTATION, now=NOW + MINUTE)
    assert (report.due, report.done) == (1, 1)
    assert membership(db).transaction_hash == HASH


def test_a_risky_payment_is_held_where_the_owner_wants_it(db: Database) -> None:
    staff(db, 1)
    source = FakeSource({HASH: paid(HASH, risky=True)})
    holding = replace(EXPECTATION, hold_risky=True)
    for _ in range(2):
        outcome = claimed(db, fake_chain(source), expectation=holding)
        assert (reason(outcome), outcome.verdict.verdict) == (Reason.HELD_FOR_REVIEW, "pending")
    assert len(source.asked) == 1
    assert [entry.status for entry in ledger(db)] == ["held"]
    assert (queued(db, 7), queued(db, 1)) == (["payment-pending"], ["admin-held"])
    person(db, 8, "bob")
    assert reason(buy(db, HASH, who=8)) is Reason.ALREADY_USED
    report = settle(db, fake_chain(source), EXPECTATION, now=NOW + timedelta(minutes=20))
    assert (report.due, len(source.asked)) == (0, 1), "an admin decides, not the pass"


def test_the_claim_is_written_down_before_the_chain_is_asked_and_nothing_is_locked(
    db: Database,
) -> None:
    def look_around(_: str) -> ChainTransaction:
        (entry,) = ledger(db)
        assert (entry.status, entry.attempts, entry.customer_id) == ("pending", 0, 7)
        assert entry.next_check_at == NOW + timedelta(seconds=30)
        (error,) = in_parallel(1, lambda _: person(db, 99, "somebody_else"))
        assert error == 99
        return paid(HASH)

    assert reason(claimed(db, fake_chain({HASH: look_around}))) is Reason.ACCEPTED


def test_the_price_that_was_seen_at_the_claim_is_the_price(db: Database) -> None:
    claimed(db, None)
    plans.set_price(db, period="1 month", price=500)
    settle(db, payments_chain(paid(HASH, "50")), EXPECTATION, now=NOW + MINUTE)
    assert [(entry.status, entry.price) for entry in ledger(db)] == [("accepted", 50)]


def test_a_plan_that_is_retired_while_a_claim_waits_is_still_delivered(db: Database) -> None:
    claimed(db, None)
    plans.retire_plan(db, period="1 month")
    settle(db, payments_chain(paid(HASH)), EXPECTATION, now=NOW + MINUTE)
    assert membership(db).end_date == NOW + MINUTE + 30 * DAY
