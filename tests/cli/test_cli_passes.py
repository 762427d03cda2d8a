"""Passes, the outbox and the database on the command line, letter by letter as in the contract."""

import json
from datetime import timedelta

from commands import Commands, Sandbox, commands
from contract import OUTBOX_FIELDS, is_time, now, table
from helpers import DAY, ledger, member, person, rows, shop

from buffettsbot.core.storage.database import SCHEMA_VERSION, Database
from buffettsbot.core.storage.models import PassRun, Payment


def test_settle_finishes_what_is_due(run: Commands, db: Database, sandbox: Sandbox) -> None:
    shop(db)
    person(db, 7, "ann")
    good = sandbox.pay(50)
    with sandbox.away():
        waiting = run.inside("subscribers", "claim", "ann", "1 month", good)
    assert waiting.refused(5, "pending (source-unavailable)")

    soon = (now() + timedelta(minutes=1)).isoformat()
    dry = run("pass", "settle", "--dry-run", "--at", soon, "--json")
    assert (dry.code, dry.stderr) == (0, "")
    summary = {"pass": "settle", "due": 1, "done": 0, "skipped": 1, "failed": 0, "dry_run": True}
    assert dry.json() | summary == dry.json()
    assert list(dry.json())[:6] == list(summary)
    (item,) = dry.json()["items"]
    assert (item["transaction_hash"], item["customer_id"]) == (good, 7)
    assert is_time(item["claimed_at"])
    asked = sandbox.asked()
    shown = run.inside("pass", "settle", "--dry-run", "--at", soon)
    assert good in shown.stdout
    assert "settle: 1 due" in shown.stderr
    assert "nothing was changed" in shown.stderr
    assert sandbox.asked() == asked
    assert rows(db, PassRun) == []

    with db.begin() as session:  # what was claimed now is due now
        session.execute(Payment.__table__.update().values(next_check_at=now() - DAY))  # type: ignore[attr-defined]
    done = run("pass", "settle", "--json", "--limit", "10")
    assert (done.code, done.stderr) == (0, "")
    assert list(done.json())[:6] == ["pass", "due", "done", "skipped", "failed", "dry_run"]
    assert done.json() | {"due": 1, "done": 1} == done.json()
    assert [payment.status for payment in ledger(db)] == ["accepted"]
    assert run.inside("pass", "settle").refused(0, "settle: 0 due, 0 done, 0 left, 0 failed")
    assert [run_.finished_at is not None for run_ in rows(db, PassRun)] == [True, True]


def test_the_other_passes_report_as_settle_does(run: Commands, db: Database) -> None:
    member(db, 7, "ann", now=now() - 29 * DAY)
    member(db, 8, "bob", now=now() - 31 * DAY)
    for name, due in (("remind", 1), ("expire", 1)):
        dry = run.inside("pass", name, "--dry-run", "--json").json()
        counts = {"due": due, "done": 0, "skipped": due, "failed": 0, "dry_run": True}
        assert dry | {"pass": name} | counts == dry
        done = run("pass", name, "--json")
        assert done.stderr == ""
        counts = {"due": due, "done": due, "skipped": 0, "failed": 0, "dry_run": False}
        assert done.json() | {"pass": name} | counts == done.json()
        assert run.inside("pass", name).refused(0, f"{name}: 0 due, 0 done, 0 left, 0 failed")
    dry = run("pass", "deliver", "--dry-run", "--json").json()
    assert dry["due"] == len(dry["items"]) > 0
    run.inside("pass", "deliver").refused(4, "BUFFETTSBOT_TELEGRAM_TOKEN is not set")


def test_a_pass_of_which_some_failed_is_told_and_fails_once(
    sqlite_url: str, sandbox: Sandbox
) -> None:
    db = Database(sqlite_url)
    for number, name in ((7, "ann"), (8, "bob")):
        member(db, number, name, now=now())
    db.close()
    world = {"token": "1:token", "blocked": [7]}
    sandbox.http.post("/_sandbox/telegram", json=world).raise_for_status()
    run = commands(sqlite_url, sandbox, telegram_url=sandbox.url, telegram_token="1:token")
    process = run.start("pass", "deliver")
    assert process.communicate(timeout=60) == ("", "deliver: 2 due, 1 done, 0 left, 1 failed\n")
    assert process.returncode == 1


def test_the_ends_of_time_are_no_bug(run: Commands) -> None:
    for zone in ("UTC", "America/New_York", "Asia/Tokyo"):
        for time in ("0001-01-01", "9999-12-31T23:59:59", "2030-01-01T00:00+14:00"):
            at = run.inside(
                "pass", "settle", "--dry-run", "--at", time, env={"BUFFETTSBOT_TIMEZONE": zone}
            )
            assert at.code in (0, 2), (zone, time)


def test_the_outbox_is_listed_cancelled_and_requeued(run: Commands, db: Database) -> None:
    assert run.inside("outbox", "list").refused(0, "Nothing is in the outbox.")
    member(db, 7, "ann", now=now())
    listed = run("outbox", "list", "--json")
    (welcome,) = listed.json()
    assert list(welcome) == OUTBOX_FIELDS
    assert (welcome["kind"], welcome["chat_id"], welcome["status"]) == ("welcome", 7, "queued")
    assert is_time(welcome["created_at"])
    as_csv = run.inside("outbox", "list", "--csv").stdout
    assert as_csv.splitlines()[0] == ",".join(OUTBOX_FIELDS)
    assert json.loads(table(as_csv)[0]["payload"]) == welcome["payload"]
    number = str(welcome["id"])
    for stdin in ("", "n\n"):
        run.inside("outbox", "cancel", number, stdin=stdin).refused(
            4, "[y/N]", "nothing was" if not stdin else "Nothing was"
        )
    assert run.inside("outbox", "list", "--status", "queued", "--json").json() == [welcome]
    cancelled = run("outbox", "cancel", number, "--yes", "--json").json()
    assert cancelled == welcome | {"status": "cancelled"}
    again = run.inside("outbox", "cancel", number, "--yes", "--json")
    assert (again.refused(4) and again.error()["error"]) == "conflict"
    assert run("outbox", "requeue", number, "--json").json()["status"] == "queued"
    run.inside("outbox", "requeue", "999").refused(4, "There is no message 999.")
    run.inside("outbox", "cancel", "0", "--yes").refused(2)


def test_a_database_is_prepared_once(empty_database_url: str) -> None:
    run = Commands(empty_database_url)
    status = run("db", "status", "--json")
    assert status.code == 4
    assert list(status.json()) == ["database", "version", "newest", "up_to_date"]
    assert status.json() | {"database": ""} == {
        "database": "",
        "version": None,
        "newest": SCHEMA_VERSION,
        "up_to_date": False,
    }
    assert status.error()["error"] == "not-allowed"
    assert "buffettsbot db upgrade" in status.error()["message"]
    upgraded = run("db", "upgrade", "--json")
    assert (upgraded.code, upgraded.stderr) == (0, "")
    assert upgraded.json() == {"before": None, "after": SCHEMA_VERSION}
    assert run("db", "upgrade").refused(0, f"the newest form already ({SCHEMA_VERSION})")
    shown = run.inside("db", "status")
    assert (shown.code, shown.stderr) == (0, "")
    assert "up to date  yes" in shown.stdout
    assert run.inside("plans", "list", "--json").json() == []
