"""The expire pass, on both databases: promise 6, who has not paid leaves, who has paid stays."""

from datetime import timedelta

import pytest
from helpers import (
    DAY,
    EXPECTATION,
    MINUTE,
    NOW,
    buy,
    fake_chain,
    hash_of,
    in_parallel,
    member,
    membership,
    paid,
    person,
    rows,
    staff,
    user,
)
from sqlalchemy import update

from buffettsbot.core.errors import NotAllowed
from buffettsbot.core.ledger.claims import claim
from buffettsbot.core.ledger.settle import settle
from buffettsbot.core.members import spans as sweeps
from buffettsbot.core.members.expiry import due_expiries, expire
from buffettsbot.core.members.reminders import remind
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import Outbox, TelegramUser
from buffettsbot.core.storage.passes import Report

END = NOW + 30 * DAY
LATE = END + MINUTE


def run(db: Database, **options: object) -> Report:
    settings: dict[str, object] = {"now": LATE, "guard": 0.2, "group": False} | options
    return expire(db, **settings)  # type: ignore[arg-type]


def effects(db: Database, chat_id: int | None = None) -> list[tuple[str, int]]:
    """What the pass queued: kind and receiver."""
    kinds = ("expired", "remove", "admin-delete", "digest-expire")
    return [
        (row.kind, row.chat_id)
        for row in rows(db, Outbox)
        if row.kind in kinds and chat_id in (None, row.chat_id)
    ]


def test_a_membership_ends_at_its_end_and_not_before(db: Database) -> None:
    member(db)
    assert run(db, now=END - timedelta(microseconds=1)).done == 0
    assert membership(db).expired_at is None
    assert run(db, now=END).done == 1
    assert membership(db).expired_at == END
    assert effects(db) == [("expired", 7)]


def test_it_ends_once_however_often_the_pass_runs(db: Database) -> None:
    staff(db, 900)
    member(db)
    assert [run(db, now=LATE + n * MINUTE).done for n in range(3)] == [1, 0, 0]
    assert effects(db) == [("expired", 7), ("admin-delete", 900), ("digest-expire", 900)]


def test_it_works_with_no_admin_and_tells_each_of_many(db: Database) -> None:
    member(db)
    member(db, 8, "ben", now=NOW + DAY)
    assert run(db).done == 1
    assert effects(db) == [("expired", 7)]
    staff(db, 900, 901, 902)
    run(db, now=LATE + DAY)
    told = [chat for kind, chat in effects(db) if kind == "admin-delete"]
    assert sorted(told) == [900, 901, 902]


def test_with_a_group_the_member_is_removed_from_it(db: Database) -> None:
    member(db)
    with db.begin() as session:
        session.execute(update(TelegramUser).values(at_private_group=True))
    run(db, group=True)
    assert effects(db) == [("remove", 7), ("expired", 7)]
    assert user(db, 7).at_private_group is False


def test_nobody_with_an_open_payment_is_touched_until_it_is_decided(db: Database) -> None:
    member(db)
    slow = hash_of(50)
    chain = fake_chain({})
    wanted = {"person": 7, "period": "1 month", "transaction_hash": slow}
    claim(db, chain, EXPECTATION, **wanted, now=END - MINUTE)  # type: ignore[arg-type]
    assert run(db).done == 0
    assert membership(db).expired_at is None
    settle(db, fake_chain({slow: paid(slow, "50", at=END - MINUTE)}), EXPECTATION, now=LATE)
    assert run(db).done == 0
    settled = membership(db)
    assert (settled.transaction_hash, settled.expired_at) == (slow, None)


def test_a_renewal_takes_back_the_removal_that_was_queued(db: Database) -> None:
    member(db)
    run(db, group=True)
    buy(db, hash_of(60), now=LATE + MINUTE)
    kinds = {row.kind: row.status for row in rows(db, Outbox) if row.kind in ("expired", "remove")}
    assert kinds == {"expired": "cancelled", "remove": "cancelled"}
    assert membership(db).expired_at is None


def test_what_reminded_of_the_end_is_cancelled_with_it(db: Database) -> None:
    member(db)
    remind(db, now=END - MINUTE, days=(1,))
    run(db)
    statuses = [row.status for row in rows(db, Outbox) if row.kind.startswith("reminder")]
    assert statuses == ["cancelled", "cancelled"]


def crowd(db: Database, ending: int, staying: int) -> None:
    for number in range(ending + staying):
        start = NOW if number < ending else NOW + 10 * DAY
        member(db, 1000 + number, f"user{number}", now=start)


def test_an_abnormal_share_stops_the_pass_and_names_the_way_on(db: Database) -> None:
    crowd(db, ending=21, staying=20)
    with pytest.raises(NotAllowed, match=r"end 21 of 41 memberships.*--force"):
        run(db)
    assert effects(db) == []
    assert run(db, force=True).done == 21


def test_the_guard_lets_pass_few_members_and_ordinary_shares(db: Database) -> None:
    crowd(db, ending=20, staying=0)
    assert run(db).done == 20
    crowd(db, ending=0, staying=0)
    for number in range(21):
        member(db, 2000 + number, f"late{number}", now=NOW)
    for number in range(84):
        member(db, 3000 + number, f"stay{number}", now=NOW + 10 * DAY)
    assert run(db, guard=0.2).done == 21


def test_four_passes_at_once_end_each_membership_once(db: Database) -> None:
    staff(db, 900)
    crowd(db, ending=40, staying=0)
    reports = in_parallel(4, lambda _: run(db, force=True))
    assert sum(report.done for report in reports) == 40
    assert len([kind for kind, _ in effects(db) if kind == "expired"]) == 40
    assert len([kind for kind, _ in effects(db) if kind == "admin-delete"]) == 40


def test_a_renewal_that_races_the_pass_is_never_lost(db: Database) -> None:
    crowd(db, ending=12, staying=0)

    def work(number: int) -> object:
        if number == 0:
            return run(db, force=True)
        return buy(db, hash_of(5000 + number), who=999 + number, now=LATE)

    outcomes = in_parallel(13, work)
    for number, outcome in enumerate(outcomes[1:], start=1):
        assert not isinstance(outcome, Exception), outcome
        standing = membership(db, 999 + number)
        assert standing.transaction_hash == hash_of(5000 + number)
        assert standing.expired_at is None
        assert standing.end_date == LATE + 30 * DAY


def test_spans_end_everyone(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeps, "SPAN", 3)
    crowd(db, ending=10, staying=2)
    assert run(db).done == 10
    assert len([kind for kind, _ in effects(db) if kind == "expired"]) == 10


def test_a_rehearsal_shows_who_would_leave_and_changes_nothing(db: Database) -> None:
    member(db)
    person(db, 8, "ben")
    assert [one.chat_id for one in due_expiries(db, now=LATE)] == [7]
    assert membership(db).expired_at is None
    assert effects(db) == []
