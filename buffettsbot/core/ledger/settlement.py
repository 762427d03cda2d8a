"""A payment that was written down is brought to its end: asked about, judged, settled.

Ledger, membership and notices change in one transaction. Whoever races, compare-and-set decides,
and the loser sees what the winner did.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, bindparam, select, true, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from buffettsbot.core.chain.judge import SENTENCES, Expectation, Reason, Verdict, decide, verdict_of
from buffettsbot.core.chain.sources import Chain
from buffettsbot.core.chain.transaction import Answer, to_evidence
from buffettsbot.core.errors import Conflict
from buffettsbot.core.ledger.payments import ENTRY, Entry
from buffettsbot.core.members.notices import BEGUN, OVERTAKEN, RENEWED, Notices
from buffettsbot.core.members.standing import STANDING, Raced, Standing, extend
from buffettsbot.core.money import MICRO
from buffettsbot.core.outbox import queue as outbox
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import PAYMENT, PERIODS, PLAN, SUBSCRIPTION, TELEGRAM_USER
from buffettsbot.core.storage.statements import RACES

FIRST_CHECK = timedelta(seconds=30)
SLOWEST_CHECK = timedelta(minutes=15)
LARGEST_AMOUNT = 2**63 - 1


@dataclass(frozen=True)
class Outcome:
    """What a claim came to. Of an accepted one: the plan and the membership as it then stood;
    of a pending one: the seconds until the chain is asked again.
    """

    verdict: Verdict
    transaction_hash: str | None = None
    customer_id: int | None = None
    plan_id: int | None = None
    start_date: datetime | None = None
    end_date: datetime | None = None
    retry_after: int | None = None


def backoff(attempts: int) -> timedelta:
    """Return how long to wait after so many questions: 30 s, doubling to 15 min."""
    doublings = min(max(attempts - 1, 0), 10)
    return min(FIRST_CHECK * (1 << doublings), SLOWEST_CHECK)


def ask_and_settle(
    db: Database,
    chain: Chain,
    expectation: Expectation,
    payment: Entry,
    *,
    now: datetime,
    tell: bool,
) -> Outcome:
    """Ask the chain about a pending payment and bring it to where the verdict says.

    `tell`: whether the customer and the admins still have to hear of a refusal. Raises Unavailable.
    """
    answers = chain.look_up(payment.transaction_hash)
    verdict = _judged(answers, chain.quorum, expectation, payment, now)
    change = Change(payment, verdict, answers, now, tell)
    return outcome_of(_settled(db, change), now, verdict)


@dataclass(frozen=True)
class Change:
    """What is to become of a payment, and what is known of it."""

    payment: Entry
    verdict: Verdict
    answers: tuple[Answer, ...] | None
    now: datetime
    tell: bool


def _judged(
    answers: tuple[Answer, ...],
    quorum: int,
    expectation: Expectation,
    payment: Entry,
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


def _settled(db: Database, change: Change) -> Entry:
    """Return the payment as it now stands, by this change or by one that was faster."""
    for _ in range(RACES):
        try:
            with db.begin() as session:
                return apply_change(session.connection(), change)
        except Overtaken:
            with db.read() as session:
                row = session.execute(_ENTRY, identity(change.payment)).first()
            if row is None:  # a backup was restored meanwhile
                raise Conflict("This claim is not known any more. Claim it again.") from None
            return Entry._make(row)
        except (Raced, IntegrityError):
            continue
    raise Conflict("This customer's membership is being changed by others. Try again.")


class Overtaken(Exception):
    """The payment is not pending any more; nothing of this transaction may stay."""


# By more than its number: where a backup was restored, the number may be another's.
_THIS = and_(
    PAYMENT.c.id == bindparam("payment"),
    PAYMENT.c.transaction_hash == bindparam("seen_hash"),
    PAYMENT.c.customer_id == bindparam("seen_customer"),
)
_ENTRY = select(*ENTRY).where(_THIS)
AS_SEEN = (
    update(PAYMENT).where(_THIS, PAYMENT.c.status == bindparam("seen_status")).returning(*ENTRY)
)
# Tells also, most often with a no, whether anything is overtaken: that spares a statement.
_SETTLE = AS_SEEN.returning(outbox.has_queued(PAYMENT.c.customer_id, OVERTAKEN))


def identity(payment: Entry) -> dict[str, Any]:
    return {
        "payment": payment.id,
        "seen_hash": payment.transaction_hash,
        "seen_customer": payment.customer_id,
    }


# One customer's payments queue up at this lock, so that two of them cannot both read the old end.
_PARTIES = (
    select(
        TELEGRAM_USER.c.chat_id,
        TELEGRAM_USER.c.telegram_username,
        TELEGRAM_USER.c.first_name,
        TELEGRAM_USER.c.last_name,
        PLAN.c.period.label("plan"),
        *STANDING,
    )
    .select_from(TELEGRAM_USER)
    .join(PLAN, true())
    .outerjoin(SUBSCRIPTION, SUBSCRIPTION.c.customer_id == TELEGRAM_USER.c.chat_id)
    .where(TELEGRAM_USER.c.chat_id == bindparam("customer"), PLAN.c.id == bindparam("plan"))
    .with_for_update(of=TELEGRAM_USER, key_share=True)
)


def apply_change(connection: Connection, change: Change) -> Entry:
    payment = change.payment
    named = {"customer": payment.customer_id, "plan": payment.plan_id}
    parties = dict(connection.execute(_PARTIES, named).one()._mapping)
    standing = Standing(*(parties.pop(name) for name in Standing._fields))
    values = _values(change)
    renewed = False
    if change.verdict.verdict == "accepted":
        values["period_start"], values["period_end"], renewed = extend(
            connection,
            standing if standing.transaction_hash else None,
            customer_id=payment.customer_id,
            plan_id=payment.plan_id,
            transaction_hash=payment.transaction_hash,
            duration=PERIODS[parties["plan"]],
            now=change.now,
        )
    seen = identity(payment) | {"seen_status": payment.status}
    changed = connection.execute(_SETTLE, values | seen).first()
    if changed is None:
        raise Overtaken
    entry, overtakes = Entry._make(changed[:-1]), changed[-1]
    if entry.status == "accepted" and overtakes:
        outbox.cancel(connection, entry.customer_id, OVERTAKEN)
    notices = _notices(entry, renewed=renewed, tell=change.tell)
    if notices is not None:
        outbox.queue_for_all(
            connection,
            *notices,
            about=f"{entry.id}:{_iso(entry.claimed_at)}",
            chat_id=entry.customer_id,
            payload=parties | _payload(entry),
            now=change.now,
        )
    return entry


def _values(change: Change) -> dict[str, Any]:
    verdict, attempts = change.verdict, change.payment.attempts + 1
    values: dict[str, Any] = {
        "reason": verdict.reason,
        "amount": None if verdict.amount is None else min(verdict.amount, LARGEST_AMOUNT),
        "sender": verdict.sender,
        "paid_at": verdict.time,
        "attempts": attempts,
        "next_check_at": None,
    }
    if change.answers is not None:
        values["evidence"] = to_evidence(change.answers)
    if verdict.reason is Reason.HELD_FOR_REVIEW:
        return values | {"status": "held"}
    if verdict.verdict == "pending":
        return values | {"next_check_at": change.now + backoff(attempts)}
    return values | {"status": verdict.verdict, "decided_at": change.now}


def _notices(payment: Entry, *, renewed: bool, tell: bool) -> Notices | None:
    """Return what must be said of a payment's new state."""
    if payment.status == "accepted":
        return RENEWED if renewed else BEGUN
    if payment.status == "held":
        return "payment-pending", "admin-held"
    if payment.status == "pending":
        return "payment-pending", None
    return ("payment-refused", "admin-refused") if tell else None


def _payload(payment: Entry) -> dict[str, Any]:
    return {
        "price": payment.price,
        "transaction_hash": payment.transaction_hash,
        "reason": payment.reason,
        "start_date": _iso(payment.decided_at),
        "end_date": _iso(payment.period_end),
    }


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def outcome_of(payment: Entry, now: datetime, verdict: Verdict | None = None) -> Outcome:
    """Return what the ledger's entry says; the verdict of this moment has the better words."""
    reason = Reason(payment.reason)
    if verdict is None or verdict.reason is not reason:
        verdict = Verdict(
            reason,
            SENTENCES[reason],
            amount=payment.amount,
            sender=payment.sender,
            time=payment.paid_at,
        )
    wait = payment.next_check_at - now if payment.next_check_at else None
    return Outcome(
        verdict,
        transaction_hash=payment.transaction_hash,
        customer_id=payment.customer_id,
        plan_id=payment.plan_id,
        start_date=payment.decided_at if payment.status == "accepted" else None,
        end_date=payment.period_end,
        retry_after=None if wait is None else max(1, int(wait.total_seconds())),
    )
