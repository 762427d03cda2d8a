"""Plans, users and subscribers on the command line, letter by letter as the contract has it."""

import pytest
from commands import Commands
from contract import MEMBER_FIELDS, PAYMENT_FIELDS, PLAN_FIELDS, USER_FIELDS, is_time, now, table
from helpers import DAY, hash_of, member, person, shop

from buffettsbot.core.members import users
from buffettsbot.core.offers import plans
from buffettsbot.core.storage.database import Database


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


@pytest.mark.parametrize(
    "name", ["@Ann_B", "ann_b", "ANN_B", "@aNN_b", '"ann_b"', " @ann_b ", "7", " 7 ", "007"]
)
def test_a_person_is_named_in_many_ways(run: Commands, db: Database, name: str) -> None:
    person(db, 7, "Ann_B")
    person(db, 70, "Ann_Bo")
    assert run.inside("users", "show", name, "--json").json()["chat_id"] == 7
    assert run.inside("users", "promote", name, "--json").json()["chat_id"] == 7
    assert run.inside("subscribers", "show", name, "--json").json()["user"]["chat_id"] == 7


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
