"""verify judges a hash and changes nothing.

Every test runs on both databases.
"""

from dataclasses import replace

import pytest
from claiming import HASH, SPELLINGS, ann_and_a_month, claimed
from helpers import (
    DAY,
    EXPECTATION,
    NOW,
    buy,
    ledger,
    paid,
    payments_chain,
    rows,
    shop,
)

from buffettsbot.core.chain.judge import Reason
from buffettsbot.core.chain.transaction import ChainTransaction
from buffettsbot.core.errors import UnknownPlan
from buffettsbot.core.ledger.verify import verify
from buffettsbot.core.offers import plans
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import Outbox, Subscription


@pytest.fixture(autouse=True)
def _ann_and_a_month(db: Database) -> None:
    ann_and_a_month(db)


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
