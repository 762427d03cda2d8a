"""What came of a claim: the ledger's entry, in the words of the verdict."""

from dataclasses import dataclass
from datetime import datetime

from buffettsbot.core.chain.judge import SENTENCES, Reason, Verdict
from buffettsbot.core.ledger.payments import Entry


@dataclass(frozen=True)
class Outcome:
    """What a claim came to. Of one in the ledger: its price in whole USDT. Of an accepted one: the
    plan and the membership as it then stood; of a pending one: the seconds until the chain is asked
    again.
    """

    verdict: Verdict
    transaction_hash: str | None = None
    customer_id: int | None = None
    plan_id: int | None = None
    start_date: datetime | None = None
    end_date: datetime | None = None
    price: int | None = None
    retry_after: int | None = None


def outcome_of(payment: Entry, now: datetime, verdict: Verdict | None = None) -> Outcome:
    """Return what the ledger's entry says; the verdict of this moment has the better words."""
    reason = Reason(payment.reason)
    if verdict is None or verdict.reason is not reason:
        verdict = verdict_in_ledger(payment, reason)
    wait = payment.next_check_at - now if payment.next_check_at else None
    return Outcome(
        verdict,
        transaction_hash=payment.transaction_hash,
        customer_id=payment.customer_id,
        plan_id=payment.plan_id,
        start_date=payment.decided_at if payment.status == "accepted" else None,
        end_date=payment.period_end,
        price=payment.price,
        retry_after=None if wait is None else max(1, int(wait.total_seconds())),
    )


def verdict_in_ledger(payment: Entry, reason: Reason) -> Verdict:
    """Return a verdict for this reason, with what the ledger knows of the transaction."""
    return Verdict(
        reason,
        SENTENCES[reason],
        amount=payment.amount,
        sender=payment.sender,
        time=payment.paid_at,
    )
