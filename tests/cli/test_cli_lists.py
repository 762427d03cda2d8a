"""Long lists, spreadsheets, closed pipes, full disks, and a locale without UTF-8."""

import csv
import io
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from commands import Commands, Sandbox, commands
from contract import now, table
from helpers import DAY, hash_of, person, shop
from sqlalchemy import insert

from buffettsbot.cli.shared import output
from buffettsbot.cli.shared.facts import field
from buffettsbot.cli.shared.output import show_rows
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import Payment, Subscription, TelegramUser

MANY = 1_300  # more than two pages of rows


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
