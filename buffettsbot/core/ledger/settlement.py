"""A payment that was written down is brought to its end: asked about, judged, settled.

Ledger, membership and notices change in one transaction. Whoever races, compare-and-set decides,
and the loser sees what the winner did.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, bindparam, select, true, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from buffettsbot.core.chain.judge import SENTENCES, Expectation, Reason, Verdict, decide, verdict_of
from buffettsbot.core.chain.sources import Answer, Chain, to_evidence
from buffettsbot.core.errors import Conflict, Unavailable
from buffettsbot.core.hashes import parse_hash
from buffettsbot.core.ledger.payments import ENTRY, Entry, nothing_open
from buffettsbot.core.members.memberships import STANDING, Raced, Standing, extend
from buffettsbot.core.members.spans import BEGUN, OVERTAKEN, RENEWED, Notices
from buffettsbot.core.money import MICRO
from buffettsbot.core.outbox import queue as outbox
from buffettsbot.core.storage import audit
from buffettsbot.core.storage.audit import By
from buffettsbot.core.storage.database import RACES, Database
from buffettsbot.core.storage.models import (
    OPEN,
    PAYMENT,
    PERIODS,
    PLAN,
    SUBSCRIPTION,
    TELEGRAM_USER,
)
from buffettsbot.core.storage.passes import Report

log = logging.getLogger(__name__)

FIRST_CHECK = timedelta(seconds=30)
SLOWEST_CHECK = timedelta(minutes=15)
SILENT_ROW = 3
MOST_AT_ONCE = 1000
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
    change = _Change(payment, verdict, answers, now, tell)
    return outcome_of(_settled(db, change), now, verdict)


@dataclass(frozen=True)
class _Change:
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


def _settled(db: Database, change: _Change) -> Entry:
    """Return the payment as it now stands, by this change or by one that was faster."""
    for _ in range(RACES):
        try:
            with db.begin() as session:
                return _settle_in(session.connection(), change)
        except _Overtaken:
            with db.read() as session:
                row = session.execute(_ENTRY, _named(change.payment)).first()
            if row is None:  # a backup was restored meanwhile
                raise Conflict("This claim is not known any more. Claim it again.") from None
            return Entry._make(row)
        except (Raced, IntegrityError):
            continue
    raise Conflict("This customer's membership is being changed by others. Try again.")


def decide_by_hand(
    db: Database,
    *,
    transaction_hash: str,
    accept: bool,
    actor: str,
    now: datetime,
    why: str = "",
    seen: int | None = None,
) -> Outcome:
    """An admin decides what is pending or held; the audit log says who, and why.

    `seen`: the number of the very claim that the admin has looked at; no other is decided.
    Raises Invalid for what is no hash, NotFound when nothing of it is open, Conflict.
    """
    transaction_hash = parse_hash(transaction_hash)
    reason = Reason.ACCEPTED if accept else Reason.REJECTED
    for _ in range(RACES):
        try:
            with db.begin() as session:
                connection = session.connection()
                row = connection.execute(_OPEN, {"hash": transaction_hash}).first()
                if row is None:
                    raise nothing_open()
                payment = Entry._make(row)
                if seen is not None and payment.id != seen:
                    raise Conflict("Another claims this hash now. Look at it again.")
                verdict = Verdict(
                    reason,
                    SENTENCES[reason],
                    amount=payment.amount,
                    sender=payment.sender,
                    time=payment.paid_at,
                )
                change = _Change(payment, verdict, None, now, tell=True)
                decided = _settle_in(connection, change)
                action = "payments approve" if accept else "payments reject"
                audit.record(connection, By(actor, now), action, transaction_hash, why)
                return outcome_of(decided, now, verdict)
        except (Raced, _Overtaken):
            continue
    raise Conflict("This payment is being decided by others. Look at it again.")


_OPEN = select(*ENTRY).where(
    PAYMENT.c.transaction_hash == bindparam("hash"), PAYMENT.c.status.in_(OPEN)
)


class _Overtaken(Exception):
    """The payment is not pending any more; nothing of this transaction may stay."""


# By more than its number: where a backup was restored, the number may be another's.
_THIS = and_(
    PAYMENT.c.id == bindparam("payment"),
    PAYMENT.c.transaction_hash == bindparam("seen_hash"),
    PAYMENT.c.customer_id == bindparam("seen_customer"),
)
_ENTRY = select(*ENTRY).where(_THIS)
_AS_SEEN = (
    update(PAYMENT).where(_THIS, PAYMENT.c.status == bindparam("seen_status")).returning(*ENTRY)
)
# Tells also, most often with a no, whether anything is overtaken: that spares a statement.
_SETTLE = _AS_SEEN.returning(outbox.has_queued(PAYMENT.c.customer_id, OVERTAKEN))


def _named(payment: Entry) -> dict[str, Any]:
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


def _settle_in(connection: Connection, change: _Change) -> Entry:
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
    seen = _named(payment) | {"seen_status": payment.status}
    changed = connection.execute(_SETTLE, values | seen).first()
    if changed is None:
        raise _Overtaken
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


def _values(change: _Change) -> dict[str, Any]:
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
            reason = _settle_one(db, chain, expectation, payment, now, report)
            silent = silent + 1 if reason == Reason.SOURCE_UNAVAILABLE else 0
        report.items.append(_item(payment, reason))
        watch(report)
    return report


def _settle_one(
    db: Database,
    chain: Chain,
    expectation: Expectation,
    payment: Entry,
    now: datetime,
    report: Report,
) -> str:
    """Settle one due payment and count it; return its reason. Raises Unavailable."""
    try:
        leased = _leased(db, payment, now)
        if leased is None:
            report.skipped += 1
            return "settled by another"
        outcome = ask_and_settle(db, chain, expectation, leased, now=now, tell=True)
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


def _leased(db: Database, payment: Entry, now: datetime) -> Entry | None:
    """Keep other settlers off this payment while it is asked about; None when one was faster."""
    seen = _named(payment) | {"seen_status": "pending", "seen_check": payment.next_check_at}
    with db.begin() as session:
        row = session.execute(_LEASE, seen | {"next_check_at": now + FIRST_CHECK}).first()
    return None if row is None else Entry._make(row)


_LEASE = _AS_SEEN.where(PAYMENT.c.next_check_at == bindparam("seen_check"))


def _item(payment: Entry, reason: str) -> dict[str, Any]:
    return {
        "transaction_hash": payment.transaction_hash,
        "customer_id": payment.customer_id,
        "claimed_at": payment.claimed_at,
        "attempts": payment.attempts,
        "reason": str(reason),
    }
