"""The command line as the contract (section 3) has it, letter by letter, on both databases.

The stories run real processes (on SQLite all of them, on PostgreSQL the claim and `db`); sweeps
over many arguments run in-process.
"""

import csv
import io
import json
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from commands import Commands, Sandbox, commands, open_sandbox
from helpers import DAY, WALLET, buy, hash_of, ledger, member, person, rows, shop
from sqlalchemy import insert

from buffettsbot.cli.shared import output
from buffettsbot.cli.shared.facts import field
from buffettsbot.cli.shared.output import show_rows
from buffettsbot.core.members import users
from buffettsbot.core.offers import plans
from buffettsbot.core.storage.database import SCHEMA_VERSION, Database
from buffettsbot.core.storage.models import PassRun, Payment, Plan, Subscription, TelegramUser

PLAN_FIELDS = ["id", "period", "price", "is_active"]
USER_FIELDS = [
    "chat_id",
    "telegram_username",
    "first_name",
    "last_name",
    "at_private_group",
    "date_joined",
    "is_staff",
]
MEMBER_FIELDS = [
    "chat_id",
    "telegram_username",
    "plan",
    "price",
    "transaction_hash",
    "start_date",
    "end_date",
    "status",
    "at_private_group",
]
# The columns of the table in design.md but for `evidence` (`payments show --evidence` has it), and
# the names behind the ids.
PAYMENT_FIELDS = [
    "id",
    "transaction_hash",
    "customer_id",
    "telegram_username",
    "plan_id",
    "plan",
    "price",
    "status",
    "reason",
    "amount",
    "sender",
    "paid_at",
    "claimed_at",
    "decided_at",
    "attempts",
    "next_check_at",
    "period_start",
    "period_end",
]
VERDICT_FIELDS = [
    "transaction_hash",
    "verdict",
    "reason",
    "detail",
    "amount",
    "sender",
    "recipient",
    "time",
    "source",
]
UTC_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z")
MANY = 1_300  # more than two pages of rows


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with open_sandbox() as opened:
        yield opened


@pytest.fixture
def real(database_url: str, sandbox: Sandbox) -> Commands:
    return commands(database_url, sandbox)


@pytest.fixture
def run(database_url: str, sandbox: Sandbox) -> Commands:
    """Real processes on SQLite; on PostgreSQL, which costs the time twice, in this process."""
    return commands(database_url, sandbox, inside=database_url.startswith("postgresql"))


def is_time(value: object) -> bool:
    return isinstance(value, str) and bool(UTC_TIME.fullmatch(value))


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def now() -> datetime:
    return datetime.now(UTC)


# Stories: each command as a real process, at least once


def test_plans_are_created_listed_repriced_and_retired(run: Commands) -> None:
    nothing = run("plans", "list")
    assert nothing.code == 0
    assert nothing.refused(0, "Nothing is on sale yet", 'buffettsbot plans create "1 month" 50')
    assert run("plans", "list", "--json").json() == []

    created = run("plans", "create", "1 month", "50", "--json")
    assert (created.code, created.stderr) == (0, "")
    plan = created.json()
    assert list(plan) == PLAN_FIELDS
    assert plan == {"id": plan["id"], "period": "1 month", "price": 50, "is_active": True}
    said = run.inside("plans", "create", "12 months", "500")
    assert said.refused(0, "1 year is on sale for 500 USDT.")

    again = run("plans", "create", "1month", "60", "--json")
    assert again.refused(4)
    assert again.error()["error"] == "conflict"
    assert 'buffettsbot plans set-price "1 month" 60' in again.error()["message"]
    assert list(again.error()) == ["error", "message"]

    assert run("plans", "set-price", "1 month", "60", "--json").json() == plan | {"price": 60}
    assert run("plans", "retire", "1 year", "--yes", "--json").json()["is_active"] is False

    listed = run.inside("plans", "list", "--json")
    assert (listed.code, listed.stderr) == (0, "")
    assert [list(row) for row in listed.json()] == [PLAN_FIELDS, PLAN_FIELDS]
    assert [tuple(row.values())[1:] for row in listed.json()] == [
        ("1 month", 60, True),
        ("1 year", 500, False),
    ]
    as_csv = run.inside("plans", "list", "--csv")
    assert as_csv.stdout.splitlines()[0] == ",".join(PLAN_FIELDS)
    assert as_csv.stdout.splitlines()[2].endswith(",1 year,500,false")
    shown = run("plans", "list")
    assert shown.stderr == ""
    assert [line.split() for line in shown.stdout.splitlines()] == [
        ["period", "price,", "USDT", "on", "sale"],
        ["1", "month", "60", "yes"],
        ["1", "year", "500", "no"],
    ]


def test_retire_asks_first_and_changes_nothing_without_a_yes(run: Commands, db: Database) -> None:
    shop(db)
    declined = run("plans", "retire", "1 month", stdin="n\n")
    assert declined.refused(4, "Take 1 month for 50 USDT off sale? [y/N]", "Nothing was changed.")
    assert run.inside("plans", "retire", "1 month", stdin="maybe\n").refused(4)
    unasked = run.inside("plans", "retire", "1 month")
    assert unasked.refused(4, "Nobody answered; nothing was changed", "--yes")
    assert [plan.is_active for plan in plans.list_plans(db)] == [True]

    agreed = run("plans", "retire", "1 month", stdin="y\n")
    assert agreed.refused(0, "1 month is off sale.")
    assert [plan.is_active for plan in plans.list_plans(db)] == [False]
    assert run.inside("plans", "retire", "1 month", "-y").refused(4, "No plan for 1 month is on")


def test_users_are_added_shown_promoted_and_demoted(run: Commands, db: Database) -> None:
    assert run.inside("users", "list").refused(0, "Nobody is known yet", "buffettsbot users add")
    added = run("users", "add", "7000000001", "@Ann_B", "--first-name", "Änn", "--json")
    assert (added.code, added.stderr) == (0, "")
    ann = added.json()
    assert list(ann) == USER_FIELDS
    assert is_time(ann["date_joined"])
    assert ann | {"date_joined": ""} == {
        "chat_id": 7_000_000_001,
        "telegram_username": "Ann_B",
        "first_name": "Änn",
        "last_name": "",
        "at_private_group": False,
        "date_joined": "",
        "is_staff": False,
    }
    updated = run.inside("users", "add", "7000000001", "ann_b", "--last-name", "B")
    assert updated.refused(0, "@ann_b (7000000001) was known; the profile is updated.")
    assert run("users", "show", "@ANN_B", "--json").json() == ann | {
        "telegram_username": "ann_b",
        "last_name": "B",
    }
    shown = run.inside("users", "show", "7000000001")
    assert shown.stderr == ""
    facts = dict(line.split("  ", 1) for line in shown.stdout.splitlines())
    assert facts["name"].strip() == "Änn B"

    assert run("users", "promote", "Ann_B", "--json").json()["is_staff"] is True
    assert run.inside("users", "promote", "Ann_B").refused(0, "@ann_b (7000000001) is staff.")
    person(db, 8, "bob")
    assert [row["chat_id"] for row in run("users", "list", "--json").json()] == [8, 7_000_000_001]
    assert [row["chat_id"] for row in run.inside("users", "list", "--staff", "--json").json()] == [
        7_000_000_001
    ]
    assert run("users", "demote", "7000000001").refused(0, "is not staff.")
    assert not users.show_user(db, 7_000_000_001).is_staff

    as_csv = run("users", "list", "--csv")
    assert as_csv.stdout.splitlines()[0] == ",".join(USER_FIELDS)
    assert table(as_csv.stdout)[1]["first_name"] == "Änn"
    nobody = run.inside("users", "show", "nobody", "--json")
    assert nobody.refused(4)
    assert nobody.error()["error"] == "unknown-user"


def test_verify_judges_and_changes_nothing(run: Commands, db: Database, sandbox: Sandbox) -> None:
    shop(db, month=50, quarter=140, year=500)
    good = sandbox.pay("140.5")
    told = run("verify", f"0x{good.upper()}", "--json")
    assert (told.code, told.stderr) == (0, "")
    verdict = told.json()
    assert list(verdict) == [*VERDICT_FIELDS, "plans"]
    assert is_time(verdict.pop("time"))
    assert verdict.pop("sender").startswith("T")
    assert verdict == {
        "transaction_hash": good,
        "verdict": "accepted",
        "reason": "accepted",
        "detail": "The payment is good.",
        "amount": "140.5",
        "recipient": WALLET,
        "source": "tronscan",
        "plans": ["1 month", "3 months"],
    }
    shown = run("verify", f"https://tronscan.org/#/transaction/{good}")
    assert shown.code == 0
    assert shown.stderr == "accepted: The payment is good.\n"
    assert "amount    140.5 USDT\n" in shown.stdout
    assert "pays for  1 month, 3 months\n" in shown.stdout

    small = run.inside("verify", good, "--plan", "1 year", "--json")
    assert (small.code, small.json()["reason"], small.json()["plans"]) == (4, "underpaid", [])
    malformed = run.inside("verify", good[1:], "--json")
    assert (malformed.code, malformed.json()["reason"]) == (4, "malformed-hash")
    assert malformed.json()["transaction_hash"] is None
    unknown = run("verify", hash_of(1), "--json")
    assert (unknown.code, unknown.json()["reason"]) == (5, "not-found")
    with sandbox.away():
        away = run.inside("verify", good)
    assert away.refused(5, "pending (source-unavailable): The blockchain services do not answer")
    assert rows(db, Payment) == rows(db, Subscription) == []


def test_a_claim_sells_once(real: Commands, db: Database, sandbox: Sandbox) -> None:
    run = real
    shop(db)
    person(db, 7, "ann")
    person(db, 8, "bob")
    good = sandbox.pay(50)
    sold = run("subscribers", "claim", "@ANN", "1 month", good, "--json")
    assert (sold.code, sold.stderr) == (0, "")
    claim = sold.json()
    assert list(claim) == [
        *VERDICT_FIELDS,
        "customer",
        "plan",
        "start_date",
        "end_date",
        "retry_after",
    ]
    assert is_time(claim["start_date"])
    assert is_time(claim["end_date"])
    assert (claim["customer"], claim["amount"], claim["retry_after"]) == (7, "50", None)
    said = run("subscribers", "claim", "7", "1month", f"0x{good.upper()}")
    assert said.refused(0, "accepted: The payment is good.", "The membership runs until ")

    other = run("subscribers", "claim", "bob", "1 month", good, "--json")
    assert (other.code, other.json()["reason"]) == (4, "already-used")
    used = run.inside("verify", good, "--json")
    assert (used.code, used.json()["verdict"], used.json()["reason"]) == (
        4,
        "refused",
        "already-used",
    )
    waiting = run("subscribers", "claim", "bob", "1 month", hash_of(5), "--json")
    assert (waiting.code, waiting.json()["reason"]) == (5, "not-found")
    assert 1 <= waiting.json()["retry_after"] <= 30
    assert run.inside("subscribers", "claim", "nobody", "1 month", good).refused(
        4, "No user 'nobody'"
    )
    assert run.inside("subscribers", "claim", "ann", "1 year", good).refused(4, "plans list")
    assert len(rows(db, Subscription)) == 1


def test_subscribers_are_listed_and_shown(run: Commands, db: Database) -> None:
    assert run.inside("subscribers", "list").refused(0, "Nobody matches", "--status all")
    member(db, 7, "ann", now=now() - 29 * DAY)
    member(db, 8, "bob", now=now() - DAY)
    listed = run("subscribers", "list", "--json")
    assert (listed.code, listed.stderr) == (0, "")
    ann, bob = listed.json()
    assert list(ann) == list(bob) == MEMBER_FIELDS
    assert is_time(ann["start_date"])
    assert is_time(ann["end_date"])
    assert {**ann, "start_date": "", "end_date": ""} == {
        "chat_id": 7,
        "telegram_username": "ann",
        "plan": "1 month",
        "price": 50,
        "transaction_hash": hash_of(7),
        "start_date": "",
        "end_date": "",
        "status": "expiring",
        "at_private_group": ann["at_private_group"],
    }
    assert isinstance(ann["at_private_group"], bool)
    assert bob["status"] == "active"
    as_csv = run("subscribers", "list", "--status", "all", "--csv")
    assert as_csv.stdout.splitlines()[0] == ",".join(MEMBER_FIELDS)
    assert [row["end_date"] for row in table(as_csv.stdout)] == [ann["end_date"], bob["end_date"]]
    assert "@ann" in run.inside("subscribers", "list").stdout.splitlines()[1]

    detail = run("subscribers", "show", "@Ann", "--json").json()
    assert list(detail) == ["user", "membership", "payments", "messages"]
    assert list(detail["user"]) == USER_FIELDS
    assert detail["membership"] == ann
    assert [list(entry) for entry in detail["payments"]] == [PAYMENT_FIELDS]
    assert list(detail["messages"][0]) == ["kind", "status", "created_at", "sent_at", "error"]
    assert detail["messages"][0]["kind"] == "welcome"
    shown = run.inside("subscribers", "show", "7")
    assert shown.stderr == ""
    assert hash_of(7) in shown.stdout
    person(db, 9, "cat")
    assert "none yet" in run.inside("subscribers", "show", "cat").stdout
    assert run.inside("subscribers", "show", "dan", "--json").error()["error"] == "unknown-user"


def test_the_ledger_is_listed_and_shown(run: Commands, db: Database) -> None:
    assert run.inside("payments", "list").refused(
        0, "No payment matches", "buffettsbot subscribers claim"
    )
    shop(db)
    person(db, 7, "ann")
    person(db, 8, "bob")
    buy(db, hash_of(1), now=now(), usdt="50.25")
    buy(db, hash_of(1), who=8, now=now())
    listed = run("payments", "list", "--json")
    assert (listed.code, listed.stderr) == (0, "")
    stranger, ann = listed.json()
    assert list(ann) == list(stranger) == PAYMENT_FIELDS
    for name in ("paid_at", "claimed_at", "decided_at", "period_start", "period_end"):
        assert is_time(ann[name]), name
    assert (ann["amount"], ann["price"], ann["plan"]) == ("50.25", 50, "1 month")
    assert (stranger["status"], stranger["reason"], stranger["amount"]) == (
        "refused",
        "already-used",
        None,
    )
    as_csv = run("payments", "list", "--csv")
    assert as_csv.stdout.splitlines()[0] == ",".join(PAYMENT_FIELDS)
    assert [row["amount"] for row in table(as_csv.stdout)] == ["", "50.25"]
    filtered = run.inside("payments", "list", "--status", "refused", "--json").json()
    assert filtered == [stranger]
    assert hash_of(1) in run.inside("payments", "list").stdout

    link = f"https://tronscan.org/#/transaction/{hash_of(1)}"
    detail = run("payments", "show", link, "--json").json()
    assert detail == ann | {"other_claims": [stranger]}
    shown = run("payments", "show", hash_of(1), "--evidence")
    assert shown.stderr == ""
    assert "status       accepted\n" in shown.stdout
    assert "other claim  @bob, 1 month: refused (already-used)\n" in shown.stdout
    assert '"evidence": [' in shown.stdout
    evidence = run.inside("payments", "show", hash_of(1), "--evidence", "--json").json()["evidence"]
    assert evidence[0]["transfers"][0]["amount"] == 50_250_000
    unclaimed = run.inside("payments", "show", hash_of(2), "--json")
    assert unclaimed.refused(4)
    assert unclaimed.error()["error"] == "not-found"


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


# The columns of the tables in design.md
OUTBOX_FIELDS = [
    "id",
    "key",
    "kind",
    "chat_id",
    "payload",
    "status",
    "attempts",
    "not_before",
    "leased_until",
    "sent_at",
    "error",
    "created_at",
]
AUDIT_FIELDS = ["id", "at", "actor", "action", "subject", "detail"]


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


def test_a_person_decides_and_it_is_written_down(
    run: Commands, db: Database, sandbox: Sandbox
) -> None:
    assert run.inside("audit").refused(0, "Nobody decided anything by hand yet.")
    shop(db)
    for number in (7, 8):
        person(db, number, f"user{number}")
        waiting = run.inside("subscribers", "claim", str(number), "1 month", hash_of(number))
        assert waiting.code == 5
    for verb, command in (
        ("Accept", ["approve", hash_of(7)]),
        ("Refuse", ["reject", hash_of(8), "--reason", "=not paid"]),
    ):
        asked = run.inside("payments", *command).refused(4, "Nobody answered")
        what = f"{verb} the payment of @user{command[1][-1]} for 1 month at 50 USDT: "
        assert asked.startswith(f"{what}pending (not-found)? [y/N]")
    assert [payment.status for payment in ledger(db)] == ["pending", "pending"]
    approved = run("payments", "approve", hash_of(7).upper(), "--yes", "--json").json()
    assert list(approved) == PAYMENT_FIELDS
    assert approved["status"] == "accepted"
    rejected = run("payments", "reject", hash_of(8), "--reason", "=not paid", "--yes")
    assert rejected.refused(0, "The payment is refused.")
    again = run.inside("payments", "reject", hash_of(7), "--reason", "x", "--yes", "--json")
    assert again.refused(4)
    assert set(again.error()) == {"error", "message"}
    run.inside("payments", "reject", hash_of(7), "--yes").refused(2, "--reason")

    entries = run("audit", "--json").json()
    assert [list(entry) for entry in entries] == [AUDIT_FIELDS] * 4
    assert [entry["action"].split()[-1] for entry in entries] == [
        *("reject", "approve", "claim", "claim")
    ]
    assert all(is_time(entry["at"]) and entry["actor"] for entry in entries)
    assert "=not paid" in entries[0]["detail"]
    assert run.inside("audit", "--limit", "1", "--json").json() == entries[:1]
    rows_ = table(run.inside("audit", "--csv").stdout)
    assert [row["id"] for row in rows_] == [str(entry["id"]) for entry in entries]
    assert not rows_[0]["detail"].startswith("=")


def test_nobody_is_asked_about_what_cannot_be_done(
    run: Commands, db: Database, sandbox: Sandbox
) -> None:
    member(db, 7, "ann", now=now())
    number = str(run.inside("outbox", "list", "--json").json()[0]["id"])
    asked = run.inside("outbox", "cancel", number, stdin="n\n").refused(4)
    assert asked.startswith(f"Take back message {number}, welcome for @ann? [y/N]")
    run("outbox", "cancel", number, stdin="y\n").refused(0, "(welcome) is cancelled.")
    used = ledger(db)[0].transaction_hash
    before = rows(db, Payment), rows(db, Plan)
    for arguments, words in (
        (["outbox", "cancel", "99"], "There is no message 99."),
        (["outbox", "cancel", number], f"Message {number} is cancelled"),
        (["payments", "approve", used], "pending or held"),
        (["payments", "reject", used, "--reason", "x"], "pending or held"),
        (["payments", "approve", hash_of(99)], "Nobody ever claimed this hash"),
        (["payments", "approve", "x"], "not a transaction hash"),
        (["plans", "retire", "1 year"], "No plan for 1 year is on sale"),
        (["plans", "retire", "2 years"], "There is no period '2 years'"),
        (["subscribers", "revoke", "bob", "--reason", "x"], "No user 'bob'"),
    ):
        told = run.inside(*arguments, stdin="y\n").refused(4, words)
        assert "[y/N]" not in told, arguments
    assert before == (rows(db, Payment), rows(db, Plan))
    for value in ("x", "0", "", "1.5", "٧", "9" * 30):
        run.inside("outbox", "cancel", value).refused(2, "write a message's number")
    unanswered = run.inside("plans", "retire", "1 month", "--json")
    assert "add --yes" in unanswered.error()["message"]  # and no question for a program to read
    assert run.inside("plans", "retire", "1 month", "--json", stdin="y\n").code == 0


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


# Sweeps


@pytest.mark.parametrize(
    "name", ["@Ann_B", "ann_b", "ANN_B", "@aNN_b", '"ann_b"', " @ann_b ", "7", " 7 ", "007"]
)
def test_a_person_is_named_in_many_ways(run: Commands, db: Database, name: str) -> None:
    person(db, 7, "Ann_B")
    person(db, 70, "Ann_Bo")
    assert run.inside("users", "show", name, "--json").json()["chat_id"] == 7
    assert run.inside("users", "promote", name, "--json").json()["chat_id"] == 7
    assert run.inside("subscribers", "show", name, "--json").json()["user"]["chat_id"] == 7


def test_a_hash_is_spelled_in_many_ways(run: Commands, db: Database, sandbox: Sandbox) -> None:
    shop(db)
    person(db, 7, "ann")
    good = sandbox.pay(50)
    for spelling in (
        good,
        good.upper(),
        f"0x{good}",
        f"0X{good.upper()}",
        f"  {good}\n",
        f"https://tronscan.org/#/transaction/{good}",
        f"https://tronscan.org/#/transaction/{good.upper()}?lang=ru",
        f"https://nile.tronscan.org/#/transaction/{good}",
    ):
        claimed = run.inside("subscribers", "claim", "ann", "1 month", spelling, "--json").json()
        assert claimed["transaction_hash"] == good, spelling
        judged = run.inside("verify", spelling, "--json").json()
        assert (judged["transaction_hash"], judged["reason"]) == (good, "already-used"), spelling
        assert run.inside("payments", "show", spelling, "--json").json()["status"] == "accepted"
    assert len(ledger(db)) == 1


def test_subscribers_are_filtered(run: Commands, db: Database) -> None:
    shop(db, month=50, year=400)
    member(db, 1, "cat", now=now() - 40 * DAY)
    member(db, 2, "bob", now=now() - 29 * DAY)
    member(db, 3, "ann", now=now() - DAY)
    member(db, 4, "dan", period="1 year", now=now() - DAY)
    for arguments, expected in {
        "": "bob ann dan",
        "--status active": "bob ann dan",
        "--status expiring": "bob",
        "--status expired": "cat",
        "--status all": "cat bob ann dan",
        "--within 36h": "bob",
        "--within 7d": "bob",
        "--within 10m": "",
        "--within 60d": "bob ann",
        "--within 60d --plan 1year": "",
        "--within 400d --plan 12months": "dan",
        "--within 400d --status all": "bob ann dan",
        "--plan 1month": "bob ann",
        "--plan 6months": "",
        "--status all --plan 1month": "cat bob ann",
        "--status all --limit 3": "cat bob ann",
        "--limit 1": "bob",
        "--limit 1000000000": "bob ann dan",
        "--status expiring --within 60d": "bob ann",
    }.items():
        listed = run.inside("subscribers", "list", *arguments.split(), "--json")
        names = " ".join(row["telegram_username"] for row in listed.json())
        assert names == expected, arguments
        as_csv = run.inside("subscribers", "list", *arguments.split(), "--csv")
        names = " ".join(row["telegram_username"] for row in table(as_csv.stdout))
        assert names == expected, arguments


def test_payments_are_filtered(run: Commands, db: Database, sandbox: Sandbox) -> None:
    shop(db)
    for number in range(1, 4):
        person(db, number, f"user{number}")
    buy(db, hash_of(1), who=1, now=now())
    buy(db, hash_of(1), who=2, now=now())
    run.inside("subscribers", "claim", "3", "1 month", hash_of(3))
    for arguments, expected in {
        "": [3, 2, 1],
        "--status accepted": [1],
        "--status refused": [2],
        "--status pending": [3],
        "--status held": [],
        "--limit 2": [3, 2],
        "--status pending --limit 5": [3],
    }.items():
        listed = run.inside("payments", "list", *arguments.split(), "--json").json()
        assert [row["customer_id"] for row in listed] == expected, arguments


REFUSALS: list[tuple[str, int, str]] = [
    ("plans create 1month 5", 4, "conflict"),
    ("plans create 2months 5", 4, "unknown-plan"),
    ("plans set-price 1year 5", 4, "unknown-plan"),
    ("plans set-price year 5", 4, "unknown-plan"),
    ("plans retire 1year --yes", 4, "unknown-plan"),
    ("users show nobody", 4, "unknown-user"),
    ("users show 123", 4, "unknown-user"),
    ("users promote nobody", 4, "unknown-user"),
    ("users demote 99999999999999999999", 4, "unknown-user"),
    ("users add x ann", 4, "invalid"),
    ("users add 8 not-a-name", 4, "invalid"),
    ("users add @me 42", 4, "invalid"),
    ("subscribers show nobody", 4, "unknown-user"),
    (f"subscribers claim nobody 1month {hash_of(1)}", 4, "unknown-user"),
    (f"subscribers claim ann 1year {hash_of(1)}", 4, "unknown-plan"),
    ("subscribers list --plan 5months", 4, "unknown-plan"),
    (f"payments show {hash_of(1)}", 4, "not-found"),
    ("payments show nothing", 4, "invalid"),
    (f"verify {hash_of(1)} --plan 1year", 4, "unknown-plan"),
    (f"verify {hash_of(1)} --plan 1day", 4, "unknown-plan"),
]


def test_every_refusal_is_a_sentence_for_people_and_json_for_programs(
    run: Commands, db: Database
) -> None:
    shop(db)
    person(db, 7, "ann")
    for line, code, slug in REFUSALS:
        told = run.inside(*line.split(), "--json")
        assert told.refused(code), line
        assert told.error()["error"] == slug, line
        assert list(told.error()) == ["error", "message"], line
        said = run.inside(*line.split())
        assert said.refused(code), line
        assert said.stderr == f"error: {told.error()['message']}\n", line
        assert said.stderr[:-1].count("\n") == 0, line
    assert len(rows(db, TelegramUser)) == len(rows(db, Plan)) == 1
    assert rows(db, Payment) == []


def test_wrong_usage_is_code_2(run: Commands) -> None:
    for line in (
        "nonsense",
        "plans nonsense",
        "plans list extra",
        "plans create",
        "plans list --nonsense",
        "plans list --json --csv",
        "users list --csv --json",
        "users list --limit 0",
        "users list --limit -1",
        "users list --limit many",
        f"users list --limit {10**20}",
        f"pass settle --limit {10**20}",
        "subscribers list --status nonsense",
        "subscribers list --within soon",
        "subscribers list --within 7",
        "subscribers list --within 0d",
        "subscribers list --within 999999999w",
        "subscribers list --status expired --within 7d",
        "payments list --status active",
        "pass settle --at 2030-01-01",
        "pass settle --dry-run --at tomorrow",
        "pass nonsense",
    ):
        result = run.inside(*line.split())
        assert result.refused(2, "Usage: buffettsbot", "Error: "), line
    for group in ("", "plans", "users", "subscribers", "payments", "pass", "db"):
        assert run.inside(*group.split()).refused(2, "Commands:"), group


def test_the_ends_of_time_are_no_bug(run: Commands) -> None:
    for zone in ("UTC", "America/New_York", "Asia/Tokyo"):
        for time in ("0001-01-01", "9999-12-31T23:59:59", "2030-01-01T00:00+14:00"):
            at = run.inside(
                "pass", "settle", "--dry-run", "--at", time, env={"BUFFETTSBOT_TIMEZONE": zone}
            )
            assert at.code in (0, 2), (zone, time)


# Spreadsheets, long lists, closed pipes


def test_no_csv_cell_is_run_as_a_formula(run: Commands, db: Database) -> None:
    evil = ['=cmd|" /C calc"!A0', "+1+1", "-2+3", "@SUM(A1)", "a\r=1+1", "b\n=1+1", 'c,"=1+1']
    for number, name in enumerate(evil, 1):
        person(db, number, f"user{number}", first_name=name)
    text = run.inside("users", "list", "--csv").stdout
    names = [row["first_name"] for row in table(text)]
    assert names == [
        '\'=cmd|" /C calc"!A0',
        "'+1+1",
        "'-2+3",
        "'@SUM(A1)",
        "a\n=1+1",
        "b\n=1+1",
        'c,"=1+1',
    ]
    # As lenient a reader as a spreadsheet: no cell of any row may begin a formula.
    assert "\r" not in text
    assert not [
        cell for row in csv.reader(io.StringIO(text)) for cell in row if cell[:1] in "=+-@" and cell
    ]
    assert [row["first_name"] for row in run.inside("users", "list", "--json").json()] == evil


def _many_users(db: Database, count: int) -> None:
    with db.begin() as session:
        session.execute(
            insert(TelegramUser),
            [
                {
                    "chat_id": number,
                    "telegram_username": f"user_{number}",
                    "first_name": "First",
                    "last_name": "Last",
                    "at_private_group": False,
                    "date_joined": datetime(2026, 1, 1, tzinfo=UTC),
                    "is_staff": number % 2 == 0,
                }
                for number in range(1, count + 1)
            ],
        )


def test_long_lists_come_whole_and_in_order(run: Commands, db: Database) -> None:
    _many_users(db, MANY)
    plan = shop(db)
    moment = now()
    ends = {number: moment + timedelta(days=1 + number * 7 % 11) for number in range(1, MANY + 1)}
    with db.begin() as session:
        session.execute(
            insert(Subscription),
            [
                {
                    "transaction_hash": hash_of(number),
                    "customer_id": number,
                    "plan_id": plan.id,
                    "start_date": moment,
                    "end_date": ends[number],
                    "duration": 86_400,
                }
                for number in ends
            ],
        )
        session.execute(
            insert(Payment),
            [
                {
                    "transaction_hash": hash_of(number),
                    "customer_id": number,
                    "plan_id": plan.id,
                    "price": 50,
                    "status": "refused",
                    "reason": "underpaid",
                    "claimed_at": moment,
                    "attempts": 1,
                }
                for number in ends
            ],
        )
    by_end = sorted(ends, key=lambda number: (ends[number], number))
    numbers = list(range(1, MANY + 1))
    for arguments, key, expected in (
        ("users list", "chat_id", numbers),
        ("users list --limit 1000", "chat_id", numbers[:1000]),
        ("users list --limit 501", "chat_id", numbers[:501]),
        ("users list --staff", "chat_id", numbers[1::2]),
        ("subscribers list", "chat_id", by_end),
        (
            "subscribers list --within 3d",
            "chat_id",
            [n for n in by_end if ends[n] <= moment + 3 * DAY],
        ),
        ("payments list --status refused", "customer_id", numbers[::-1]),
        ("payments list --limit 1001", "customer_id", numbers[::-1][:1001]),
    ):
        listed = run.inside(*arguments.split(), "--json").json()
        assert [row[key] for row in listed] == expected, arguments
        as_csv = table(run.inside(*arguments.split(), "--csv").stdout)
        assert [int(row[key]) for row in as_csv] == expected, arguments
        shown = run.inside(*arguments.split()).stdout.splitlines()
        assert len(shown) == len(expected) + 1, arguments
    shown = run.inside("users", "list").stdout.splitlines()[1:]
    assert [int(line.split()[0]) for line in shown] == numbers
    assert [line.split()[1] for line in shown] == [f"@user_{number}" for number in numbers]


def test_later_rows_that_are_wider_lose_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    count = 2 * output.PAGE_ROWS + 5
    wide = 2**52 - 1
    numbers = [*range(count - 1), wide]
    columns = (field("id", "id", right=True), field("name", "name"))
    show_rows(
        ({"id": n, "name": f"name {n}"} for n in numbers), columns, fields=("id", "name"), empty=""
    )
    shown = capsys.readouterr().out.splitlines()
    assert shown[-1].split("  ") == [str(wide), f"name {wide}"]
    assert [line.index("  name") for line in shown[-5:]] == [len(str(wide))] * 5
    assert [int(line.split()[0]) for line in shown[1:]] == numbers


class _Row(dict[str, Any]):
    """A row that counts how many of its kind are alive."""

    alive = 0
    most = 0

    def __init__(self, number: int) -> None:
        super().__init__(id=number, name=f"name {number}")
        _Row.alive += 1
        _Row.most = max(_Row.most, _Row.alive)

    def __del__(self) -> None:
        _Row.alive -= 1


@pytest.mark.parametrize("form", [{"as_json": True}, {"as_csv": True}, {}], ids=["json", "csv", ""])
def test_only_a_page_of_a_list_is_ever_held(
    form: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    _Row.most = 0
    with Path(os.devnull).open("w") as nowhere:
        monkeypatch.setattr("sys.stdout", nowhere)
        columns = (field("id", "id"), field("name", "name"))
        rows_ = (_Row(number) for number in range(20_000))
        show_rows(rows_, columns, fields=("id", "name"), empty="", **form)
    assert 0 < _Row.most <= 3 * output.PAGE_ROWS + 2


def test_memory_stays_flat_over_a_long_table(sqlite_url: str) -> None:
    db = Database(sqlite_url)
    _many_users(db, 40_000)
    db.close()
    run = Commands(sqlite_url)

    def megabytes(*arguments: str) -> float:
        with Path(os.devnull).open("w") as nowhere:
            process = run.start("users", "list", "--json", *arguments, stdout=nowhere)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            assert process.communicate()[1] == ""
        assert process.returncode == 0
        return usage.ru_maxrss / 1024

    assert megabytes() < megabytes("--limit", "1") + 12


@pytest.mark.parametrize("form", ["--json", "--csv", ""])
def test_head_closes_the_pipe_quietly(sqlite_url: str, form: str) -> None:
    db = Database(sqlite_url)
    _many_users(db, 3_000)
    db.close()
    process = Commands(sqlite_url).start("users", "list", *form.split())
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline().strip()
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(60) == 0


def test_nobody_reading_is_no_error_but_a_full_disk_is(sqlite_url: str, sandbox: Sandbox) -> None:
    db = Database(sqlite_url)
    shop(db)
    db.close()
    run = commands(sqlite_url, sandbox)
    for arguments in (["plans", "list"], ["verify", "nothing", "--json"]):
        reader, writer = os.pipe()
        os.close(reader)
        process = run.start(*arguments, stdout=writer)
        os.close(writer)
        assert process.communicate(timeout=60)[1] == ""
        assert process.returncode == 0
    for arguments in (["plans", "list"], ["plans", "list", "--csv"]):
        with Path("/dev/full").open("w") as full:
            process = run.start(*arguments, stdout=full)
            told = process.communicate(timeout=60)[1]
        assert (process.returncode, told) == (
            5,
            "error: The output cannot be written: the disk is full. Make room first.\n",
        )


def test_a_locale_without_utf8_is_no_bug(sqlite_url: str) -> None:
    db = Database(sqlite_url)
    person(db, 7, "ann", first_name="Анна 王 😀")
    db.close()
    run = Commands(sqlite_url)
    ascii_only = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    shown = run("users", "list", env=ascii_only)
    assert (shown.code, shown.stderr) == (0, "")
    assert shown.stdout.isascii()
    told = run("users", "list", "--json", env=ascii_only)
    assert told.stdout.isascii()
    assert told.json()[0]["first_name"] == "Анна 王 😀"
    posix = run("users", "list", "--json", env={"LC_ALL": "POSIX", "PYTHONUTF8": "0"})
    assert (posix.json(), posix.stderr) == (told.json(), "")
