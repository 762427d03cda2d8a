"""A person decides what the blockchain cannot: what is pending or held is approved or rejected."""

from datetime import datetime

from sqlalchemy import bindparam, select

from buffettsbot.core.chain.judge import Reason
from buffettsbot.core.errors import Conflict
from buffettsbot.core.hashes import parse_hash
from buffettsbot.core.ledger.payments import ENTRY, Entry, nothing_open
from buffettsbot.core.ledger.settlement import (
    Outcome,
    Overtaken,
    outcome_of,
    record_verdict,
    recorded,
)
from buffettsbot.core.members.standing import Raced
from buffettsbot.core.storage import audit
from buffettsbot.core.storage.audit import By
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import OPEN, PAYMENT
from buffettsbot.core.storage.statements import RACES


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
                verdict = recorded(payment, reason)
                decided = record_verdict(connection, payment, verdict, now=now)
                action = "payments approve" if accept else "payments reject"
                audit.record(connection, By(actor, now), action, transaction_hash, why)
                return outcome_of(decided, now, verdict)
        except (Raced, Overtaken):
            continue
    raise Conflict("This payment is being decided by others. Look at it again.")


_OPEN = select(*ENTRY).where(
    PAYMENT.c.transaction_hash == bindparam("hash"), PAYMENT.c.status.in_(OPEN)
)
