"""What a run tells the admins in sum: right at any moment, whoever sends it meanwhile."""

from typing import Any

import pytest
from helpers import MINUTE, NOW, in_parallel, rows, staff
from sqlalchemy import update
from sqlmodel import col

from buffettsbot.core.outbox.staff import Digest
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import Outbox


def add(db: Database, digest: Digest, **counts: Any) -> None:
    with db.begin() as session:
        digest.add(session.connection(), counts, NOW)


def told(db: Database) -> list[tuple[int, dict[str, Any]]]:
    return [(row.chat_id, row.payload) for row in rows(db, Outbox)]


def test_while_it_waits_it_grows(db: Database) -> None:
    staff(db, 900, 901)
    digest = Digest("digest-remind")
    add(db, digest, told=2, by_days={"1": 2})
    add(db, digest, told=3, by_days={"3": 3})
    add(db, digest, told=1, by_days={"1": 1})
    whole = {"told": 6, "by_days": {"1": 3, "3": 3}}
    assert told(db) == [(900, whole), (901, whole)]


@pytest.mark.parametrize(
    "taken", [{"status": "sent"}, {"status": "cancelled"}, {"leased_until": NOW + MINUTE}]
)
def test_once_one_admin_s_is_on_its_way_another_begins_for_them(
    db: Database, taken: dict[str, Any]
) -> None:
    staff(db, 900, 901)
    digest = Digest("digest-expire")
    add(db, digest, ended=2)
    with db.begin() as session:
        session.execute(update(Outbox).where(col(Outbox.chat_id) == 900).values(**taken))
    add(db, digest, ended=3)
    add(db, digest, ended=4)
    assert told(db) == [(900, {"ended": 2}), (900, {"ended": 7}), (901, {"ended": 9})]


def test_it_is_undone_with_what_it_tells_of(db: Database) -> None:
    staff(db, 900)
    digest = Digest("digest-expire")
    add(db, digest, ended=2)
    with pytest.raises(ZeroDivisionError), db.begin() as session:
        digest.add(session.connection(), {"ended": 1}, NOW)
        raise ZeroDivisionError
    assert told(db) == [(900, {"ended": 2})]
    add(db, digest, ended=4)
    assert told(db) == [(900, {"ended": 2}), (900, {"ended": 4})]


def test_runs_at_once_each_tell_their_own(db: Database) -> None:
    staff(db, 900)

    def run(number: int) -> None:
        digest = Digest("digest-expire")
        for _ in range(5):
            add(db, digest, ended=number)

    assert in_parallel(4, run) == [None] * 4
    assert sorted(payload["ended"] for _, payload in told(db)) == [0, 5, 10, 15]


def test_the_first_names_are_enough_and_the_count_is_whole(db: Database) -> None:
    staff(db, 900)
    digest = Digest("digest-deliver")
    for number in range(25):
        add(db, digest, failed=1, people=[{"chat_id": number}])
    ((_, payload),) = told(db)
    assert payload["failed"] == 25
    assert payload["people"] == [{"chat_id": number} for number in range(20)]
