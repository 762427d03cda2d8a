"""The settle pass: undecided is asked again, an outage refuses nobody, nothing is told twice.

Every test runs on both databases.
"""

import logging
from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import pytest
from helpers import (
    DAY,
    EXPECTATION,
    MINUTE,
    NOW,
    FakeSource,
    Said,
    buy,
    fake_chain,
    hash_of,
    in_parallel,
    ledger,
    membership,
    not_found,
    paid,
    person,
    queued,
    rows,
    shop,
    silence,
    staff,
)
from sqlalchemy import event, update

from buffettsbot.core.chain.judge import Reason
from buffettsbot.core.chain.sources import Chain
from buffettsbot.core.chain.transaction import ChainTransaction
from buffettsbot.core.errors import Conflict, Unavailable
from buffettsbot.core.ledger import settlement
from buffettsbot.core.ledger.claims import claim
from buffettsbot.core.ledger.outcome import Outcome
from buffettsbot.core.ledger.settle import settle
from buffettsbot.core.ledger.settlement import backoff
from buffettsbot.core.members.standing import Raced
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import Outbox, PassRun, Payment, Subscription
from buffettsbot.core.storage.passes import Report, run_recorded

HASH = hash_of(0xABC)
HALF_MINUTE = timedelta(seconds=30)


@pytest.fixture(autouse=True)
def _ann_and_a_month(db: Database) -> None:
    """Ann is registered as 7, and a month is on sale for 50 USDT."""
    person(db)
    shop(db)


def claimed(
    db: Database,
    transaction_hash: str = HASH,
    *,
    chain: Chain | None = None,
    who: int = 7,
    now: datetime = NOW,
) -> Outcome:
    """Claim; without a chain the claim is only written down."""
    return claim(
        db,
        chain,
        EXPECTATION,
        person=who,
        period="1 month",
        transaction_hash=transaction_hash,
        now=now,
    )


def settled(
    db: Database, said: dict[str, Said] | Chain, *, now: datetime = NOW + MINUTE, **options: Any
) -> Report:
    chain = said if isinstance(said, Chain) else fake_chain(said)
    return settle(db, chain, EXPECTATION, now=now, **options)


def counts(report: Report) -> tuple[int, int, int, int]:
    return report.due, report.done, report.skipped, report.failed


def waiting(db: Database, number: int) -> list[str]:
    """Write down so many claims of as many customers, a second apart; return their hashes."""
    for n in range(number):
        person(db, 100 + n, f"user{n}")
        claimed(db, hash_of(n + 1), who=100 + n, now=NOW + timedelta(seconds=n))
    return [hash_of(n + 1) for n in range(number)]


# What is due, and when.


def test_only_what_is_due_is_asked(db: Database) -> None:
    claimed(db)
    source = FakeSource({HASH: paid(HASH)})
    assert counts(settled(db, fake_chain(source), now=NOW + timedelta(seconds=29))) == (0, 0, 0, 0)
    assert source.asked == []
    assert counts(settled(db, fake_chain(source), now=NOW + HALF_MINUTE)) == (1, 1, 0, 0)


def test_what_is_decided_is_never_asked_again(db: Database) -> None:
    buy(db, hash_of(1))
    buy(db, hash_of(2), usdt="1")
    source = FakeSource()
    assert counts(settled(db, fake_chain(source), now=NOW + 900 * DAY)) == (0, 0, 0, 0)
    assert source.asked == []


def test_the_waits_grow_from_thirty_seconds_to_fifteen_minutes() -> None:
    seconds = [backoff(attempts).total_seconds() for attempts in range(9)]
    assert seconds == [30, 30, 60, 120, 240, 480, 900, 900, 900]
    assert backoff(10**6) == timedelta(minutes=15)


def test_a_claim_that_stays_undecided_is_asked_more_and_more_seldom(db: Database) -> None:
    claimed(db, chain=fake_chain({}))
    now, gaps = NOW, []
    for _ in range(8):
        due = ledger(db)[0].next_check_at
        assert due is not None
        gaps.append((due - now).total_seconds())
        now = due
        assert counts(settled(db, {}, now=now)) == (1, 0, 1, 0)
    assert gaps == [30, 60, 120, 240, 480, 900, 900, 900]
    assert ledger(db)[0].attempts == 9


def test_those_who_waited_longest_come_first_and_the_limit_is_kept(db: Database) -> None:
    hashes = waiting(db, 4)
    source = FakeSource()
    report = settled(db, fake_chain(source), now=NOW + 2 * MINUTE, limit=3)
    assert (counts(report), source.asked) == ((3, 0, 3, 0), hashes[:3])
    assert counts(settled(db, fake_chain(source), now=NOW + 2 * MINUTE, limit=0)) == (0, 0, 0, 0)


def test_a_rehearsal_asks_nobody_and_changes_nothing(db: Database) -> None:
    claimed(db)
    before = [entry.model_dump() for entry in ledger(db)]
    source = FakeSource({HASH: paid(HASH)})
    report = settled(db, fake_chain(source), dry_run=True)
    assert counts(report) == (1, 0, 1, 0)
    assert report.summary() == {
        "pass": "settle",
        "due": 1,
        "done": 0,
        "skipped": 1,
        "failed": 0,
        "dry_run": True,
    }
    assert source.asked == []
    assert [entry.model_dump() for entry in ledger(db)] == before


# What becomes of it.


def test_a_payment_that_is_found_later_is_sold_and_everyone_hears_it_once(db: Database) -> None:
    staff(db, 1, 2)
    claimed(db, chain=fake_chain({}))
    for minutes in (1, 5, 9):
        settled(db, {HASH: paid(HASH)}, now=NOW + minutes * MINUTE)
    assert membership(db).end_date == NOW + MINUTE + 30 * DAY
    assert queued(db, 7) == ["payment-pending", "welcome"]
    assert (queued(db, 1), queued(db, 2)) == (["admin-add"], ["admin-add"])


@pytest.mark.parametrize("admins", [(), (1,), (1, 2, 3)])
def test_a_refusal_is_told_to_the_customer_and_to_every_admin_there_is(
    db: Database, admins: tuple[int, ...]
) -> None:
    staff(db, *admins)
    claimed(db)
    assert counts(settled(db, {HASH: paid(HASH, "1")})) == (1, 1, 0, 0)
    settled(db, {HASH: paid(HASH, "1")}, now=NOW + DAY)
    assert queued(db, 7) == ["payment-refused"]
    assert [queued(db, admin) for admin in admins] == [["admin-refused"]] * len(admins)
    assert len(queued(db)) == 1 + len(admins)
    (notice,) = [row for row in rows(db, Outbox) if row.chat_id == 7]
    assert (notice.payload["reason"], notice.payload["transaction_hash"]) == ("underpaid", HASH)
    assert (notice.payload["amount"], notice.payload["price"]) == ("1", 50)


def test_waiting_is_told_once_however_long_it_lasts(db: Database) -> None:
    for minutes in range(0, 300, 20):
        claimed(db, chain=fake_chain({}), now=NOW + minutes * MINUTE)
        settled(db, {}, now=NOW + (minutes + 10) * MINUTE)
    assert queued(db) == ["payment-pending"]


def test_a_claim_that_is_refused_and_made_again_is_told_again(db: Database) -> None:
    claimed(db)
    settled(db, {HASH: paid(HASH, "1")})
    claimed(db, now=NOW + 5 * MINUTE)
    settled(db, {HASH: paid(HASH, "2")}, now=NOW + 6 * MINUTE)
    assert queued(db, 7) == ["payment-refused", "payment-refused"]


def test_an_admin_who_came_later_hears_of_what_is_settled_then(db: Database) -> None:
    claimed(db)
    staff(db, 1)
    settled(db, {HASH: paid(HASH)})
    assert queued(db, 1) == ["admin-add"]


def test_a_risky_payment_is_held_and_left_to_an_admin(db: Database) -> None:
    staff(db, 1)
    claimed(db)
    holding = replace(EXPECTATION, hold_risky=True)
    chain = fake_chain({HASH: paid(HASH, risky=True)})
    for minutes in (1, 30):
        settle(db, chain, holding, now=NOW + minutes * MINUTE)
    (entry,) = ledger(db)
    assert (entry.status, entry.reason, entry.next_check_at) == ("held", "held-for-review", None)
    assert (queued(db, 7), queued(db, 1)) == (["payment-pending"], ["admin-held"])
    assert rows(db, Subscription) == []


# Undecided is not refused.


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


# Trouble on the way.


def test_three_silences_in_a_row_end_the_pass_early_and_the_rest_stays_due(db: Database) -> None:
    hashes = waiting(db, 6)
    away = FakeSource({h: silence() for h in hashes})
    report = settled(db, fake_chain(away), now=NOW + 2 * MINUTE)
    assert (counts(report), away.asked) == ((6, 0, 6, 0), hashes[:3])
    back = FakeSource({h: paid(h) for h in hashes})
    report = settled(db, fake_chain(back), now=NOW + 2 * MINUTE)
    assert (counts(report), back.asked) == ((3, 3, 0, 0), hashes[3:])


def test_silence_about_some_does_not_stop_the_pass_for_the_others(db: Database) -> None:
    hashes = waiting(db, 8)
    said: dict[str, Said] = {h: silence() if n % 3 else paid(h) for n, h in enumerate(hashes)}
    report = settled(db, said, now=NOW + 2 * MINUTE)
    assert counts(report) == (8, 3, 5, 0)


def test_one_payment_that_cannot_be_settled_fails_alone_and_is_tried_again(
    db: Database, caplog: pytest.LogCaptureFixture
) -> None:
    hashes = waiting(db, 3)
    said: dict[str, Said] = {h: paid(h) for h in hashes}
    said[hashes[1]] = RuntimeError("a bug in a source")
    with caplog.at_level(logging.ERROR):
        report = settled(db, said, now=NOW + 2 * MINUTE)
    assert counts(report) == (3, 2, 0, 1)
    assert "cannot be settled" in caplog.text
    assert [entry.status for entry in ledger(db)] == ["accepted", "pending", "accepted"]
    report = settled(db, {hashes[1]: paid(hashes[1])}, now=NOW + 5 * MINUTE)
    assert counts(report) == (1, 1, 0, 0)


def test_a_database_that_goes_away_ends_the_pass_as_unavailable(db: Database) -> None:
    hashes = waiting(db, 2)
    error = Unavailable("The database does not answer.")
    with pytest.raises(Unavailable):
        settled(db, {hashes[0]: error, hashes[1]: paid(hashes[1])}, now=NOW + 2 * MINUTE)
    assert {entry.status for entry in ledger(db)} == {"pending"}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1)])
def test_a_pass_that_is_killed_while_it_asks_is_finished_by_the_next_one(
    db: Database, error: BaseException
) -> None:
    hashes = waiting(db, 2)
    with pytest.raises(type(error)):
        settled(db, {hashes[0]: error}, now=NOW + 2 * MINUTE)
    said: dict[str, Said] = {h: paid(h) for h in hashes}
    settled(db, said, now=NOW + 2 * MINUTE + HALF_MINUTE)
    assert [entry.status for entry in ledger(db)] == ["accepted", "accepted"]
    assert queued(db) == ["welcome", "welcome"]


def test_a_pass_that_is_killed_at_any_statement_leaves_all_or_nothing(db: Database) -> None:
    staff(db, 1)
    claimed(db)
    left = 0

    def die(*_: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt

    for statement in count():
        left = statement
        event.listen(db.engine, "before_cursor_execute", die)
        died = False
        try:
            settled(db, {HASH: paid(HASH)}, now=NOW + (statement + 1) * MINUTE)
        except KeyboardInterrupt:
            died = True
        event.remove(db.engine, "before_cursor_execute", die)
        sold = [entry for entry in ledger(db) if entry.status == "accepted"]
        assert len(rows(db, Subscription)) == len(sold)
        assert sorted(queued(db)) == ["admin-add", "welcome"] * len(sold)
        if not died:
            break
    assert statement > 4, "the test never came far"
    assert len(sold) == 1


def test_the_pass_may_be_watched(db: Database) -> None:
    hashes = waiting(db, 3)
    seen: list[int] = []
    settled(
        db,
        {h: paid(h) for h in hashes},
        now=NOW + 2 * MINUTE,
        watch=lambda report: seen.append(report.done),
    )
    assert seen == [1, 2, 3]


def test_the_report_says_of_each_payment_what_became_of_it(db: Database) -> None:
    hashes = waiting(db, 3)
    said: dict[str, Said] = {hashes[0]: paid(hashes[0]), hashes[1]: paid(hashes[1], "1")}
    report = settled(db, said, now=NOW + 2 * MINUTE)
    assert [(i["transaction_hash"], i["customer_id"], i["reason"]) for i in report.items] == [
        (hashes[0], 100, "accepted"),
        (hashes[1], 101, "underpaid"),
        (hashes[2], 102, "not-found"),
    ]


def test_a_run_is_written_down_and_one_that_dies_is_left_unfinished(db: Database) -> None:
    moments = iter([NOW, NOW + MINUTE, NOW + DAY])
    run_recorded(db, lambda: next(moments), "settle", lambda: settled(db, {}))

    def die() -> Report:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_recorded(db, lambda: next(moments), "settle", die)
    first, second = rows(db, PassRun)
    assert (first.started_at, first.finished_at) == (NOW, NOW + MINUTE)
    assert first.report == Report("settle").summary()
    assert (second.started_at, second.finished_at, second.report) == (NOW + DAY, None, None)


# Many at once.


def test_eight_passes_at_once_settle_everything_once(db: Database) -> None:
    staff(db, 1)
    hashes = waiting(db, 6)
    chain = fake_chain({h: paid(h) for h in hashes})
    reports = in_parallel(8, lambda _: settled(db, chain, now=NOW + 2 * MINUTE))
    assert sum(report.done for report in reports) == 6
    assert sum(report.failed for report in reports) == 0
    assert [entry.status for entry in ledger(db)] == ["accepted"] * 6
    assert Counter(queued(db)) == {"welcome": 6, "admin-add": 6}


def test_a_payment_is_asked_about_by_one_pass_at_a_time(db: Database) -> None:
    hashes = waiting(db, 4)
    source = FakeSource({h: paid(h, final=False) for h in hashes})
    in_parallel(8, lambda _: settled(db, fake_chain(source), now=NOW + 2 * MINUTE))
    assert Counter(source.asked) == dict.fromkeys(hashes, 1)


def test_claims_and_passes_at_once_sell_once(db: Database) -> None:
    staff(db, 1)
    claimed(db)
    chain = fake_chain({HASH: paid(HASH)})

    def work(number: int) -> Any:
        if number % 2:
            return claimed(db, chain=chain, now=NOW + MINUTE).verdict.reason
        return settled(db, chain).failed

    results = in_parallel(12, work)
    assert results == [0, Reason.ACCEPTED] * 6
    assert membership(db).end_date == NOW + MINUTE + 30 * DAY
    assert Counter(queued(db)) == {"welcome": 1, "admin-add": 1}


def test_a_pass_and_a_thief_at_once_leave_the_hash_with_its_first_claimant(db: Database) -> None:
    person(db, 8, "bob")
    claimed(db)
    chain = fake_chain({HASH: paid(HASH)})

    def work(number: int) -> Any:
        if number % 2:
            return claimed(db, chain=chain, who=8, now=NOW + MINUTE).verdict.reason
        return settled(db, chain).failed

    assert in_parallel(8, work) == [0, Reason.ALREADY_USED] * 4
    assert [s.customer_id for s in rows(db, Subscription)] == [7]


def test_two_payments_of_one_customer_settled_at_once_add_both_periods(db: Database) -> None:
    hashes = [hash_of(number) for number in range(1, 5)]
    for transaction_hash in hashes:
        claimed(db, transaction_hash)
    chain = fake_chain({h: paid(h) for h in hashes})
    reports = in_parallel(4, lambda _: settled(db, chain))
    assert sum(report.done for report in reports) == 4
    assert membership(db).end_date == NOW + MINUTE + 120 * DAY


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
