"""A payment that was written down is brought to its end: asked about, judged, settled.

A verdict becomes ledger, membership and notices in one transaction. Whoever races, compare-and-set
decides, and the loser sees what the winner did.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, select, true, update
from sqlalchemy.engine import Connection, Row
from sqlalchemy.exc import IntegrityError

from buffettsbot.core.chain.judge import Expectation, Reason, Verdict, decide, verdict_of
from buffettsbot.core.chain.sources import Chain
from buffettsbot.core.chain.transaction import Answer, to_evidence
from buffettsbot.core.errors import Conflict
from buffettsbot.core.ledger.outcome import Outcome, outcome_of
from buffettsbot.core.ledger.payments import ENTRY, UNCHANGED, Entry, claims_of, seen
from buffettsbot.core.members.notices import BEGUN, OVERTAKEN, RENEWED, Notices, queue_notices
from buffettsbot.core.members.standing import Raced, extend, standing_of
from buffettsbot.core.members.users import PERSON
from buffettsbot.core.money import MICRO, to_usdt
from buffettsbot.core.outbox import queue as outbox
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import PAYMENT, PERIODS, PLAN, TELEGRAM_USER
from buffettsbot.core.storage.statements import RACES

FIRST_CHECK = timedelta(seconds=30)
SLOWEST_CHECK = timedelta(minutes=15)
LARGEST_AMOUNT = 2**63 - 1

# One customer's payments queue up at this lock, so that two of them cannot both read the old end.
_PARTIES = (
    select(*PERSON, PLAN.c.period.label("plan"))
    .join(PLAN, true())
    .where(TELEGRAM_USER.c.chat_id == bindparam("customer"), PLAN.c.id == bindparam("plan"))
    .with_for_update(of=TELEGRAM_USER, key_share=True)
)
_RECORD = update(PAYMENT).where(UNCHANGED).returning(*ENTRY)


class Overtaken(Exception):
    """The payment is not as it was seen any more; nothing of this transaction may stay."""


def settle_payment(
    db: Database,
    chain: Chain,
    expectation: Expectation,
    payment: Entry,
    *,
    now: datetime,
    tell: bool,
) -> Outcome:
    """Ask the chain about a pending payment, judge it, and record the verdict.

    `tell`: whether the customer and the admins still have to hear of a refusal. Where another was
    faster, it is their outcome. Raises Unavailable, Conflict.
    """
    answers = chain.look_up(payment.transaction_hash)
    verdict = _judged(payment, answers, chain.quorum, expectation, now)
    for _ in range(RACES):
        try:
            with db.begin() as session:
                settled = record_verdict(
                    session.connection(), payment, verdict, answers=answers, now=now, tell=tell
                )
            return outcome_of(settled, now, verdict)
        except Overtaken:
            return outcome_of(_as_it_stands(db, payment), now, verdict)
        except (Raced, IntegrityError):
            continue
    raise Conflict("This customer's membership is being changed by others. Try again.")


def _judged(
    payment: Entry,
    answers: tuple[Answer, ...],
    quorum: int,
    expectation: Expectation,
    now: datetime,
) -> Verdict:
    """Judge as of the moment of the claim: an outage must not make a payment too old."""
    wanted = replace(expectation, price=payment.price * MICRO)
    verdict = decide(answers, wanted, payment.claimed_at, quorum=quorum)
    # The first answer after an outage may come from an indexer that still lags: it takes two.
    again = verdict.reason is Reason.NOT_FOUND and payment.reason == Reason.NOT_FOUND
    if again and now - payment.claimed_at > expectation.max_age:
        return verdict_of(Reason.NEVER_FOUND)
    return verdict


def _as_it_stands(db: Database, payment: Entry) -> Entry:
    """Return what the ledger says now of a payment that was seen. Raises Conflict."""
    with db.read() as session:
        claims = claims_of(session.connection(), payment.transaction_hash)
    for claim in claims:
        if (claim.id, claim.customer_id) == (payment.id, payment.customer_id):
            return claim
    # a backup was restored meanwhile
    raise Conflict("This claim is not known any more. Claim it again.")


def record_verdict(
    connection: Connection,
    payment: Entry,
    verdict: Verdict,
    *,
    answers: tuple[Answer, ...] | None,
    now: datetime,
    tell: bool,
) -> Entry:
    """Write a verdict into ledger, membership and outbox, in this transaction; return the entry.

    `answers`: what the verdict rests on; None for a person's word. Raises Overtaken when the
    payment is not as it was seen any more; Raced, when the membership is not: do the whole again.
    """
    named = {"customer": payment.customer_id, "plan": payment.plan_id}
    parties = connection.execute(_PARTIES, named).one()
    start, end, renewed = None, None, False
    if verdict.verdict == "accepted":
        start, end, renewed = extend(
            connection,
            standing_of(connection, payment.customer_id),
            customer_id=payment.customer_id,
            plan_id=payment.plan_id,
            transaction_hash=payment.transaction_hash,
            duration=PERIODS[parties.plan],
            now=now,
        )
    values = _values(payment, verdict, answers, now) | {"period_start": start, "period_end": end}
    row = connection.execute(_RECORD, values | seen(payment)).first()
    if row is None:
        raise Overtaken
    entry = Entry._make(row)
    if entry.status == "accepted":
        outbox.cancel(connection, entry.customer_id, OVERTAKEN)
    if tell or entry.status != "refused":
        _queue_notices(connection, entry, parties, renewed=renewed, now=now)
    return entry


def _values(
    payment: Entry, verdict: Verdict, answers: tuple[Answer, ...] | None, now: datetime
) -> dict[str, Any]:
    """Return what a verdict changes in the ledger, but for the period that is bought."""
    held = verdict.reason is Reason.HELD_FOR_REVIEW
    waits = verdict.verdict == "pending" and not held
    attempts = payment.attempts + 1
    evidence = {} if answers is None else {"evidence": to_evidence(answers)}
    return evidence | {
        "status": "held" if held else verdict.verdict,
        "reason": verdict.reason,
        "amount": None if verdict.amount is None else min(verdict.amount, LARGEST_AMOUNT),
        "sender": verdict.sender,
        "paid_at": verdict.time,
        "attempts": attempts,
        "next_check_at": now + backoff(attempts) if waits else None,
        "decided_at": None if held or waits else now,
    }


def _queue_notices(
    connection: Connection,
    payment: Entry,
    parties: Row[*tuple[Any, ...]],
    *,
    renewed: bool,
    now: datetime,
) -> None:
    """Queue what the customer and the admins hear of a payment's new state."""
    notices: dict[str, Notices] = {
        "accepted": RENEWED if renewed else BEGUN,
        "held": ("payment-pending", "admin-held"),
        "pending": ("payment-pending", None),
        "refused": ("payment-refused", "admin-refused"),
    }
    customer = {column.name: parties._mapping[column.name] for column in PERSON}
    short = payment.reason == Reason.UNDERPAID
    arrived = {"amount": to_usdt(payment.amount or 0)} if short else {}
    queue_notices(
        connection,
        notices[payment.status],
        customer,
        about=f"{payment.id}:{payment.claimed_at.isoformat()}",
        now=now,
        plan=parties.plan,
        price=payment.price,
        transaction_hash=payment.transaction_hash,
        reason=payment.reason,
        start_date=payment.decided_at and payment.decided_at.isoformat(),
        end_date=payment.period_end and payment.period_end.isoformat(),
        **arrived,
    )


def backoff(attempts: int) -> timedelta:
    """Return how long to wait after so many questions: 30 s, doubling to 15 min."""
    doublings = min(max(attempts - 1, 0), 10)
    return min(FIRST_CHECK * (1 << doublings), SLOWEST_CHECK)
