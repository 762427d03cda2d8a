"""The doctor's look at the database: its form, the passes that ran, and what waits too long."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from examining import PASSES, Configure, in_use, only, ran, told
from helpers import MINUTE, NOW, hash_of, member, person, shop, staff
from sqlalchemy import delete, insert, update

from buffettsbot.core.app import utcnow
from buffettsbot.core.health import database as database_check
from buffettsbot.core.health import doctor
from buffettsbot.core.health.data import check_data
from buffettsbot.core.health.findings import Finding
from buffettsbot.core.storage import leases
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import OUTBOX, PAYMENT
from buffettsbot.core.telegram.delivery import LEASE
from buffettsbot.core.telegram.pacing import PAUSE


def test_a_form_that_is_old_or_new_or_none_is_told(empty_database_url: str, tmp_path: Path) -> None:
    db = Database(empty_database_url)
    with db.begin() as session:
        session.connection().exec_driver_sql("CREATE TABLE other (x INTEGER)")
    found = list(check_data(db, NOW))
    assert told(found) == [("database", "failed")]
    assert found[0].advice == "Run: buffettsbot db upgrade"
    with db.begin() as session:
        session.connection().exec_driver_sql("CREATE TABLE alembic_version (version_num TEXT)")
        session.connection().exec_driver_sql("INSERT INTO alembic_version VALUES ('9999')")
    found = list(check_data(db, NOW))
    assert found[0].advice == "Install the newer version of buffettsbot."
    db.close()


def test_a_damaged_database_and_a_standby_are_told(
    configured: Configure, settings_env: Path, postgresql_url: str
) -> None:
    configured()
    (settings_env / "there.db").write_bytes(b"not a database " * 1000)
    found = doctor.examine(utcnow)
    assert "damaged" in only(found, "database").found
    assert only(found, "disk").status == "ok"  # the rest is still checked
    standby = Database(postgresql_url)
    with standby.begin() as session:
        name = session.connection().engine.url.database
        read_only = f"ALTER DATABASE {name} SET default_transaction_read_only = on"
        session.connection().exec_driver_sql(read_only)
    standby.close()
    standby = Database(postgresql_url)
    finding = only(check_data(standby, NOW), "database")
    standby.close()
    assert finding.status == "failed"
    assert "read-only" in finding.found


def test_a_slow_database_is_warned_of(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    assert only(check_data(db, NOW), "database").status == "ok"
    assert 0 < database_check.SLOW <= 1
    monkeypatch.setattr(database_check, "SLOW", 0.0)
    assert only(check_data(db, NOW), "database").status == "warning"


def test_only_a_database_in_a_file_has_a_file() -> None:
    urls = ("sqlite:////a/b.db", "sqlite://", "sqlite:///:memory:", "sqlite:///file:x?uri=true")
    files = [database_check.file_of(url) for url in (*urls, "postgresql://there/d")]
    assert files == [Path("/a/b.db"), None, None, None, None]


def test_a_new_place_is_warned_of_what_it_lacks(db: Database) -> None:
    found = told(check_data(db, NOW))
    warned = ["plans", "staff", *(f"pass {name}" for name in PASSES)]
    assert [check for check, status in found if status == "warning"] == warned
    assert {status for _, status in found} == {"ok", "warning"}


def test_the_staff_are_counted_as_one_says_it(db: Database) -> None:
    staff(db, 1)
    assert only(check_data(db, NOW), "staff").found == "1 person receives the notices"
    staff(db, 2)
    assert only(check_data(db, NOW), "staff").found == "2 people receive the notices"


@pytest.mark.parametrize(
    ("name", "ended", "status"),
    [
        *((name, 15 * MINUTE, "ok") for name in ("settle", "deliver")),
        *((name, 16 * MINUTE, "warning") for name in ("settle", "deliver")),
        *((name, 60 * MINUTE, "warning") for name in ("settle", "deliver")),
        *((name, 61 * MINUTE, "failed") for name in ("settle", "deliver")),
        *((name, timedelta(hours=26), "ok") for name in ("remind", "expire")),
        *((name, timedelta(hours=27), "warning") for name in ("remind", "expire")),
        *((name, timedelta(hours=50), "warning") for name in ("remind", "expire")),
        *((name, timedelta(hours=51), "failed") for name in ("remind", "expire")),
    ],
)
def test_a_pass_that_stopped_running_is_told(
    db: Database, name: str, ended: timedelta, status: str
) -> None:
    ran(db, name, NOW - ended - MINUTE, NOW - ended, due=1, done=1, failed=0)
    finding = only(check_data(db, NOW), f"pass {name}")
    assert finding.status == status


def test_a_daily_pass_may_not_have_come_yet_on_a_new_host(db: Database) -> None:
    found = list(check_data(db, NOW))
    assert {f.found for f in found if f.check.startswith("pass ")} == {"never ran"}
    ran(db, "settle", NOW, NOW + MINUTE, due=0, done=0, failed=0)
    for later, status in ((26, "ok"), (27, "warning")):
        finding = only(check_data(db, NOW + timedelta(hours=later)), "pass remind")
        assert finding.status == status
    assert only(check_data(db, NOW + 16 * MINUTE), "pass deliver").status == "warning"


def test_a_pass_that_begins_and_never_ends_or_failed_is_told(db: Database) -> None:
    ran(db, "settle", NOW - 3 * 60 * MINUTE, None)
    ran(db, "remind", NOW - 5 * MINUTE, NOW - 4 * MINUTE, due=9, done=7, failed=2)
    ran(db, "deliver", NOW - 2 * MINUTE, NOW - MINUTE, due=0, done=0, failed=0)
    ran(db, "deliver", NOW, None)  # under way
    found = list(check_data(db, NOW))
    assert only(found, "pass settle").found == "began 3 hours ago and never ended"
    assert only(found, "pass settle").status == "failed"
    assert only(found, "pass remind").found == "ended 4 minutes ago, 2 failed"
    assert only(found, "pass deliver").status == "ok"
    assert only(found, "pass deliver").found == "ended 1 minute ago, 0 done"
    assert "buffettsbot pass remind" in only(found, "pass remind").advice
    later = list(check_data(db, NOW + 20 * MINUTE))
    assert only(later, "pass deliver").found == (
        "ended 21 minutes ago; the one begun 20 minutes ago has not"
    )
    ran(db, "deliver", NOW, NOW + MINUTE, due=2, done=1, failed=1)
    failed = only(check_data(db, NOW + 2 * MINUTE), "pass deliver")
    assert (failed.status, failed.found) == ("warning", "ended 1 minute ago, 1 failed")
    assert "outbox list --status failed" in failed.advice
    ran(db, "deliver", NOW + MINUTE, NOW + 2 * MINUTE)  # of a version that kept no report
    assert only(check_data(db, NOW + 3 * MINUTE), "pass deliver").status == "ok"


def test_what_waits_too_long_in_the_outbox_or_never_arrived_is_told(db: Database) -> None:
    in_use(db, NOW)
    member(db)
    ages = (15 * MINUTE, 16 * MINUTE, 360 * MINUTE, 361 * MINUTE)
    seen = [only(check_data(db, NOW + age), "outbox").status for age in ages]
    assert seen == ["ok", "warning", "warning", "failed"]
    with db.begin() as session:
        session.execute(update(OUTBOX).values(error="Telegram is away. Wait."))
    member(db, 8, "bob", now=NOW + 10 * MINUTE)
    waiting = only(check_data(db, NOW + 20 * MINUTE), "outbox")
    assert waiting.found == "4 queued, the oldest 20 minutes old (Telegram is away)"
    with db.begin() as session:
        session.execute(update(OUTBOX).values(status="failed", error="blocked"))
    found = [f for f in check_data(db, NOW + MINUTE) if f.check == "outbox"]
    assert told(found) == [("outbox", "ok"), ("outbox", "warning")]
    for age, statuses in ((timedelta(days=7), ["ok", "warning"]), (timedelta(days=8), ["ok"])):
        found = [f for f in check_data(db, NOW + age) if f.check == "outbox"]
        assert [f.status for f in found] == statuses


def test_payments_that_wait_for_an_admin_or_are_forgotten_are_told(db: Database) -> None:
    customer, plan = person(db), shop(db)

    def pending(number: int, **values: Any) -> None:
        row = {
            "transaction_hash": hash_of(number),
            "customer_id": customer,
            "plan_id": plan.id,
            "price": 50,
            "status": "pending",
            "reason": "not-found",
            "claimed_at": NOW - 10 * MINUTE,
            "attempts": 0,
            "next_check_at": NOW,
        }
        with db.begin() as session:
            session.execute(insert(PAYMENT), row | values)

    def seen() -> list[tuple[str, str]]:
        return told(f for f in check_data(db, NOW) if f.check == "payments")

    def words() -> list[str]:
        return [f.found for f in check_data(db, NOW) if f.check == "payments"]

    assert seen() == [("payments", "ok")]
    pending(1, next_check_at=NOW - 15 * MINUTE)
    pending(4, claimed_at=NOW - 30 * MINUTE)
    assert seen() == [("payments", "ok")]
    assert words() == ["2 pending, the oldest for 30 minutes"]
    for number, minutes in ((2, 60), (5, 45)):
        times = {"claimed_at": NOW - minutes * MINUTE, "next_check_at": None}
        pending(number, status="held", reason="held-for-review", **times)
    assert seen() == [("payments", "ok"), ("payments", "warning")]
    assert words()[0] == "2 pending, the oldest for 30 minutes"
    assert words()[1] == "2 held for an admin, the oldest for 1 hour"
    pending(3, next_check_at=NOW - 16 * MINUTE)
    assert seen() == [("payments", "failed"), ("payments", "warning")]
    with db.begin() as session:
        session.execute(delete(PAYMENT).where(PAYMENT.c.status == "pending"))
    assert seen() == [("payments", "warning")]
    with db.begin() as session:
        session.execute(delete(PAYMENT))


def test_a_lease_from_a_wrong_clock_is_told(db: Database) -> None:
    def seen() -> Finding:
        return only(check_data(db, NOW), "leases")

    leases.take(db, LEASE, holder="me", now=NOW, until=NOW + MINUTE)
    assert (seen().status, seen().found) == ("ok", "deliver held")
    leases.take(db, LEASE, holder="me", now=NOW, until=NOW + 2 * MINUTE)
    assert seen().status == "ok"
    leases.take(db, LEASE, holder="me", now=NOW, until=NOW + 121 * timedelta(seconds=1))
    assert seen().status == "failed"
    leases.take(db, LEASE, holder="me", now=NOW, until=NOW + 90 * MINUTE)
    assert seen().status == "failed"
    leases.release(db, LEASE, holder="me")
    leases.take(db, PAUSE, holder="telegram", now=NOW, until=NOW + MINUTE)
    assert (seen().status, seen().found) == ("ok", "pause held")
    leases.take(db, PAUSE, holder="telegram", now=NOW, until=NOW + 90 * MINUTE)
    assert seen().status == "warning"
    leases.take(db, LEASE, holder="me", now=NOW, until=NOW + 90 * MINUTE)
    assert seen().status == "failed"
    over = only(check_data(db, NOW + 91 * MINUTE), "leases")
    assert (over.status, over.found) == ("ok", "none is held")
