"""Claims: one payment buys once, real money counts, undecided is not refused, days are not lost.

Every test runs on both databases.
"""

import contextlib
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
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
    clean_env,
    fake_chain,
    from_evidence,
    hash_of,
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
from sqlalchemy import event, update

from buffettsbot.core.chain.judge import Expectation, Reason
from buffettsbot.core.chain.sources import Chain
from buffettsbot.core.chain.transaction import ChainTransaction
from buffettsbot.core.errors import UnknownPlan, UnknownUser
from buffettsbot.core.ledger.claims import claim
from buffettsbot.core.ledger.outcome import Outcome
from buffettsbot.core.ledger.settle import settle
from buffettsbot.core.ledger.verify import verify
from buffettsbot.core.offers import plans
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import Outbox, Subscription

HASH = hash_of(0xABC)
SPELLINGS = [
    HASH.upper(),
    "0x" + HASH,
    "0X" + HASH.upper(),
    f" {HASH}\n",
    f"https://tronscan.org/#/transaction/{HASH.upper()}",
]
LATER = NOW + timedelta(minutes=20)


@pytest.fixture(autouse=True)
def _ann_and_a_month(db: Database) -> None:
    """Ann is registered as 7, and a month is on sale for 50 USDT."""
    person(db)
    shop(db)


def claimed(
    db: Database,
    chain: Chain | None,
    transaction_hash: str = HASH,
    *,
    who: str | int = 7,
    period: str = "1 month",
    now: datetime = NOW,
    expectation: Expectation = EXPECTATION,
) -> Outcome:
    return claim(
        db,
        chain,
        expectation,
        person=who,
        period=period,
        transaction_hash=transaction_hash,
        now=now,
    )


def reason(outcome: Outcome) -> Reason:
    return outcome.verdict.reason


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
    report = settle(db, fake_chain(source), EXPECTATION, now=LATER)
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


# One payment buys once, for ever.


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


# Paid days are never lost.


@pytest.mark.parametrize("days", [0, 1, 15, 29])
def test_renewing_early_adds_to_the_end(db: Database, days: int) -> None:
    staff(db, 1)
    buy(db, hash_of(1))
    again = buy(db, hash_of(2), now=NOW + days * DAY)
    assert (again.start_date, again.end_date) == (NOW + days * DAY, NOW + 60 * DAY)
    standing = membership(db)
    assert (standing.start_date, standing.end_date) == (NOW + days * DAY, NOW + 60 * DAY)
    assert [(e.period_start, e.period_end) for e in ledger(db)] == [
        (NOW, NOW + 30 * DAY),
        (NOW + 30 * DAY, NOW + 60 * DAY),
    ]
    assert queued(db, 7) == ["welcome", "renewal"]
    assert queued(db, 1) == ["admin-add", "admin-keep"]


def test_renewing_at_the_very_end_or_later_starts_anew(db: Database) -> None:
    buy(db, hash_of(1))
    at_the_end = NOW + 30 * DAY
    assert buy(db, hash_of(2), now=at_the_end).end_date == at_the_end + 30 * DAY
    much_later = NOW + 500 * DAY
    assert buy(db, hash_of(3), now=much_later).end_date == much_later + 30 * DAY
    assert queued(db, 7) == ["welcome"] * 3


def test_someone_whose_membership_was_ended_comes_back(db: Database) -> None:
    buy(db, hash_of(1))
    with db.begin() as session:
        session.execute(update(Subscription).values(expired_at=NOW + 30 * DAY))
    outcome = buy(db, hash_of(2), now=NOW + 31 * DAY)
    assert outcome.end_date == NOW + 61 * DAY
    assert membership(db).expired_at is None
    assert queued(db, 7) == ["welcome", "welcome"]


def test_many_renewals_add_up_to_the_day(db: Database) -> None:
    shop(db, year=400, quarter=120)
    periods = ["1 month", "1 year", "3 months", "1 month", "1 year"]
    for number, period in enumerate(periods, 1):
        buy(db, hash_of(number), period=period, usdt="400", now=NOW + number * DAY)
    assert membership(db).end_date == NOW + DAY + timedelta(days=30 + 365 + 90 + 30 + 365)
    spans = [(e.period_start, e.period_end) for e in ledger(db)]
    assert all(end == start for (_, end), (start, _) in zip(spans, spans[1:], strict=False))


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_renewal_that_meets_the_expiry_in_the_same_moment_loses_no_day(
    db: Database, database_url: str
) -> None:
    """Between reading the old end and writing the new one, the expiry pass ends the membership.

    On SQLite the write lock makes this moment impossible.
    """
    buy(db, hash_of(1))
    other = Database(database_url)
    ended: list[int] = []

    def expire(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("UPDATE subscription") and not ended:
            ended.append(1)
            with other.begin() as session:
                session.execute(update(Subscription).values(expired_at=NOW + 29 * DAY))

    event.listen(db.engine, "before_cursor_execute", expire)
    outcome = buy(db, hash_of(2), now=NOW + 29 * DAY)
    other.close()
    assert (reason(outcome), outcome.end_date) == (Reason.ACCEPTED, NOW + 59 * DAY)
    assert membership(db).expired_at is None
    assert queued(db, 7) == ["welcome", "welcome"], "they were out, so they come in again"


# Many at once.


def meeting(count: int, seen: ChainTransaction) -> Callable[[str], ChainTransaction]:
    """Answer only once so many ask at the same time (or nobody else has come for a while)."""
    barrier = threading.Barrier(count)

    def answer(transaction_hash: str) -> ChainTransaction:
        with contextlib.suppress(threading.BrokenBarrierError):
            barrier.wait(1)
        return replace(seen, hash=transaction_hash)

    return answer


def test_the_same_claim_by_sixteen_at_once_sells_once(db: Database) -> None:
    staff(db, 1)
    chain = fake_chain({HASH: meeting(16, paid(HASH))})
    spellings = [HASH, *SPELLINGS]
    outcomes = in_parallel(16, lambda n: claimed(db, chain, spellings[n % len(spellings)]))
    assert [reason(o) for o in outcomes] == [Reason.ACCEPTED] * 16
    assert {(o.start_date, o.end_date) for o in outcomes} == {(NOW, NOW + 30 * DAY)}
    assert len(ledger(db)) == 1
    assert membership(db).end_date == NOW + 30 * DAY
    assert (queued(db, 7), queued(db, 1)) == (["welcome"], ["admin-add"])


def test_one_hash_claimed_by_sixteen_customers_at_once_is_sold_to_one(db: Database) -> None:
    for chat_id in range(101, 117):
        person(db, chat_id, f"user{chat_id}")
    chain = payments_chain(paid(HASH))
    outcomes = in_parallel(16, lambda n: claimed(db, chain, who=101 + n))
    reasons = sorted(reason(o) for o in outcomes)
    assert reasons == [Reason.ACCEPTED] + [Reason.ALREADY_USED] * 15
    assert [e.status for e in ledger(db)].count("accepted") == 1
    assert len(ledger(db)) == 16
    assert len(rows(db, Subscription)) == 1
    assert queued(db) == ["welcome"]


def test_twelve_payments_of_one_customer_at_the_same_instant_add_all_twelve_periods(
    db: Database,
) -> None:
    numbers = range(1, 13)
    answer = meeting(12, paid(HASH))
    chain = fake_chain({hash_of(number): answer for number in numbers})
    outcomes = in_parallel(12, lambda n: claimed(db, chain, hash_of(n + 1)))
    assert [reason(o) for o in outcomes] == [Reason.ACCEPTED] * 12
    assert membership(db).end_date == NOW + 360 * DAY
    starts = sorted(e.period_start or NOW for e in ledger(db))
    assert starts == [NOW + 30 * DAY * n for n in range(12)]
    assert sorted(queued(db, 7)) == ["renewal"] * 11 + ["welcome"]


def test_different_customers_at_once_do_not_disturb_each_other(db: Database) -> None:
    for chat_id in range(101, 113):
        person(db, chat_id, f"user{chat_id}")
    outcomes = in_parallel(12, lambda n: buy(db, hash_of(n + 1), who=101 + n))
    assert [reason(o) for o in outcomes] == [Reason.ACCEPTED] * 12
    assert len(rows(db, Subscription)) == 12


# Kill it anywhere.


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1), RuntimeError("a bug")])
def test_a_crash_while_the_chain_is_asked_leaves_a_claim_that_settle_finishes(
    db: Database, error: BaseException
) -> None:
    with pytest.raises(type(error)):
        claimed(db, fake_chain({HASH: error}))
    (entry,) = ledger(db)
    assert (entry.status, entry.attempts) == ("pending", 0)
    report = settle(db, payments_chain(paid(HASH)), EXPECTATION, now=NOW + MINUTE)
    assert (report.due, report.done) == (1, 1)
    assert membership(db).transaction_hash == HASH


class Killer:
    """Dies at the n-th statement that the database is given."""

    def __init__(self, db: Database, after: int) -> None:
        self.left = after
        self._engine = db.engine
        event.listen(self._engine, "before_cursor_execute", self)

    def __call__(self, *_: Any) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt

    def stop(self) -> None:
        event.remove(self._engine, "before_cursor_execute", self)


def test_a_crash_at_any_statement_leaves_all_or_nothing_and_the_next_try_finishes(
    db: Database,
) -> None:
    staff(db, 1)
    chain = payments_chain(paid(HASH))
    for statement in count():
        killer = Killer(db, statement)
        died = False
        try:
            outcome = claimed(db, chain, now=NOW + statement * MINUTE)
        except KeyboardInterrupt:
            died = True
        finally:
            killer.stop()
        sold = [e for e in ledger(db) if e.status == "accepted"]
        assert len(rows(db, Subscription)) == len(sold)
        assert sorted(queued(db)) == ["admin-add", "welcome"] * len(sold)
        if not died:
            break
    assert statement > 4, "the test never came far"
    assert reason(outcome) is Reason.ACCEPTED
    assert len(ledger(db)) == 1


_CLAIM = """
import sys, time
sys.path.insert(0, sys.argv[2])
from helpers import *
def answer(transaction_hash):
    print("asked", flush=True)
    time.sleep(60)
db = Database(sys.argv[1])
claim(db, fake_chain({sys.argv[3]: answer}), EXPECTATION,
      person=7, period="1 month", transaction_hash=sys.argv[3], now=NOW)
"""


def test_a_process_killed_while_it_asks_loses_nothing(db: Database, database_url: str) -> None:
    here = Path(__file__).parents[2] / "support"
    process = subprocess.Popen(
        [sys.executable, "-c", _CLAIM, database_url, str(here), HASH],
        stdout=subprocess.PIPE,
        env=clean_env(database_url),
        cwd=here.parent,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"asked\n"
    process.kill()
    process.communicate()
    assert [(e.status, e.attempts) for e in ledger(db)] == [("pending", 0)]
    assert reason(claimed(db, payments_chain(paid(HASH)))) is Reason.ACCEPTED


# Looking without touching.


def looked(
    db: Database, *seen: ChainTransaction, text: str = HASH, period: str | None = None
) -> tuple[str | None, Reason, list[str]]:
    worth = verify(
        db,
        payments_chain(*seen),
        EXPECTATION,
        transaction_hash=text,
        period=period,
        now=NOW,
    )
    return worth.transaction_hash, worth.verdict.reason, worth.periods


def test_verify_names_the_periods_a_payment_would_buy_and_changes_nothing(db: Database) -> None:
    shop(db, quarter=120, year=400)
    assert looked(db, paid(HASH, "120")) == (HASH, Reason.ACCEPTED, ["1 month", "3 months"])
    assert looked(db, paid(HASH, "49")) == (HASH, Reason.UNDERPAID, [])
    assert looked(db, paid(HASH, "120"), period="1 year") == (HASH, Reason.UNDERPAID, [])
    assert looked(db, paid(HASH, succeeded=False)) == (HASH, Reason.FAILED_TRANSACTION, [])
    assert looked(db) == (HASH, Reason.NOT_FOUND, [])
    assert looked(db, text="x") == (None, Reason.MALFORMED_HASH, [])
    assert (ledger(db), rows(db, Outbox), rows(db, Subscription)) == ([], [], [])


@pytest.mark.parametrize("spelling", SPELLINGS, ids=["upper", "0x", "0X", "blanks", "link"])
def test_verify_says_that_a_hash_is_used(db: Database, spelling: str) -> None:
    buy(db, HASH)
    assert looked(db, paid(HASH), text=spelling) == (HASH, Reason.ALREADY_USED, [])


def test_verify_says_that_a_hash_is_used_before_anything_else(db: Database) -> None:
    shop(db, year=400)
    claimed(db, None)
    assert looked(db, paid(HASH), period="1 year")[1] is Reason.ALREADY_USED
    assert looked(db, paid(HASH, at=NOW - 2 * DAY))[1] is Reason.ALREADY_USED
    assert looked(db, paid(HASH, succeeded=False))[1] is Reason.FAILED_TRANSACTION
    assert looked(db)[1] is Reason.NOT_FOUND  # what it is waiting for
    claimed(db, payments_chain(paid(HASH)))
    for seen in ([paid(HASH)], [paid(HASH, at=NOW - 2 * DAY)], [paid(HASH, "1")], []):
        assert looked(db, *seen, period="1 year")[1:] == (Reason.ALREADY_USED, [])


def test_verify_does_not_call_a_refused_hash_used(db: Database) -> None:
    claimed(db, payments_chain(paid(HASH, "1")))
    assert looked(db, paid(HASH, "50"))[1] is Reason.ACCEPTED


def test_verify_without_any_plan_still_judges_the_transaction(db: Database) -> None:
    plans.retire_plan(db, period="1 month")
    assert looked(db, paid(HASH, "0.000001")) == (HASH, Reason.ACCEPTED, [])
    with pytest.raises(UnknownPlan):
        looked(db, paid(HASH), period="1 month")


def test_verify_forgives_what_the_tolerance_forgives(db: Database) -> None:
    worth = verify(
        db,
        payments_chain(paid(HASH, "49")),
        replace(EXPECTATION, tolerance=1_000_000),
        transaction_hash=HASH,
        now=NOW,
    )
    assert (worth.verdict.reason, worth.periods) == (Reason.ACCEPTED, ["1 month"])
