"""A transaction hash becomes a membership.

Written down (pending) → the chain is asked, outside any transaction → judged → settled. Whatever
dies between, the settle pass finishes; whoever races, the ledger's unique index decides.
"""

from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import String, bindparam, literal, select, true, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError
from sqlmodel import UTCDateTime

from buffettsbot.core.chain.judge import Expectation, Reason, verdict_of
from buffettsbot.core.chain.sources import Chain
from buffettsbot.core.errors import Conflict, Invalid, UnknownPlan
from buffettsbot.core.hashes import parse_hash
from buffettsbot.core.ledger.payments import ENTRY, Entry
from buffettsbot.core.ledger.settlement import (
    FIRST_CHECK,
    Outcome,
    ask_and_settle,
    backoff,
    outcome_of,
)
from buffettsbot.core.members.users import NAMED, find, parse_person
from buffettsbot.core.offers.plans import parse_period
from buffettsbot.core.storage import audit
from buffettsbot.core.storage.audit import By
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import PAYMENT, PLAN, TELEGRAM_USER
from buffettsbot.core.storage.statements import RACES, each_once, insert_once

JUST_ASKED = timedelta(seconds=5)


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
    NotFound for an unknown person or plan, Unavailable when the database is away.
    """
    try:
        transaction_hash = parse_hash(transaction_hash)
    except Invalid:
        return Outcome(verdict_of(Reason.MALFORMED_HASH))
    payment, ours = _write_down(db, person, period, transaction_hash, now, by)
    if not ours:
        return Outcome(verdict_of(Reason.ALREADY_USED), transaction_hash)
    if chain is None or not _to_be_asked(payment, now):
        return outcome_of(payment, now)
    tell = payment.attempts > 0
    return ask_and_settle(db, chain, expectation, payment, now=now, tell=tell)


def _to_be_asked(payment: Entry, now: datetime) -> bool:
    if payment.status != "pending" or payment.next_check_at is None:
        return False
    asked_at = payment.next_check_at - backoff(payment.attempts)
    return payment.attempts == 0 or now - asked_at >= JUST_ASKED


def _write_down(
    db: Database,
    person: str | int,
    period: str,
    transaction_hash: str,
    now: datetime,
    by: By | None,
) -> tuple[Entry, bool]:
    """Return the claim's entry in the ledger, and whether the hash is this claim's."""
    way, named = parse_person(person)
    named |= {"period": parse_period(period), "hash": transaction_hash}
    named |= {"now": now, "next_check": now + FIRST_CHECK}
    for _ in range(RACES):
        entered = _enter(db, way, named, by)
        if entered is not None:
            return entered, True
        try:
            with db.begin() as session:
                connection = session.connection()
                parties = connection.execute(_PARTIES[way], named).first()
                if parties is None:
                    find(session, person)
                    raise UnknownPlan(
                        f"No plan for {period[:40]!r} is on sale. To see what is: "
                        "buffettsbot plans list"
                    )
                found = _entered_before(connection, tuple(parties), transaction_hash, now)
                if found is not None and found.new:
                    _log_claim(connection, by, parties.chat_id, named, parties.price)
        except IntegrityError:  # the index decided for somebody else; look again
            continue
        if found is not None:
            return found.entry, found.ours
    raise Conflict("This hash is being claimed by others at the same time. Try again.")


_PARTIES = {
    way: select(TELEGRAM_USER.c.chat_id, PLAN.c.id, PLAN.c.price)
    .join(PLAN, true())
    .where(named, PLAN.c.period == bindparam("period"), PLAN.c.is_active)
    for way, named in NAMED.items()
}
_ENTER = {
    way: each_once(
        PAYMENT,
        parties.with_only_columns(
            bindparam("hash", type_=String()).label("transaction_hash"),
            TELEGRAM_USER.c.chat_id.label("customer_id"),
            PLAN.c.id.label("plan_id"),
            PLAN.c.price,
            literal("pending").label("status"),
            literal(str(Reason.SOURCE_UNAVAILABLE)).label("reason"),
            bindparam("now", type_=UTCDateTime()).label("claimed_at"),
            literal(0).label("attempts"),
            bindparam("next_check", type_=UTCDateTime()).label("next_check_at"),
        ),
        returning=ENTRY,
    )
    for way, parties in _PARTIES.items()
}
CLAIMS = (
    select(*ENTRY).where(PAYMENT.c.transaction_hash == bindparam("hash")).order_by(PAYMENT.c.id)
)
_REOPEN = (
    update(PAYMENT)
    .where(PAYMENT.c.id == bindparam("payment"), PAYMENT.c.status == "refused")
    .values(decided_at=None)
    .returning(*ENTRY)
)


def _enter(db: Database, way: str, named: dict[str, Any], by: By | None) -> Entry | None:
    """Enter a claim of a hash that the ledger does not know; None when it does, or nobody is meant.

    One statement, a transaction by itself; what a person does by hand comes with its audit row.
    """
    enter = _ENTER[way][db.engine.dialect.name]
    if by is None:
        row = db.execute_alone(enter, named)
        return row and Entry._make(row)
    with db.begin() as session:
        connection = session.connection()
        row = connection.execute(enter, named).first()
        if row is not None:
            _log_claim(connection, by, row.customer_id, named, row.price)
        return row and Entry._make(row)


def _log_claim(
    connection: Connection, by: By | None, customer_id: int, named: dict[str, Any], price: int
) -> None:
    what = f"{named['period']} for {price} USDT, {named['hash']}"
    audit.record(connection, by, "subscribers claim", customer_id, what)


class _Entered(NamedTuple):
    """A hash in the ledger: whether it is this claim's, and whether anything was written."""

    entry: Entry
    ours: bool
    new: bool


def _entered_before(
    connection: Connection, parties: tuple[int, int, int], transaction_hash: str, now: datetime
) -> _Entered | None:
    """Say whose a hash is that the ledger knows; None when what stood in the way is gone."""
    customer_id, plan_id, price = parties
    row: dict[str, Any] = {
        "transaction_hash": transaction_hash,
        "customer_id": customer_id,
        "plan_id": plan_id,
        "price": price,
        "status": "pending",
        "reason": Reason.SOURCE_UNAVAILABLE,
        "claimed_at": now,
        "attempts": 0,
        "next_check_at": now + FIRST_CHECK,
    }
    known = [Entry._make(found) for found in connection.execute(CLAIMS, {"hash": transaction_hash})]
    own = next((e for e in known if (e.customer_id, e.plan_id) == (customer_id, plan_id)), None)
    live = next((entry for entry in known if entry.status != "refused"), None)
    if live is not None:
        if live is own:
            return _Entered(live, ours=True, new=False)
        trace = insert_once(connection, PAYMENT, _refused_at_once(row))
        return _Entered(live, ours=False, new=trace is not None)
    if own is None:
        return None
    if own.reason == Reason.REJECTED:
        return _Entered(own, ours=True, new=False)  # a person's no is not asked again
    reopened = connection.execute(_REOPEN, row | {"payment": own.id}).first()
    return None if reopened is None else _Entered(Entry(*reopened), ours=True, new=True)


def _refused_at_once(row: dict[str, Any]) -> dict[str, Any]:
    """The trace of somebody who claims what is another's: who, when, which plan."""
    return row | {
        "status": "refused",
        "reason": Reason.ALREADY_USED,
        "decided_at": row["claimed_at"],
        "next_check_at": None,
    }
