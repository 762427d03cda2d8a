"""Rows of the original that are not what they should be: each is named, and none stops the rest."""

from dataclasses import replace
from pathlib import Path

from django_original import Original, bring, kinds
from helpers import DAY, NOW, buy, hash_of, ledger, membership, person, rows, shop, user

from buffettsbot.core.from_django.rows import NOBODY
from buffettsbot.core.offers import plans
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import Subscription, TelegramUser


def test_no_spelling_of_an_imported_hash_buys_again(db: Database, original: Original) -> None:
    original.plan()
    plain = [hash_of(n + 0xABCDEF000) for n in range(8)]
    spellings = [
        plain[0],
        plain[1].upper(),
        f"0x{plain[2]}",
        f"https://tronscan.org/#/transaction/{plain[3]}",
        f"  {plain[4]} ",
        f"{plain[5]}&visible=true",
        f"tx {plain[6]}.",
        "%" + plain[7].encode().hex("%"),
    ]
    for n, spelling in enumerate(spellings):
        original.user(n + 1)
        original.sale(spelling, n + 1, NOW - (60 if n % 2 else 5) * DAY)
    imported = bring(db, original)
    assert kinds(imported)["hash-rewritten"] == 7
    person(db, 99, "thief")
    for one in plain:
        assert buy(db, one, who=99).verdict.reason == "already-used"
    assert {m.transaction_hash for m in rows(db, Subscription)} == set(plain)


def test_what_is_no_hash_is_kept_as_it_is(db: Database, original: Original) -> None:
    original.plan()
    for n, spelled in enumerate(("0x", "cash, 50$", "grant-1", "")):
        original.user(n + 1)
        original.sale(spelled, n + 1, NOW - DAY)
    imported = bring(db, original)
    assert kinds(imported) == {"bad-hash": 4}
    assert {p.transaction_hash for p in ledger(db)} == {
        "0x",
        "cash, 50$",
        "import-3-grant-1",
        "import-4-",
    }
    assert len(rows(db, Subscription)) == 4


def test_a_hash_in_two_spellings_is_whose_it_was_first(db: Database, original: Original) -> None:
    original.plan()
    original.user(1)
    original.user(2)
    original.sale(hash_of(5).upper() + " ", 2, NOW - 2 * DAY)
    original.sale(hash_of(5), 1, NOW - 3 * DAY)
    imported = bring(db, original)
    (odd,) = [one for one in imported.odd if one.kind == "hash-shared"]
    assert odd.detail == "user 2; before user 1"
    assert [(m.customer_id, m.transaction_hash) for m in rows(db, Subscription)] == [
        (1, hash_of(5))
    ]
    assert not bring(db, original).is_news


def test_odd_people_are_named_and_none_stops_the_import(db: Database, original: Original) -> None:
    original.user(1, "Ann", joined=NOW - 9 * DAY)
    original.user(2, "ann", joined=NOW - DAY)
    original.user(3, "@ANN", joined=NOW - 5 * DAY)
    original.user(4, "@bob", first=None)
    original.user(5, "два слова", group=None)
    original.user(0, "zero")
    original.user(6, "taken")
    original.user(8, "long", first="x" * 200)
    person(db, 60, "TAKEN")
    rehearsal = bring(db, original, dry_run=True)
    imported = bring(db, original)
    assert rehearsal == replace(imported, dry_run=True)
    assert kinds(imported) == {
        "bad-chat-id": 1,
        "bad-username": 1,
        "username-rewritten": 2,
        "username-shared": 2,
        "username-taken": 1,
        "no-group-flag": 1,
        "long-name": 1,
    }
    assert {u.chat_id: u.telegram_username for u in rows(db, TelegramUser)} == {
        1: None,
        2: "ann",
        3: None,
        4: "bob",
        5: None,
        6: None,
        8: "long",
        60: "TAKEN",
    }
    assert imported.users == {"read": 8, "new": 7, "known": 0, "left_out": 1}
    again = bring(db, original)
    assert not again.is_news
    assert kinds(again) == kinds(imported)


def test_odd_plans_are_named(db: Database, original: Original) -> None:
    for period, price in (
        ("1 month", 0),
        ("12 months", 300),
        ("1 year", 400),
        ("2 days", 5),
        ("3 months", 2_000_000),
        ("6 months", 120),
    ):
        original.plan(period, price)
    shop(db, half=99)
    imported = bring(db, original)
    assert kinds(imported) == {
        "bad-price": 2,
        "plan-shared": 1,
        "unknown-period": 1,
        "plan-changed-here": 1,
    }
    assert {(p.period, p.price, p.is_active) for p in plans.list_plans(db)} == {
        ("1 month", 1, False),
        ("3 months", 1_000_000, False),
        ("6 months", 99, True),
        ("1 year", 300, True),
    }


def test_odd_subscriptions_are_burnt_whatever_else_is_wrong(
    db: Database, original: Original
) -> None:
    original.plan("2 days", 5)
    for chat_id in (1, 2, 3, 4):
        original.user(chat_id)
    original.sale(hash_of(1), None, NOW - DAY, plan=None)
    original.sale(hash_of(2), 1, NOW - DAY, plan="2 days", days=2)
    original.sale(hash_of(3), 2, NOW - DAY, plan=None, days=90)
    original.sale(hash_of(4), 3, NOW - DAY, end=None)
    original.sale(hash_of(5), 4, NOW - DAY, end=NOW - 2 * DAY)
    imported = bring(db, original)
    assert kinds(imported) == {
        "no-customer": 1,
        "unknown-period": 1,
        "no-plan": 1,
        "plan-from-length": 4,
        "bad-dates": 1,
    }
    members = {m.customer_id: m for m in rows(db, Subscription)}
    assert set(members) == {1, 2, 3}
    assert members[1].plan_id is None
    assert members[1].end_date == NOW + DAY
    quarter = next(plan for plan in plans.list_plans(db) if plan.period == "3 months")
    assert (members[2].plan_id, quarter.is_active) == (quarter.id, False)
    assert members[3].end_date == NOW + 29 * DAY
    assert {p.transaction_hash: p.customer_id for p in ledger(db)} == {
        hash_of(1): NOBODY,
        hash_of(2): 1,
        hash_of(3): 2,
        hash_of(4): 3,
        hash_of(5): 4,
    }
    shop(db, year=90)
    for n in range(1, 6):
        assert buy(db, hash_of(n), who=4, period="1 year", usdt=500).verdict.verdict == "refused"
    assert not bring(db, original).is_news


def test_what_sqlite_lets_through_stops_nothing(postgresql_url: str, tmp_path: Path) -> None:
    original = Original(f"sqlite:///{tmp_path / 'original.sqlite3'}")
    original.plan()
    original.user("seven", "x")
    original.user(12.5, "y")
    original.user(10**18, "z")
    original.user(1, "nul\0", first=b"\xff\xfe", last="\ud83d".encode("utf-8", "surrogatepass"))
    original.run("UPDATE subscription_service_telegramuser SET date_joined = 'soon'")
    original.sale(hash_of(1), "seven", NOW - DAY)
    original.sale(hash_of(2), 555, NOW - DAY)
    original.run("UPDATE subscription_service_subscription SET duration = 'x'")
    db = Database(postgresql_url)
    imported = bring(db, original)
    assert kinds(imported) == {
        "bad-chat-id": 3,
        "username-rewritten": 1,
        "bad-join-date": 1,
        "no-customer": 1,
        "unknown-customer": 1,
        "paid-not-in-group": 1,
    }
    assert user(db, 1).telegram_username == "nul"
    assert membership(db, 555).end_date == NOW + 29 * DAY
    db.close()
    original.engine.dispose()


def test_times_are_utc_whatever_zone_they_are_written_in(postgresql_url: str, db: Database) -> None:
    original = Original(postgresql_url)
    original.run(
        "ALTER TABLE subscription_service_telegramuser ALTER date_joined TYPE timestamp "
        "USING date_joined AT TIME ZONE 'UTC'"
    )
    original.run("ALTER ROLE CURRENT_USER SET timezone TO 'Asia/Kolkata'")
    try:
        original.plan()
        original.user(1)
        original.run(
            "UPDATE subscription_service_telegramuser SET date_joined = '2026-01-02 03:04:05'"
        )
        original.sale(hash_of(1), 1, NOW)
        imported = bring(db, original)
    finally:
        original.run("ALTER ROLE CURRENT_USER RESET timezone")
        original.engine.dispose()
    assert [one.row for one in imported.odd] == ["subscription_service_telegramuser.date_joined"]
    assert user(db, 1).date_joined.isoformat() == "2026-01-02T03:04:05+00:00"
    assert membership(db, 1).start_date == NOW
