"""A transaction hash becomes a membership.

Written down (pending) → the chain is asked, outside any transaction → judged → settled. Whatever
dies between, the settle pass finishes; whoever races, the ledger's unique index decides.
"""

from collections.abc import Callable
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
from buffettsbot.core.ledger.outcome import Outcome, outcome_of
from buffettsbot.core.ledger.payments import ENTRY, UNCHANGED, Entry, claims_of, seen
from buffettsbot.core.ledger.settlement import FIRST_CHECK, backoff, settle_payment
from buffettsbot.core.members.standing import Raced
from buffettsbot.core.members.users import NAMED, parse_person, unknown
from buffettsbot.core.offers.plans import parse_period
from buffettsbot.core.storage import audit
from buffettsbot.core.storage.audit import By
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import PAYMENT, PLAN, TELEGRAM_USER
from buffettsbot.core.storage.statements import RACES, insert_once

JUST_ASKED = timedelta(seconds=5)

_CUSTOMER = {
    way: select(TELEGRAM_USER.c.chat_id).where(named).with_for_update(key_share=True)
    for way, named in NAMED.items()
}
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
    payment = _write_down(db, person, period, transaction_hash, now, by)
    if payment is None:
        return Outcome(verdict_of(Reason.ALREADY_USED), transaction_hash)
    if chain is None or not _is_to_be_asked(payment, now):
        return outcome_of(payment, now)
    tell = payment.attempts > 0  # who claims for the first time hears the answer itself
    return settle_payment(db, chain, expectation, payment, now=now, tell=tell)


def _write_down(
    db: Database,
    person: str | int,
    period: str,
    transaction_hash: str,
    now: datetime,
    by: By | None,
) -> Entry | None:
    """Return the entry that this claim has in the ledger; None: the hash is another's.

    Raises UnknownUser, UnknownPlan, Conflict.
    """
    way, named = parse_person(person)
    plan_named = {"period": parse_period(period)}
    for _ in range(RACES):
        try:
            with db.begin() as session:
                connection = session.connection()
                customer_id = connection.scalar(_CUSTOMER[way], named)
                if customer_id is None:
                    raise unknown(person)
                plan = connection.execute(_ON_SALE, plan_named).first()
                if plan is None:
                    raise UnknownPlan(
                        f"No plan for {period[:40]!r} is on sale. To see what is: "
                        "buffettsbot plans list"
                    )
                return _enter(connection, customer_id, plan, transaction_hash, now, by)
        except (Raced, IntegrityError):  # the index decided for somebody else; look again
            continue
    raise Conflict("This hash is being claimed by others at the same time. Try again.")


def _enter(
    connection: Connection,
    customer_id: int,
    plan: Row[*tuple[Any, ...]],
    transaction_hash: str,
    now: datetime,
    by: By | None,
) -> Entry | None:
    """Enter a claim that is new; of one that is not, say whose the hash is."""
    what = f"{plan.period} for {plan.price} USDT, {transaction_hash}"
    record = partial(audit.record, connection, by, "subscribers claim", customer_id, what)
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
    number = insert_once(connection, PAYMENT, pending)
    if number is None:
        return _claimed_before(connection, pending, record)
    record()
    return Entry(id=number, **pending)


def _claimed_before(
    connection: Connection, pending: dict[str, Any], record: Callable[[], None]
) -> Entry | None:
    """Of a hash that the ledger knows: return this claim's entry; None where it is another's.

    Raises Raced when what stood in the way is gone: look again.
    """
    claims = claims_of(connection, pending["transaction_hash"])
    parties = pending["customer_id"], pending["plan_id"]
    own = next((c for c in claims if (c.customer_id, c.plan_id) == parties), None)
    live = next((c for c in claims if c.status != "refused"), None)
    if live is not None and live is own:
        return own
    if live is not None:  # another's: a trace stays of who tried, and when
        trace = {
            "status": "refused",
            "reason": Reason.ALREADY_USED,
            "decided_at": pending["claimed_at"],
            "next_check_at": None,
        }
        if insert_once(connection, PAYMENT, pending | trace) is not None:
            record()
        return None
    if own is None:
        raise Raced
    if own.reason == Reason.REJECTED:  # a person's no is not asked again
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
