"""Plans and people of the original are entered; whoever is here already stays as they are."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import bindparam, func, select
from sqlalchemy.engine import Connection

from buffettsbot.core.from_django.oddities import Odd
from buffettsbot.core.from_django.rows import Offer, Person, read_plan, read_user
from buffettsbot.core.from_django.run import Run, Tally
from buffettsbot.core.from_django.source import RawPlan, RawUser
from buffettsbot.core.members.standing import Raced
from buffettsbot.core.storage.models import PLAN, TELEGRAM_USER
from buffettsbot.core.storage.statements import insert_once, insert_rows_once


def bring_plans(run: Run, raws: Sequence[RawPlan]) -> None:
    """Put the original's plans on sale here, each period once."""
    offers: dict[str, Offer] = {}
    odd: list[Odd] = []
    for raw in raws:
        offer, oddities = read_plan(raw)
        odd += oddities
        if offer is not None and offers.setdefault(offer.period, offer) is not offer:
            odd.append(Odd("plan-shared", f"plan {raw.period!r}", f"{raw.price} USDT"))

    def enter(connection: Connection, tally: Tally) -> bool:
        tally.odd += odd
        here = {row.period: row for row in connection.execute(select(PLAN))}
        new = 0
        for offer in offers.values():
            known = here.get(offer.period)
            if known is None:
                new += 1
                if not run.dry_run:
                    insert_once(connection, PLAN, asdict(offer))
            elif (known.price, known.is_active) != (offer.price, offer.is_active):
                tally.odd.append(_differs(offer, known))
        tally.counts.update(
            plans_read=len(raws),
            plans_new=new,
            plans_known=len(offers) - new,
            plans_left_out=len(raws) - len(offers),
        )
        return new > 0

    run.page(enter)


def _differs(offer: Offer, known: Any) -> Odd:
    there, here = (
        f"{plan.price} USDT{'' if plan.is_active else ', not on sale'}" for plan in (offer, known)
    )
    return Odd("plan-changed-here", f"plan {offer.period!r}", f"there {there}; here {here}")


def bring_people(run: Run, raws: Sequence[RawUser]) -> None:
    """Enter a page of people. A name belongs to whoever has it here, then to who joined last."""
    people: dict[int, Person] = {}
    odd: list[Odd] = []
    for raw in raws:
        person, oddities = read_user(raw, run.now)
        odd += oddities
        if person is not None:
            people.setdefault(person.chat_id, person)

    def enter(connection: Connection, tally: Tally) -> bool:
        here = {row.chat_id: row for row in connection.execute(_HERE, {"ids": list(people)})}
        holders = _holders(connection, people)
        tally.odd += odd
        fresh = []
        for wanted in people.values():
            person = _named(wanted, run.names, holders, tally)
            if person.chat_id not in here:
                fresh.append(asdict(person))
            else:
                tally.odd += _changed(person, here[person.chat_id])
        tally.counts.update(
            users_read=len(raws),
            users_new=len(fresh),
            users_known=len(people) - len(fresh),
            users_left_out=len(raws) - len(people),
        )
        if not run.dry_run and insert_rows_once(connection, TELEGRAM_USER, fresh) != len(fresh):
            raise Raced
        return bool(fresh)

    run.page(enter)


_HERE = select(TELEGRAM_USER).where(TELEGRAM_USER.c.chat_id.in_(bindparam("ids", expanding=True)))
_LOWER = func.lower(TELEGRAM_USER.c.telegram_username)
_HOLDERS = select(_LOWER, TELEGRAM_USER.c.chat_id).where(
    _LOWER.in_(bindparam("names", expanding=True))
)


def _holders(connection: Connection, people: Mapping[int, Person]) -> dict[str, int]:
    """Return who holds here the names that these people want, in lower case."""
    names = {p.telegram_username.lower() for p in people.values() if p.telegram_username}
    return dict(connection.execute(_HOLDERS, {"names": list(names)}).all())


def _named(person: Person, names: dict[str, int], holders: dict[str, int], tally: Tally) -> Person:
    """Return the person with the name they wanted, or without it, which is odd."""
    if person.telegram_username is None:
        return person
    name = person.telegram_username.lower()
    last = names.setdefault(name, person.chat_id)
    holder = holders.get(name, last)
    if holder == person.chat_id:
        return person
    kind = "username-shared" if holder == last else "username-taken"
    detail = f"@{person.telegram_username} is user {holder}"
    tally.odd.append(Odd(kind, f"user {person.chat_id}", detail))
    return replace(person, telegram_username=None)


def _changed(person: Person, known: Any) -> list[Odd]:
    differing = [
        f"{name}: there {getattr(person, name)!r}, here {getattr(known, name)!r}"
        for name in ("telegram_username", "first_name", "last_name", "is_staff")
        if getattr(person, name) != getattr(known, name)
    ]
    if not differing:
        return []
    return [Odd("changed-here", f"user {person.chat_id}", "; ".join(differing))]
