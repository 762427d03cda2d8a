"""Claims at the same instant, and claims that die halfway.

Every test runs on both databases.
"""

import contextlib
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from claiming import HASH, SPELLINGS, ann_and_a_month, claimed, reason
from helpers import (
    DAY,
    EXPECTATION,
    MINUTE,
    NOW,
    buy,
    clean_env,
    fake_chain,
    hash_of,
    in_parallel,
    ledger,
    membership,
    paid,
    payments_chain,
    person,
    queued,
    rows,
    staff,
    waits_for_a_lock,
)
from sqlalchemy import event

from buffettsbot.core.chain.judge import Reason
from buffettsbot.core.chain.transaction import ChainTransaction
from buffettsbot.core.ledger.outcome import Outcome
from buffettsbot.core.ledger.settle import settle
from buffettsbot.core.members import users
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import Subscription


@pytest.fixture(autouse=True)
def _ann_and_a_month(db: Database) -> None:
    ann_and_a_month(db)


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


def test_a_hash_that_was_refused_to_eight_is_reopened_by_one_of_them(db: Database) -> None:
    customers = range(101, 109)
    for chat_id in customers:
        person(db, chat_id, f"user{chat_id}")
        claimed(db, payments_chain(paid(HASH, "1")), who=chat_id)
    outcomes = in_parallel(8, lambda n: claimed(db, None, who=101 + n))
    reasons = sorted(reason(o) for o in outcomes)
    assert reasons == [Reason.ALREADY_USED] * 7 + [Reason.SOURCE_UNAVAILABLE]
    entries = sorted((e.status, e.reason) for e in ledger(db))
    assert entries == [("pending", "source-unavailable")] + [("refused", "underpaid")] * 7


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_claims_of_one_customer_queue_up(db: Database) -> None:
    """On SQLite everybody queues up at the one write lock."""
    outcomes: list[Outcome] = []
    claiming = threading.Thread(target=lambda: outcomes.append(claimed(db, who="@Ann")))
    with db.begin() as session:
        users.lock(session.connection(), 7)
        claiming.start()
        while not waits_for_a_lock(db):
            pass
        assert ledger(db) == []
    claiming.join()
    assert [reason(o) for o in outcomes] == [Reason.SOURCE_UNAVAILABLE]


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
