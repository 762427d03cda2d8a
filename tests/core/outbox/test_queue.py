"""Effects are queued once each, however they come, and the staff are found without a search."""

from typing import Any

import pytest
from helpers import MINUTE, NOW, person, rows, staff
from sqlalchemy import event

from buffettsbot.core.outbox.queue import Effect, admins, queue, queue_all, queue_with_copies
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import Outbox


def effect(name: str, chat_id: int = 7, **payload: Any) -> Effect:
    return Effect(name, "welcome", chat_id, payload)


def queued(db: Database) -> list[tuple[str, int, dict[str, Any]]]:
    return [(row.key, row.chat_id, row.payload) for row in rows(db, Outbox)]


def test_each_is_queued_once_in_order_and_counted(db: Database) -> None:
    with db.begin() as session:
        connection = session.connection()
        assert queue_all(connection, [], now=NOW) == 0
        assert queue_all(connection, [effect("b", n=1), effect("a", n=2)], now=NOW) == 2
        again = [effect("a", n=3), effect("c", n=4), effect("c", n=5)]
        assert queue_all(connection, again, now=NOW, wait=MINUTE) == 1
        taken: dict[str, Any] = {"kind": "welcome", "chat_id": 7, "payload": {"n": 6}, "now": NOW}
        assert not queue(connection, key="c", **taken)
        assert queue(connection, key="d", **taken)
    assert [(key, payload["n"]) for key, _, payload in queued(db)] == [
        ("b", 1),
        ("a", 2),
        ("c", 4),
        ("d", 6),
    ]
    times = {row.key: (row.not_before, row.created_at) for row in rows(db, Outbox)}
    assert times["b"] == times["d"] == (NOW, NOW)
    assert times["c"] == (NOW + MINUTE, NOW)


@pytest.mark.parametrize(
    "odd",
    [
        'quote " \\ / back',
        "line\n\t",
        "🟢 Зоя",
        "\x00",
        "\x01",
        "\ud800",
        None,
        True,
        1.5,
        [{}, None],
    ],
)
def test_a_payload_may_hold_whatever_json_does(db: Database, odd: object) -> None:
    staff(db, 900)
    with db.begin() as session:
        connection = session.connection()
        assert queue_all(connection, [effect("one", odd=odd, price=50)], now=NOW) == 1
        told = effect("two", odd=odd, price=50)
        queue_with_copies(connection, told, told._replace(key="copy"), now=NOW)
    payload = {"odd": odd, "price": 50}
    assert queued(db) == [("one", 7, payload), ("two", 7, payload), ("copy:900", 900, payload)]


def test_every_admin_gets_a_copy_of_their_own_once(db: Database) -> None:
    staff(db, 901, 900)
    person(db, 7)
    for number in range(2):
        with db.begin() as session:
            connection = session.connection()
            copy = Effect("there", "admin-add", 7, {"n": number, "for": "admins"})
            queue_with_copies(connection, effect("here", n=number), copy, now=NOW + number * MINUTE)
    assert sorted(queued(db)) == [
        ("here", 7, {"n": 0}),
        ("there:900", 900, {"n": 0, "for": "admins"}),
        ("there:901", 901, {"n": 0, "for": "admins"}),
    ]
    found = rows(db, Outbox)
    assert [row.kind for row in found] == ["welcome", "admin-add", "admin-add"]
    assert {(row.status, row.attempts) for row in found} == {("queued", 0)}
    assert {row.not_before for row in found} == {row.created_at for row in found} == {NOW}


def test_admins_are_found_by_their_index(sqlite_url: str) -> None:
    """SQLite uses it only for a condition in its very words; else it reads every user there is."""
    db = Database(sqlite_url)
    staff(db, 901, 900)
    person(db, 7)
    asked: list[str] = []
    with db.begin() as session:
        connection = session.connection()
        event.listen(connection, "before_cursor_execute", lambda *args: asked.append(args[2]))
        assert admins(connection) == [900, 901]
        queue_with_copies(connection, effect("a"), effect("b"), now=NOW)
        plans = [
            connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {one}", values).all()
            for one, values in ((asked[0], ()), (asked[1], (None,) * asked[1].count("?")))
        ]
    db.close()
    for plan in plans:
        assert any("telegram_user_staff" in row[-1] for row in plan), plan
