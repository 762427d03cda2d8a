"""Who is known: people whom Telegram vouches for, found by chat id or by name."""

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, bindparam, func, or_, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from buffettsbot.core.errors import Conflict, Invalid, UnknownUser
from buffettsbot.core.storage import audit
from buffettsbot.core.storage.audit import By
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import TELEGRAM_USER, TelegramUser
from buffettsbot.core.storage.statements import RACES, insert_once, paged

LARGEST_ID = 2**52 - 1  # Telegram's own promise: at most 52 significant bits
LONGEST_NAME = 64

_USERNAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,31}", re.ASCII)

# The ways in which a person is named, as conditions on the parameter `person`.
NAMED = {
    "id": TELEGRAM_USER.c.chat_id == bindparam("person"),
    "name": func.lower(TELEGRAM_USER.c.telegram_username) == bindparam("person"),
}
# What a notice says of a person.
PERSON = (
    TELEGRAM_USER.c.chat_id,
    TELEGRAM_USER.c.telegram_username,
    TELEGRAM_USER.c.first_name,
    TELEGRAM_USER.c.last_name,
)
_LOCK = select(TELEGRAM_USER.c.chat_id).where(NAMED["id"]).with_for_update(key_share=True)
_WAIT_FOR_NAME = select(func.pg_advisory_xact_lock(func.hashtext(bindparam("name"))))


def parse_username(text: str) -> str:
    """Given a name with or without `@` or quotes, return it bare. Raises Invalid."""
    bare = text.strip().strip("\"'").strip().removeprefix("@")
    if not _USERNAME.fullmatch(bare):
        raise Invalid(
            "A Telegram username has up to 32 letters, digits and underscores, "
            "and begins with a letter."
        )
    return bare


def parse_chat_id(text: str | int) -> int:
    """Given a chat id as a number or as digits, return the number. Raises Invalid."""
    digits = str(text).strip()
    chat_id = int(digits) if re.fullmatch(r"\d{1,16}", digits, re.ASCII) else 0
    if not 0 < chat_id <= LARGEST_ID:
        raise Invalid("A chat id is a whole number above 0, as Telegram gives it.")
    return chat_id


def parse_display_name(name: str) -> str:
    """Given a first or last name, return it without what no database holds. Raises Invalid."""
    clean = name.replace("\0", "").strip()
    if len(clean) > LONGEST_NAME or any("\ud800" <= letter <= "\udfff" for letter in clean):
        raise Invalid(f"A name has at most {LONGEST_NAME} characters.")
    return clean


def parse_person(person: str | int) -> tuple[str, dict[str, Any]]:
    """Given `@username`, `username` or a chat id, return its way in `NAMED` and the parameter.

    Raises UnknownUser for what can be no one's name.
    """
    text = str(person).strip().strip("\"'")
    try:
        if text.isdecimal():
            return "id", {"person": parse_chat_id(text)}
        return "name", {"person": parse_username(text).lower()}
    except Invalid:
        raise unknown(person) from None


def unknown(person: str | int) -> UnknownUser:
    """The error for a person nobody registered."""
    return UnknownUser(
        f"No user {str(person)[:40]!r} is known. People are registered by the bot, or with: "
        "buffettsbot users add CHAT_ID USERNAME"
    )


def find(session: Session, person: str | int) -> TelegramUser:
    """Return the person. Raises UnknownUser."""
    way, named = parse_person(person)
    user = session.exec(select(TelegramUser).where(NAMED[way]), params=named).first()
    if user is None:
        raise unknown(person)
    return user


def lock(connection: Connection, chat_id: int) -> None:
    """Keep others from changing anything about a person until this transaction ends.

    Take it first, and look with the next statement: one that waits for a lock sees what was before.
    """
    connection.execute(_LOCK, {"person": chat_id})


def lock_person(connection: Connection, person: str | int) -> Row[*tuple[Any, ...]]:
    """Return a person's chat id and names, locked as by `lock`. Raises UnknownUser."""
    way, named = parse_person(person)
    query = select(*PERSON).where(NAMED[way]).with_for_update(key_share=True)
    found = connection.execute(query, named).first()
    if found is None:
        raise unknown(person)
    return found


def show_user(db: Database, person: str | int) -> TelegramUser:
    """Return the person. Raises UnknownUser."""
    with db.read() as session:
        return find(session, person)


def list_users(
    db: Database, *, staff_only: bool = False, limit: int | None = None
) -> Iterator[TelegramUser]:
    """Yield everyone by chat id, page by page."""
    query = select(TelegramUser).order_by(col(TelegramUser.chat_id))
    if staff_only:
        query = query.where(col(TelegramUser.is_staff))

    def fetch(last: TelegramUser | None, size: int) -> Sequence[TelegramUser]:
        after = last.chat_id if last else 0
        with db.read() as session:
            return session.exec(query.where(TelegramUser.chat_id > after).limit(size)).all()

    return paged(fetch, limit)


def register(
    db: Database,
    *,
    chat_id: int,
    telegram_username: str | None,
    first_name: str | None = None,
    last_name: str | None = None,
    now: datetime,
    by: By | None = None,
) -> tuple[TelegramUser, bool]:
    """Enter a person, or update the profile of one who is known; return them, and whether new.

    A name that somebody else held moves: Telegram vouches for the new holder. Names not given stay
    as they were. Raises Invalid.
    """
    parse_chat_id(chat_id)
    profile: dict[str, str | None] = {
        "telegram_username": parse_username(telegram_username) if telegram_username else None
    }
    for field, name in (("first_name", first_name), ("last_name", last_name)):
        if name is not None:
            profile[field] = parse_display_name(name)
    for attempt in range(RACES):
        try:
            with db.begin() as session:
                if attempt and not db.is_sqlite:  # those who want one name queue up for it
                    name = (profile["telegram_username"] or "").lower()
                    session.execute(_WAIT_FOR_NAME, {"name": name})
                return _register(session, chat_id, profile, now, by)
        except (IntegrityError, UnknownUser):  # someone took the name in this very moment
            continue
    raise Conflict("Another registration takes this username just now. Try again.")


def _register(
    session: Session,
    chat_id: int,
    profile: dict[str, str | None],
    now: datetime,
    by: By | None,
) -> tuple[TelegramUser, bool]:
    holder = _take_name(session, profile["telegram_username"], chat_id)
    row = {
        "chat_id": chat_id,
        "first_name": "",
        "last_name": "",
        "at_private_group": False,
        "date_joined": now,
        "is_staff": False,
    }
    created = insert_once(session.connection(), TELEGRAM_USER, row | profile) is not None
    changed = created or _update_profile(session, chat_id, profile)
    user = find(session, chat_id)
    if changed:
        taken = f", whose name it was: {holder}" if holder else ""
        audit.record(session.connection(), by, "users add", chat_id, f"{_full_name(user)}{taken}")
    return user, created


def _take_name(session: Session, username: str | None, chat_id: int) -> int | None:
    """Take a username from whoever else holds it; return who that was."""
    if username is None:
        return None
    return session.execute(
        update(TelegramUser)
        .where(
            func.lower(TelegramUser.telegram_username) == username.lower(),
            col(TelegramUser.chat_id) != chat_id,
        )
        .values(telegram_username=None)
        .returning(col(TelegramUser.chat_id))
    ).scalar()


def _update_profile(session: Session, chat_id: int, profile: dict[str, str | None]) -> bool:
    """Write down the profile; return whether it was another."""
    other = (TELEGRAM_USER.c[name].is_distinct_from(value) for name, value in profile.items())
    changed = session.execute(
        update(TELEGRAM_USER)
        .where(TELEGRAM_USER.c.chat_id == chat_id, or_(*other))
        .values(**profile)
        .returning(TELEGRAM_USER.c.chat_id)
    )
    return changed.scalar() is not None


def _full_name(user: TelegramUser) -> str:
    handle = f"@{user.telegram_username}" if user.telegram_username else ""
    return " ".join(filter(None, (handle, user.first_name, user.last_name)))


def set_staff(
    db: Database, person: str | int, *, is_staff: bool, by: By | None = None
) -> TelegramUser:
    """Promote or demote; staff receive the admin notices. Raises UnknownUser; repeating is
    harmless."""
    with db.begin() as session:
        user = find(session, person)
        changed: TelegramUser | None = session.scalars(
            update(TelegramUser)
            .where(
                col(TelegramUser.chat_id) == user.chat_id, col(TelegramUser.is_staff) != is_staff
            )
            .values(is_staff=is_staff)
            .returning(TelegramUser)
        ).first()
        if changed is None:
            return user
        action = "users promote" if is_staff else "users demote"
        audit.record(session.connection(), by, action, changed.chat_id, _full_name(changed))
    return changed
