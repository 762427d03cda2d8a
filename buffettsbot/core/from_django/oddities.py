"""What was odd about the original's rows, and what is done about each kind of it.

An `Odd` never stops anything: it says which row was not what it should be.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from buffettsbot.core.members.users import LONGEST_NAME
from buffettsbot.core.offers.plans import HIGHEST_PRICE

KINDS = {
    "zoneless-times": "times without a zone; read as UTC",
    "bad-chat-id": "no chat id of a person; not imported",
    "bad-username": "no username of Telegram's; imported without one",
    "username-rewritten": "username written otherwise; imported bare",
    "username-shared": "somebody who joined later has this name; imported without one",
    "username-taken": "somebody else has this name here; imported without one",
    "long-name": f"a name of more than {LONGEST_NAME} characters; cut",
    "no-group-flag": "not said whether in the group; taken as no",
    "bad-join-date": "no date of joining; the time of the import instead",
    "changed-here": "not as it is here; left as it is here",
    "unknown-period": "a plan that is not sold here; not imported",
    "plan-shared": "a second plan for the same period; the first counts",
    "bad-price": f"a price that is not 1 to {HIGHEST_PRICE:,}; imported, but not on sale",
    "plan-changed-here": "a plan that is not as it is here; left as it is here",
    "no-customer": "a subscription of nobody; its hash is burnt, nobody becomes a member",
    "unknown-customer": "a customer without a row of their own; known by chat id alone",
    "no-plan": "a subscription without a plan of ours; a member without a plan",
    "plan-from-length": "a subscription without a plan of ours; the plan is that of its length",
    "bad-dates": "no time that was bought; its hash is burnt, nobody becomes a member",
    "hash-rewritten": "a hash spelled otherwise; burnt in its one form",
    "bad-hash": "no transaction hash; burnt as it is",
    "hash-shared": "a hash that bought for somebody else before; not a member, decide by hand",
    "hash-used-here": "a hash that bought for somebody else here; not a member, decide by hand",
    "hash-open-here": "a hash that is pending or held here; import again once it is decided",
    "sold-again": "a hash that has bought already; the later end does not count, decide by hand",
    "ended-in-group": "time is up, but still in the group; the next `pass expire` ends it",
    "paid-not-in-group": "time runs, but not in the group; `pass audit-group --fix` invites them",
}


@dataclass(frozen=True)
class Odd:
    """One row that was not what it should be: of which kind, which row, and what it holds."""

    kind: str
    row: str
    detail: str = ""


def kinds_in_order(odd: list[Odd]) -> Iterator[tuple[str, list[Odd]]]:
    """Yield each kind that occurs, and its rows."""
    for kind in KINDS:
        rows = [one for one in odd if one.kind == kind]
        if rows:
            yield kind, rows
