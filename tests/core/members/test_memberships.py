"""Who is in: what a membership looks like at a moment, and the long lists of them."""

from datetime import timedelta
from typing import Any

import pytest
from helpers import DAY, MINUTE, NOW, buy, hash_of, member, membership, person, rows, shop, user
from sqlalchemy import event, update
from sqlalchemy.engine import Connection
from sqlmodel import col

from buffettsbot.core.errors import NoMembership, UnknownUser
from buffettsbot.core.members.memberships import Member, find_member, list_members, running_member
from buffettsbot.core.members.standing import Raced, extend, standing_of
from buffettsbot.core.members.users import register
from buffettsbot.core.storage import statements
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import Subscription, TelegramUser

MONTH = timedelta(days=30)


def in_the_order_of_their_end(db: Database, *chat_ids: int) -> None:
    """Sell a month to each, an hour later each time."""
    for hours, chat_id in enumerate(chat_ids):
        member(db, chat_id, f"user{chat_id}", now=NOW + timedelta(hours=hours))


def listed(db: Database, **filters: Any) -> list[int]:
    found = list_members(db, **{"now": NOW} | filters)
    return [row.chat_id for row in found]


def expire(db: Database, chat_id: int) -> None:
    with db.begin() as session:
        session.execute(
            update(Subscription)
            .where(col(Subscription.customer_id) == chat_id)
            .values(expired_at=NOW)
        )


def test_a_membership_is_shown_with_plan_price_and_dates(db: Database) -> None:
    member(db, 7, "Ann", period="1 year")
    assert find_member(db, "@ann", now=NOW) == Member(
        chat_id=7,
        telegram_username="Ann",
        plan="1 year",
        price=50,
        transaction_hash=hash_of(7),
        start_date=NOW,
        end_date=NOW + timedelta(days=365),
        status="active",
        at_private_group=False,
    )


def test_a_member_is_found_by_id_too_and_after_a_change_of_name(db: Database) -> None:
    member(db, 7, "ann")
    register(db, chat_id=7, telegram_username="anna", now=NOW)
    for named in (7, "7", "ANNA"):
        assert running_member(db, named, now=NOW).telegram_username == "anna"
    with pytest.raises(UnknownUser):
        find_member(db, "ann", now=NOW)


def test_a_name_that_moved_does_not_take_the_membership_along(db: Database) -> None:
    member(db, 7, "ann")
    person(db, 8, "ann")
    assert find_member(db, "ann", now=NOW) is None
    with pytest.raises(NoMembership):
        running_member(db, "ann", now=NOW)
    assert running_member(db, 7, now=NOW).telegram_username is None


def test_a_person_without_a_membership_is_not_a_stranger(db: Database) -> None:
    person(db, 7, "ann")
    assert find_member(db, 7, now=NOW) is None
    with pytest.raises(NoMembership):
        running_member(db, 7, now=NOW)
    for look in (find_member, running_member):
        with pytest.raises(UnknownUser):
            look(db, 8, now=NOW)


@pytest.mark.parametrize(
    ("later", "status"),
    [
        (timedelta(0), "active"),
        (MONTH - timedelta(days=7, microseconds=1), "active"),
        (MONTH - timedelta(days=7), "expiring"),
        (MONTH - timedelta(microseconds=1), "expiring"),
        (MONTH, "expired"),
        (MONTH + timedelta(days=1000), "expired"),
    ],
)
def test_the_status_follows_from_the_time_alone(
    db: Database, later: timedelta, status: str
) -> None:
    member(db)
    found = find_member(db, 7, now=NOW + later)
    assert found is not None
    assert found.status == status
    assert listed(db, now=NOW + later, status="all") == [7]
    assert listed(db, now=NOW + later) == ([] if status == "expired" else [7])
    assert listed(db, now=NOW + later, status="expiring") == ([7] if status == "expiring" else [])
    assert listed(db, now=NOW + later, status="expired") == ([7] if status == "expired" else [])


def test_a_membership_that_was_ended_is_over_though_its_time_is_not(db: Database) -> None:
    member(db)
    expire(db, 7)
    with pytest.raises(NoMembership):
        running_member(db, 7, now=NOW)
    assert (listed(db), listed(db, status="expired")) == ([], [7])


def test_members_are_listed_by_their_end_page_by_page(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statements, "PAGE", 3)
    in_the_order_of_their_end(db, 9, 2, 8, 3, 7, 4, 6)
    later = NOW + DAY
    assert listed(db, now=later) == [9, 2, 8, 3, 7, 4, 6]
    for limit in (0, 1, 3, 4, 7, 100):
        assert listed(db, now=later, limit=limit) == [9, 2, 8, 3, 7, 4, 6][:limit]


def test_members_who_end_at_the_same_instant_are_all_listed_once(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statements, "PAGE", 2)
    for chat_id in (5, 3, 1, 4, 2):
        member(db, chat_id, f"user{chat_id}")
    assert listed(db) == [1, 2, 3, 4, 5]


def test_someone_who_renews_while_the_list_is_read_is_not_lost(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statements, "PAGE", 2)
    in_the_order_of_their_end(db, 1, 2, 3, 4, 5)
    seen = []
    for found in list_members(db, now=NOW + DAY):
        seen.append(found.chat_id)
        if found.chat_id == 2:
            buy(db, hash_of(100), who=4, now=NOW + DAY)
    assert seen == [1, 2, 3, 5, 4]


def test_the_list_is_narrowed_by_plan_and_by_what_ends_soon(db: Database) -> None:
    member(db, 1, "a", period="1 month")
    member(db, 2, "b", period="1 year")
    member(db, 3, "c", period="3 months")
    assert listed(db, plan="1 year") == [2]
    assert listed(db, within=timedelta(days=29)) == []
    assert listed(db, within=timedelta(days=30)) == [1]
    assert listed(db, within=timedelta(days=90)) == [1, 3]
    assert listed(db, within=timedelta(days=90), plan="3 months") == [3]
    assert listed(db, status="expired", plan="1 month", now=NOW + MONTH) == [1]


def test_a_member_without_a_plan_is_listed_too(db: Database) -> None:
    person(db)
    grant = Subscription(
        transaction_hash="grant-1",
        customer_id=7,
        start_date=NOW,
        end_date=NOW + DAY,
        duration=86400,
    )
    with db.begin() as session:
        session.add(grant)
    (found,) = list_members(db, now=NOW)
    assert (found.plan, found.price, found.status) == (None, None, "expiring")


def test_what_is_asked_of_the_list_is_asked_of_the_database(db: Database) -> None:
    assert listed(db, status="all") == []
    assert listed(db, plan="1 month'; DROP TABLE plan; --") == []
    assert rows(db, TelegramUser) == []


def _extend(db: Database, number: int, days: int = 30) -> tuple[object, object, bool]:
    with db.begin() as session:
        return extend(
            session.connection(),
            standing_of(session.connection(), 7),
            customer_id=7,
            plan_id=1,
            transaction_hash=hash_of(number),
            duration=timedelta(days=days),
            now=NOW,
        )


def test_a_membership_starts_now_and_a_renewal_adds_to_its_end(db: Database) -> None:
    shop(db)
    person(db)
    assert _extend(db, 1) == (NOW, NOW + 30 * DAY, False)
    assert _extend(db, 2, 90) == (NOW + 30 * DAY, NOW + 120 * DAY, True)
    standing = membership(db)
    assert (standing.transaction_hash, standing.start_date, standing.end_date) == (
        hash_of(2),
        NOW,
        NOW + 120 * DAY,
    )
    assert standing.duration == 90 * 86400


def test_a_membership_that_was_ended_starts_anew_and_runs_again(db: Database) -> None:
    shop(db)
    person(db)
    _extend(db, 1)
    expire(db, 7)
    assert _extend(db, 2) == (NOW, NOW + 30 * DAY, False)
    assert membership(db).expired_at is None


@pytest.mark.parametrize("times", [1, 2])
def test_a_renewal_that_meets_another_change_looks_again_once(db: Database, times: int) -> None:
    """What `extend` was told is not what it finds when it writes: somebody else was faster."""
    shop(db)
    person(db)
    _extend(db, 1)
    ends = [NOW + number * MINUTE for number in range(times)]
    changes = [update(Subscription).values(expired_at=end) for end in ends]

    def be_faster(connection: Connection, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("UPDATE subscription") and "RETURNING" in statement and changes:
            connection.execute(changes.pop())

    event.listen(db.engine, "before_cursor_execute", be_faster)
    if times == 1:
        assert _extend(db, 2) == (NOW, NOW + 30 * DAY, False)
        return
    with pytest.raises(Raced):
        _extend(db, 2)
    assert membership(db).transaction_hash == hash_of(1)


def test_the_group_flag_of_the_person_is_shown(db: Database) -> None:
    member(db)
    with db.begin() as session:
        session.execute(update(TelegramUser).values(at_private_group=True))
    assert running_member(db, 7, now=NOW).at_private_group
    assert user(db, 7).at_private_group
