"""Who belongs to the group: what is wrong with a person's place there, and how it is fixed.

`people` are rows of what the database knows; `judge` compares one with what Telegram says, and is
pure. Each fix is one transaction that looks again, and queues rather than does.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import and_, bindparam, func, or_, select, update
from sqlalchemy.engine import Connection

from buffettsbot.core.members import users
from buffettsbot.core.members.notices import INVITING, members_to_tell, not_queued, notice
from buffettsbot.core.members.standing import has_undecided, runs_at
from buffettsbot.core.outbox import queue as outbox
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import OUTBOX, SUBSCRIPTION, TELEGRAM_USER
from buffettsbot.core.telegram.group import Presence

INVITED_LATELY = timedelta(days=1)


class Problem(StrEnum):
    """What is wrong with somebody's place."""

    NO_MEMBERSHIP = "no-membership"
    NOT_IN_GROUP = "not-in-group"
    BANNED = "banned"
    WRONG_FLAG = "wrong-flag"
    NOT_ASKED = "not-asked"


class Action(StrEnum):
    """What is done about it; or why nothing is: it is under way, another's work, or a person's."""

    REMOVE = "remove"
    INVITE = "invite"
    SET_FLAG = "set-flag"
    REMOVAL_QUEUED = "removal-queued"
    INVITED = "invited"
    BY_EXPIRE = "pass-expire"
    BY_HAND = "by-hand"


def people(db: Database, after: int, size: int, *, now: datetime) -> Sequence[Any]:
    """Return the people after a chat id, each with all that is known about their place."""
    theirs = OUTBOX.c.chat_id == TELEGRAM_USER.c.chat_id
    removal = select(OUTBOX.c.id).where(theirs, OUTBOX.c.kind == "remove")
    still_fresh = or_(OUTBOX.c.status == "queued", OUTBOX.c.sent_at > now - INVITED_LATELY)
    invitation = select(OUTBOX.c.id).where(theirs, OUTBOX.c.kind.in_(INVITING), still_fresh)
    last_removal = select(func.max(OUTBOX.c.id)).where(
        theirs, OUTBOX.c.kind == "remove", OUTBOX.c.status != "queued"
    )
    page = (
        select(
            TELEGRAM_USER.c.chat_id,
            TELEGRAM_USER.c.telegram_username,
            TELEGRAM_USER.c.is_staff,
            TELEGRAM_USER.c.at_private_group,
            SUBSCRIPTION.c.end_date,
            SUBSCRIPTION.c.expired_at,
            has_undecided(TELEGRAM_USER.c.chat_id).label("undecided"),
            removal.where(OUTBOX.c.status == "queued").exists().label("removing"),
            last_removal.scalar_subquery().label("last_removal"),
            or_(invitation.exists(), ~not_queued(db, "invitation")).label("invited"),
        )
        .outerjoin(SUBSCRIPTION, SUBSCRIPTION.c.customer_id == TELEGRAM_USER.c.chat_id)
        .where(TELEGRAM_USER.c.chat_id > after)
        .order_by(TELEGRAM_USER.c.chat_id)
        .limit(size)
    )
    with db.read() as session:
        return session.execute(page).all()


def judge(person: Any, found: Presence, now: datetime) -> tuple[Problem, Action] | None:
    """Given what is known of somebody, return what is wrong and what to do; None for nothing."""
    stands = person.end_date is not None and person.expired_at is None
    runs = stands and person.end_date > now
    is_exempt = person.is_staff or found.is_admin or found.is_bot or person.undecided
    wrong_flag = person.at_private_group != found.is_in
    if found.is_in and not runs and not is_exempt:
        if stands:  # its time is up: `expire` ends it, with word to everyone
            return Problem.NO_MEMBERSHIP, Action.BY_EXPIRE
        return Problem.NO_MEMBERSHIP, Action.REMOVAL_QUEUED if person.removing else Action.REMOVE
    if runs and not found.is_in:
        if found.status == "kicked":
            return Problem.BANNED, Action.SET_FLAG if wrong_flag else Action.BY_HAND
        if not person.invited:
            return Problem.NOT_IN_GROUP, Action.INVITE
        return Problem.NOT_IN_GROUP, Action.SET_FLAG if wrong_flag else Action.INVITED
    return (Problem.WRONG_FLAG, Action.SET_FLAG) if wrong_flag else None


def fix(db: Database, person: Any, found: Presence, action: Action, *, now: datetime) -> bool:
    """Do what is to be done about somebody; return whether it was, and is not another's work."""
    if action is Action.REMOVE:
        return remove(db, person, now=now)
    if action is Action.INVITE:
        return invite(db, person, now=now)
    if action is Action.SET_FLAG:
        return set_flag(db, person, is_in=found.is_in)
    return False


def remove(db: Database, person: Any, *, now: datetime) -> bool:
    """Queue a removal, unless something changed; return whether it was.

    The key names the removal before this one: while one waits, it is this very one; when it is
    over and they are in the group again, it is another.
    """
    with db.begin() as session:
        connection = session.connection()
        users.lock(connection, person.chat_id)
        if connection.execute(_OUT, {"person": person.chat_id}).first() is None:
            return False
        _note_presence(connection, person, is_in=False)
        return outbox.queue(
            connection,
            key=f"remove:{person.chat_id}:audit:{person.last_removal or 0}",
            kind="remove",
            chat_id=person.chat_id,
            payload={"chat_id": person.chat_id, "telegram_username": person.telegram_username},
            now=now,
        )


# Nobody whom the database says to leave alone: looked at again, for minutes may have passed.
_OUT = select(TELEGRAM_USER.c.chat_id).where(
    TELEGRAM_USER.c.chat_id == bindparam("person"),
    ~TELEGRAM_USER.c.is_staff,
    ~has_undecided(TELEGRAM_USER.c.chat_id),
    ~select(SUBSCRIPTION.c.customer_id)
    .where(
        SUBSCRIPTION.c.customer_id == TELEGRAM_USER.c.chat_id, SUBSCRIPTION.c.expired_at.is_(None)
    )
    .exists(),
)


def invite(db: Database, person: Any, *, now: datetime) -> bool:
    """Queue an invitation, once in a paid period; return whether it was queued."""
    theirs = and_(SUBSCRIPTION.c.customer_id == person.chat_id, runs_at(now))
    with db.begin() as session:
        connection = session.connection()
        if not _note_presence(connection, person, is_in=False):  # they joined meanwhile
            return False
        invitations = [
            notice("invitation", member) for member in members_to_tell(connection, theirs)
        ]
        return outbox.queue_all(connection, invitations, now=now) > 0


def set_flag(db: Database, person: Any, *, is_in: bool) -> bool:
    """Write down whether somebody is in, unless that changed meanwhile; return whether it was."""
    with db.begin() as session:
        return _note_presence(session.connection(), person, is_in=is_in)


def _note_presence(connection: Connection, person: Any, *, is_in: bool) -> bool:
    seen = {"person": person.chat_id, "seen": person.at_private_group}
    return (
        connection.execute(_NOTE_PRESENCE, seen | {"at_private_group": is_in}).first() is not None
    )


_NOTE_PRESENCE = (
    update(TELEGRAM_USER)
    .where(
        TELEGRAM_USER.c.chat_id == bindparam("person"),
        TELEGRAM_USER.c.at_private_group == bindparam("seen"),
    )
    .returning(TELEGRAM_USER.c.chat_id)
)
