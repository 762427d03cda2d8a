"""A transaction hash becomes a membership.

Written down (pending) → the chain is asked, outside any transaction → judged → settled. Whatever
dies between, the settle pass finishes; whoever races, the ledger's unique index decides.
"""

import contextlib
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import bindparam, select, update
from sqlalchemy.engine import Connection, Row
from sqlalchemy.exc import IntegrityError

from buffettsbot.core.chain.judge import Expectation, Reason, verdict_of
from buffettsbot.core.chain.sources import Chain
from buffettsbot.core.errors import Conflict, Invalid, UnknownPlan
from buffettsbot.core.hashes import parse_hash
from buffettsbot.core.ledger.payments import ENTRY, UNCHANGED, Entry, claims_of, seen
from buffettsbot.core.ledger.settlement import (
    FIRST_CHECK,
    Outcome,
    backoff,
    outcome_of,
    settle_payment,
)
from buffettsbot.core.members.standing import Raced
from buffettsbot.core.members.users import NAMED, parse_person, unknown
from buffettsbot.core.offers.plans import parse_period
from buffettsbot.core.storage import audit
from buffettsbot.core.storage.audit import By
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import PAYMENT, PLAN, TELEGRAM_USER
from buffettsbot.core.storage.statements import RACES, insert_once

JUST_ASKED = timedelta(seconds=5)

_CUSTOMER = {way: select(TELEGRAM_USER.c.chat_id).where(named) for way, named in NAMED.items()}
_ON_SALE = select(PLAN).where(PLAN.c.period == bindparam("period"), PLAN.c.is_active)
_REOPEN = update(PAYMENT).where(UNCHANGED).returning(*ENTRY)


def claim(
    db: Database,
    chain: Chain | None,
    expectation: Expectation,
    *,
    person: str | int,
    period: str,
    transaction_hash: str,
    now: datetime,
    by: By | None = None,
) -> Outcome:
    """Sell `period` to `person` for a transaction; the same claim again is answered the same.

    Without a chain to ask now (None), the claim is written down and `settle` finishes it. Raises
    NotFound for an unknown person or plan, Unavailable when the database is away, Conflict.
    """
    try:
        transaction_hash = parse_hash(transaction_hash)
    except Invalid as error:
        return Outcome(verdict_of(Reason.MALFORMED_HASH, str(error)))
    customer_id, plan = _parties(db, person, period)
    pending = {
        "transaction_hash": transaction_hash,
        "customer_id": customer_id,
        "plan_id": plan.id,
        "price": plan.price,
        "status": "pending",
        "reason": Reason.SOURCE_UNAVAILABLE,
        "claimed_at": now,
        "attempts": 0,
        "next_check_at": now + FIRST_CHECK,
    }
    what = f"{plan.period} for {plan.price} USDT, {transaction_hash}"
    payment = _write_down(db, pending, by, what)
    if payment is None:
        return Outcome(verdict_of(Reason.ALREADY_USED), transaction_hash)
    if chain is None or not _is_to_be_asked(payment, now):
        return outcome_of(payment, now)
    tell = payment.attempts > 0  # who claims for the first time hears the answer itself
    return settle_payment(db, chain, expectation, payment, now=now, tell=tell)


def _parties(db: Database, person: str | int, period: str) -> tuple[int, Row[*tuple[Any, ...]]]:
    """Return who claims, and the plan on sale. Raises UnknownUser, UnknownPlan."""
    way, named = parse_person(person)
    wanted = {"period": parse_period(period)}
    with db.alone() as connection:
        customer_id = connection.scalar(_CUSTOMER[way], named)
        plan = connection.execute(_ON_SALE, wanted).first()
    if customer_id is None:
        raise unknown(person)
    if plan is None:
        raise UnknownPlan(
            f"No plan for {period[:40]!r} is on sale. To see what is: buffettsbot plans list"
        )
    return customer_id, plan


def _write_down(db: Database, pending: dict[str, Any], by: By | None, what: str) -> Entry | None:
    """Return the payment that this claim is in the ledger; None: the hash is another's.

    Raises Conflict.
    """
    for _ in range(RACES):
        try:
            with _writing(db, by) as connection:
                return _enter(connection, pending, by, what)
        except (Raced, IntegrityError):  # the index decided for somebody else; look again
            continue
    raise Conflict("This hash is being claimed by others at the same time. Try again.")


@contextlib.contextmanager
def _writing(db: Database, by: By | None) -> Iterator[Connection]:
    """What a person does by hand is one transaction with its audit row. Else each statement is one
    by itself, which spares two round trips: whatever comes between, the index decides.
    """
    if by is None:
        with db.alone() as connection:
            yield connection
    else:
        with db.begin() as session:
            yield session.connection()


def _enter(
    connection: Connection, pending: dict[str, Any], by: By | None, what: str
) -> Entry | None:
    """Enter a claim that is new; else find out whose the hash is. Raises Raced, IntegrityError."""
    customer_id, plan_id = pending["customer_id"], pending["plan_id"]
    record = partial(audit.record, connection, by, "subscribers claim", customer_id, what)
    number = insert_once(connection, PAYMENT, pending)
    if number is not None:
        record()
        return Entry(id=number, **pending)

    claims = claims_of(connection, pending["transaction_hash"])
    own = next((c for c in claims if (c.customer_id, c.plan_id) == (customer_id, plan_id)), None)
    live = next((c for c in claims if c.status != "refused"), None)
    if live is not None and live is not own:  # another's: a trace stays of who tried, and when
        decided = {"decided_at": pending["claimed_at"], "next_check_at": None}
        refused = {"status": "refused", "reason": Reason.ALREADY_USED} | decided
        if insert_once(connection, PAYMENT, pending | refused) is not None:
            record()
        return None
    if own is None:
        raise Raced  # what stood in the way is gone
    if own is live or own.reason == Reason.REJECTED:  # a person's no is not asked again
        return own
    reopened = connection.execute(_REOPEN, pending | {"decided_at": None} | seen(own)).first()
    if reopened is None:
        raise Raced
    record()
    return Entry._make(reopened)


def _is_to_be_asked(payment: Entry, now: datetime) -> bool:
    """Whether the chain is asked now: of what is pending, unless it was asked a moment ago."""
    if payment.status != "pending" or payment.next_check_at is None:
        return False
    asked_at = payment.next_check_at - backoff(payment.attempts)
    return payment.attempts == 0 or now - asked_at >= JUST_ASKED
