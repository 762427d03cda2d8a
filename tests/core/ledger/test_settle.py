"""The settle pass: what is due is asked again, and nothing is told twice.

Every test runs on both databases.
"""

import logging
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from claiming import HASH, ann_and_a_month, claimed, counts, settled, waiting
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
    paid,
    person,
    queued,
    rows,
    silence,
    staff,
)
from sqlalchemy import event

from buffettsbot.core.chain.judge import Reason
from buffettsbot.core.errors import Unavailable
from buffettsbot.core.ledger.settle import settle
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import Outbox, PassRun, Subscription
from buffettsbot.core.storage.passes import Report, run_recorded

HALF_MINUTE = timedelta(seconds=30)


@pytest.fixture(autouse=True)
def _ann_and_a_month(db: Database) -> None:
    ann_and_a_month(db)


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
        claimed(db, None, transaction_hash)
    chain = fake_chain({h: paid(h) for h in hashes})
    reports = in_parallel(4, lambda _: settled(db, chain))
    assert sum(report.done for report in reports) == 4
    assert membership(db).end_date == NOW + MINUTE + 120 * DAY
