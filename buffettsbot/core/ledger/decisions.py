"""A person decides what the blockchain cannot: what is pending or held is approved or rejected."""

from datetime import datetime

from sqlalchemy.engine import Connection

from buffettsbot.core.chain.judge import Reason
from buffettsbot.core.errors import Conflict
from buffettsbot.core.hashes import parse_hash
from buffettsbot.core.ledger.outcome import Outcome, outcome_of, verdict_in_ledger
from buffettsbot.core.ledger.payments import Entry, claims_of, nothing_open
from buffettsbot.core.ledger.settlement import Overtaken, record_verdict
from buffettsbot.core.members.standing import Raced
from buffettsbot.core.storage import audit
from buffettsbot.core.storage.audit import By
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import OPEN
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
    action = "payments approve" if accept else "payments reject"
    for _ in range(RACES):
        try:
            with db.begin() as session:
                connection = session.connection()
                payment = _open_claim(connection, transaction_hash, seen)
                verdict = verdict_in_ledger(payment, reason)
                decided = record_verdict(
                    connection, payment, verdict, answers=None, now=now, tell=True
                )
                audit.record(connection, By(actor, now), action, transaction_hash, why)
            return outcome_of(decided, now, verdict)
        except (Raced, Overtaken):
            continue
    raise Conflict("This payment is being decided by others. Look at it again.")


def _open_claim(connection: Connection, transaction_hash: str, seen: int | None) -> Entry:
    """Return the one claim of a hash that is to be decided. Raises NotFound, Conflict."""
    for claim in claims_of(connection, transaction_hash):
        if claim.status in OPEN:
            if seen is not None and claim.id != seen:
                raise Conflict("Another claims this hash now. Look at it again.")
            return claim
    raise nothing_open()
