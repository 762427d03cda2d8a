"""A membership as people read it: the columns of a list, and the facts of one."""

from collections.abc import Mapping
from typing import Any
from zoneinfo import ZoneInfo

from buffettsbot.cli.shared.facts import field, moment, person, when
from buffettsbot.cli.shared.table import Column
from buffettsbot.core.hashes import GRANT
from buffettsbot.core.members.memberships import Member


def membership_columns(zone: ZoneInfo) -> tuple[Column, ...]:
    """Return the columns of a list of memberships."""
    return (
        person(),
        field("plan", "plan"),
        Column("price", _price, right=True, yields=2),
        moment("ends", "end_date", zone),
        field("status", "status", coloured=True),
        field("in group", "at_private_group"),
    )


def membership_facts(member: Member | None, zone: ZoneInfo) -> list[tuple[str, str]]:
    """Return the named facts of one membership; None is somebody who never had one."""
    if member is None:
        return [("membership", "none yet")]
    return [
        ("status", member.status),
        ("plan", _plan(member)),
        ("since", when(member.start_date, zone)),
        ("ends", when(member.end_date, zone)),
        ("hash", member.transaction_hash),
        ("in group", "yes" if member.at_private_group else "no"),
    ]


def _price(row: Mapping[str, Any]) -> str:
    if row["transaction_hash"].startswith(GRANT):
        return "granted"
    return "–" if row["price"] is None else str(row["price"])


def _plan(member: Member) -> str:
    if not member.transaction_hash.startswith(GRANT):
        return member.plan or "–"
    return f"{member.plan} (granted)" if member.plan else "granted"
