"""Somebody asks to join the group: members are let in, everyone else is turned away.

The decision is a short look at the database; Telegram is asked outside any transaction; then it is
written down, if it still holds. Whoever lost the membership between is queued to be taken out.
A payment that is not decided is no membership yet: its owner is turned away, loses nothing, and
gets an invitation of their own with the welcome. A request left standing would lock them out:
Telegram announces each only once.
"""

import math
from datetime import datetime

from sqlalchemy import bindparam, select, update

from buffettsbot.core.errors import Conflict, Unavailable
from buffettsbot.core.members import users
from buffettsbot.core.members.standing import runs_at
from buffettsbot.core.outbox import queue as outbox
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import SUBSCRIPTION, TELEGRAM_USER
from buffettsbot.core.telegram import group
from buffettsbot.core.telegram.bot import Misconfigured, Refused, Telegram, TelegramError, Throttled

FIXED_BY_HAND = 60  # seconds: a person has to do something first
IN_TROUBLE = 5


def answer_request(db: Database, telegram: Telegram | None, *, chat_id: int, now: datetime) -> bool:
    """Answer a request to join, at Telegram too; return whether they are let in.

    The same request again is answered the same. Raises Unavailable while Telegram or the database
    cannot be asked, or no group is configured; Conflict when Telegram will not have this person.
    """
    if telegram is None or telegram.group is None:
        raise Unavailable(
            "This service does not run the group: set BUFFETTSBOT_TELEGRAM_TOKEN and "
            "BUFFETTSBOT_GROUP_ID, and start it again.",
            FIXED_BY_HAND,
        )
    with db.read() as session:
        member = session.scalar(_RUNNING, {"customer": chat_id, "now": now}) is not None
    try:
        if not member:
            group.decline(telegram, chat_id)
            return False
        is_in = group.approve(telegram, chat_id)
    except TelegramError as error:
        raise _explain(error) from None
    return _note_in(db, chat_id, now) if is_in else True


_RUNNING = select(SUBSCRIPTION.c.customer_id).where(
    SUBSCRIPTION.c.customer_id == bindparam("customer"), runs_at(bindparam("now"))
)
_NOTE_IN = (
    update(TELEGRAM_USER)
    .where(TELEGRAM_USER.c.chat_id == bindparam("customer"), _RUNNING.exists())
    .values(at_private_group=True)
    .returning(TELEGRAM_USER.c.chat_id)
)


def _note_in(db: Database, chat_id: int, now: datetime) -> bool:
    """Write down that a member is in; return False for one whose membership ended meanwhile, who is
    to be taken out."""
    with db.begin() as session:
        connection = session.connection()
        users.lock(connection, chat_id)
        if connection.execute(_NOTE_IN, {"customer": chat_id, "now": now}).first() is not None:
            return True
        outbox.queue(
            connection,
            key=f"remove:{chat_id}:join:{now.isoformat()}",
            kind="remove",
            chat_id=chat_id,
            payload={"chat_id": chat_id},
            now=now,
        )
    return False


def _explain(error: TelegramError) -> Unavailable | Conflict:
    if isinstance(error, Throttled):
        return Unavailable(f"{error}.", math.ceil(error.retry_after))
    if isinstance(error, Refused):
        return Conflict(f"They have a membership, but Telegram does not let them in ({error}).")
    if isinstance(error, Misconfigured):
        return Unavailable(str(error), FIXED_BY_HAND)
    return Unavailable(f"{error}. Pass the request on again.", IN_TROUBLE)
