"""The settle pass: pending payments whose time has come are asked about again, and settled."""

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, select, update

from buffettsbot.core.chain.judge import Expectation, Reason
from buffettsbot.core.chain.sources import Chain
from buffettsbot.core.errors import Unavailable
from buffettsbot.core.ledger.payments import ENTRY, UNCHANGED, Entry, seen
from buffettsbot.core.ledger.settlement import FIRST_CHECK, settle_payment
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import PAYMENT
from buffettsbot.core.storage.passes import Report

log = logging.getLogger(__name__)

SILENT_ROW = 3
MOST_AT_ONCE = 1000

_LEASE = (
    update(PAYMENT)
    .where(UNCHANGED, PAYMENT.c.next_check_at == bindparam("seen_check"))
    .returning(*ENTRY)
)


def settle(
    db: Database,
    chain: Chain,
    expectation: Expectation,
    *,
    now: datetime,
    limit: int | None = None,
    dry_run: bool = False,
    watch: Callable[[Report], None] = lambda report: None,
) -> Report:
    """Ask the chain again about every pending payment whose time has come, and settle it.

    Safe to repeat, to race and to kill. Stops early when the sources are silent three times in a
    row: the rest stays due. `skipped` counts what stays undecided; a payment that cannot be settled
    for a reason of its own fails alone. `watch` is called after each.
    """
    due = _due(db, now, limit)
    report = Report("settle", dry_run=dry_run, due=len(due))
    silent = 0
    for payment in due:
        if dry_run or silent >= SILENT_ROW:
            reason = payment.reason
            report.skipped += 1
        else:
            reason = _ask_again(db, chain, expectation, payment, now, report)
            silent = silent + 1 if reason == Reason.SOURCE_UNAVAILABLE else 0
        report.items.append(_item(payment, reason))
        watch(report)
    return report


def _ask_again(
    db: Database,
    chain: Chain,
    expectation: Expectation,
    payment: Entry,
    now: datetime,
    report: Report,
) -> str:
    """Settle a payment that is due, and count it; return its reason. Raises Unavailable."""
    try:
        leased = _lease(db, payment, now)
        if leased is None:
            report.skipped += 1
            return "settled by another"
        outcome = settle_payment(db, chain, expectation, leased, now=now, tell=True)
    except Unavailable:
        raise
    except Exception:  # noqa: BLE001 -- one payment's trouble, a bug included, must not stop the others
        log.exception("payment %s cannot be settled", payment.id)
        report.failed += 1
        return "failed"
    if outcome.verdict.verdict == "pending":
        report.skipped += 1
    else:
        report.done += 1
    return outcome.verdict.reason


def _due(db: Database, now: datetime, limit: int | None) -> list[Entry]:
    query = (
        select(*ENTRY)
        .where(PAYMENT.c.status == "pending", PAYMENT.c.next_check_at <= now)
        .order_by(PAYMENT.c.next_check_at, PAYMENT.c.id)
        .limit(MOST_AT_ONCE if limit is None else limit)
    )
    with db.read() as session:
        return [Entry._make(row) for row in session.execute(query)]


def _lease(db: Database, payment: Entry, now: datetime) -> Entry | None:
    """Keep other settlers off this payment while it is asked about; None when one was faster."""
    as_seen = seen(payment) | {"seen_check": payment.next_check_at}
    with db.begin() as session:
        row = session.execute(_LEASE, as_seen | {"next_check_at": now + FIRST_CHECK}).first()
    return None if row is None else Entry._make(row)


def _item(payment: Entry, reason: str) -> dict[str, Any]:
    return {
        "transaction_hash": payment.transaction_hash,
        "customer_id": payment.customer_id,
        "claimed_at": payment.claimed_at,
        "attempts": payment.attempts,
        "reason": str(reason),
    }
