"""What a person sees: on a terminal of 80 columns, and in a pipe."""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from commands import Commands, Sandbox, Screen, commands, open_sandbox
from helpers import (
    DAY,
    EXPECTATION,
    MINUTE,
    WALLET,
    buy,
    fake_chain,
    hash_of,
    member,
    paid,
    payments_chain,
    person,
    shop,
)
from rich.cells import cell_len

from buffettsbot.cli.shared.table import Column, fitted, printable, widths_of
from buffettsbot.core.ledger.claims import claim
from buffettsbot.core.members.memberships import STATUSES
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import PAYMENT_STATUSES

LONG = "abcdefghijklmnopqrstuvwxyz_01234"  # 32 characters, the longest Telegram allows
COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-7]")
RULE = "─"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with open_sandbox() as opened:
        yield opened


@pytest.fixture
def run(sqlite_url: str, sandbox: Sandbox) -> Commands:
    """A shop in which everything is as wide as it gets, and every status occurs."""
    db = Database(sqlite_url)
    now = datetime.now(UTC)
    shop(db, month=50, quarter=140, year=1_000_000)
    for number, days in ((1, 1), (2, 28), (3, 40)):
        member(db, 7_000_000_000 + number, f"{LONG[:-1]}{number}", now=now - days * DAY)
    member(db, 7_000_000_004, "ann", period="1 year", now=now)
    for number, name in ((5, "ben"), (6, LONG)):
        person(db, number, name, first_name="Wolfeschlegelsteinhausen" * 2, last_name="王小明" * 9)
    buy(db, hash_of(7_000_000_001), who=LONG, now=now)
    risky = payments_chain(paid(hash_of(55), "1000000.123456", at=now - MINUTE, risky=True))
    strict = replace(EXPECTATION, hold_risky=True)
    for chain, expectation, number in ((risky, strict, 55), (fake_chain({}), EXPECTATION, 56)):
        claim(
            db,
            chain,
            expectation,
            person=LONG,
            period="1 month",
            transaction_hash=hash_of(number),
            now=now,
        )
    db.close()
    return commands(sqlite_url, sandbox)


def table(screen: Screen, rows: int) -> list[str]:
    """Check that a screen shows nothing but a table of so many rows; return its header and rows."""
    assert screen.code == 0, screen
    assert screen.widest <= 80, screen.text
    header, rule, *body, end = screen.lines
    assert end == ""
    assert set(rule) == {RULE, " "}
    assert len(body) == rows, screen.text
    return [header, *body]


def column(lines: list[str], title: str, after: str = "") -> list[str]:
    """Return the texts under a heading, which begin where it begins."""
    at = lines[0].index(title)
    end = lines[0].index(after) if after else None
    return [line[at:end].strip() for line in lines[1:]]


def test_subscribers_fit_a_terminal(run: Commands) -> None:
    lines = table(run.on_terminal("subscribers", "list", "--status", "all"), 4)
    assert lines[0].split() == ["user", "plan", "ends", "status", "in", "group"]
    assert column(lines, "user", "plan")[0] == f"@{LONG[:-1]}3"
    assert column(lines, "status", "in group") == ["expired", "expiring", "active", "active"]
    assert set(column(lines, "plan", "ends")) == {"1 month", "1 year"}


def test_payments_of_every_status_fit_a_terminal(run: Commands) -> None:
    lines = table(run.on_terminal("payments", "list"), 7)
    assert set(column(lines, "status", "hash")) == set(PAYMENT_STATUSES)
    assert f"@{LONG}" in column(lines, "user", "status")
    assert all(re.fullmatch(r"\w{8}…\w{4}", text) for text in column(lines, "hash"))


def test_users_fit_a_terminal(run: Commands) -> None:
    lines = table(run.on_terminal("users", "list"), 6)
    assert lines[0].split() == ["chat", "id", "username", "name", "staff", "since"]
    assert f"@{LONG}" in column(lines, "username", " name")
    assert any(name.endswith("…") for name in column(lines, " name", "staff"))


def test_colour_is_only_where_it_is_wanted(run: Commands) -> None:
    screen = run.on_terminal("payments", "list")
    assert "\x1b[32maccepted" in screen.raw
    assert "\x1b[31mrefused" in screen.raw
    assert "\x1b[33mheld" in screen.raw
    plain = run.on_terminal("payments", "list", env={"NO_COLOR": "1"})
    assert not COLOUR.search(plain.raw)
    assert plain.lines == screen.lines
    dumb = run.on_terminal("payments", "list", env={"TERM": "dumb"})
    assert "\x1b" not in dumb.raw
    piped = run.inside("payments", "list")
    assert "\x1b" not in piped.stdout
    assert RULE not in piped.stdout
    assert len(piped.stdout.splitlines()) == 8
    assert hash_of(55) in piped.stdout
    assert "1000000.123456" in piped.stdout
    error = run.on_terminal("users", "show", "nobody", env={"NO_COLOR": "1"})
    assert not COLOUR.search(error.raw)
    assert COLOUR.search(run.on_terminal("users", "show", "nobody").raw)
    assert "\x1b" not in run.inside("users", "show", "nobody").stderr


def test_one_thing_is_shown_a_fact_a_line(run: Commands) -> None:
    for arguments, facts in (
        (("subscribers", "show", LONG), ["membership  none yet", hash_of(55), "held"]),
        (("subscribers", "show", "ann"), ["plan      1 year", "status    active"]),
        (("payments", "show", hash_of(7_000_000_001)), ["status       accepted", f"@{LONG}, 1 mo"]),
        (("users", "show", LONG), [f"username  @{LONG}", "王小明"]),
    ):
        screen = run.on_terminal(*arguments)
        assert screen.code == 0
        assert screen.widest <= 80, screen.text
        for fact in facts:
            assert fact in screen.text, (fact, screen.text)
        first = len(screen.lines[0]) - len(screen.lines[0].split("  ", 1)[1].lstrip())
        for line in screen.lines[:-1]:  # what is folded stands under what it belongs to
            assert line[:first].endswith("  "), screen.text


def test_words_are_never_broken_and_a_command_stands_alone(run: Commands) -> None:
    exists = run.on_terminal("plans", "create", "1 month", "60")
    assert exists.code == 4
    assert exists.widest <= 80
    assert exists.lines[-2] == '  buffettsbot plans set-price "1 month" 60'
    piped = run.inside("plans", "create", "1 month", "60").stderr
    assert piped.count("\n") == 1
    assert piped.endswith(': buffettsbot plans set-price "1 month" 60\n')
    malformed = run.on_terminal("verify", "nonsense")
    assert malformed.widest <= 80
    assert " ".join(malformed.lines[:-1]) + "\n" == run.inside("verify", "nonsense").stderr


def test_a_verdict_reads_well(run: Commands, sandbox: Sandbox) -> None:
    good = sandbox.pay("50.000001")
    screen = run.on_terminal("verify", good)
    assert screen.code == 0
    assert screen.widest <= 80
    assert screen.lines[0] == "accepted: The payment is good."
    assert f"to        {WALLET}" in screen.lines
    assert "amount    50.000001 USDT" in screen.lines


def test_a_person_is_asked_on_the_terminal(run: Commands) -> None:
    declined = run.on_terminal("plans", "retire", "1 month", answers="n\n")
    assert (declined.code, declined.lines[-2]) == (4, "error: Nothing was changed.")
    agreed = run.on_terminal("plans", "retire", "1 month", answers="yes\n")
    assert (agreed.code, agreed.lines[-2]) == (0, "1 month is off sale.")
    assert agreed.lines[0] == "Take 1 month for 50 USDT off sale? [y/N] yes"


def test_a_pass_leaves_one_line(run: Commands) -> None:
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    screen = run.on_terminal("pass", "settle", "--dry-run", "--at", later)
    assert screen.code == 0
    assert screen.widest <= 80
    assert "settle: 1 due, 0 done, 1 left, 0 failed (dry run, nothing was changed)" in screen.text


def test_help_fits_a_terminal(run: Commands) -> None:
    for group in ([], ["subscribers", "list"]):
        screen = run.on_terminal(*group, "--help")
        assert (screen.code, screen.widest <= 80) == (0, True), screen.text


@pytest.mark.parametrize("width", [60, 80, 100, 132, 250])
def test_tables_take_the_room_there_is(run: Commands, width: int) -> None:
    wide = {"FORCE_COLOR": "1", "COLUMNS": str(width)}
    for arguments in (
        "users list",
        "payments list",
        "subscribers list --status all",
        "plans list",
        "outbox list",
        "pass expire --dry-run",
    ):
        shown = run.inside(*arguments.split(), env=wide).stdout
        lines = re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines()
        assert len(lines) - 1 == len(run.inside(*arguments.split()).stdout.splitlines())
        if width >= 80:
            assert max(map(cell_len, lines)) <= width, arguments
        if width == 250:
            assert "…" not in shown, arguments


def test_a_name_cannot_command_the_terminal(run: Commands, sqlite_url: str) -> None:
    db = Database(sqlite_url)
    evil = "\x1b[2J\x1b[31mred\r\nnew line\x9b1m\u202eexe.\tZoë 👩‍👩‍👧"
    person(db, 77, "eve", first_name=evil)
    db.close()
    for arguments in (("users", "list"), ("users", "show", "77"), ("subscribers", "show", "77")):
        screen = run.on_terminal(*arguments)
        assert "\x1b[2J" not in screen.raw
        assert "\x1b[31mred" not in screen.raw
        assert not re.search("[\x9b\u202e\t]", screen.raw)
        piped = run.inside(*arguments).stdout
        assert not re.search("[\x1b\r\x9b\u202e\t]", piped)
    for arguments in (("users", "show", "77"), ("users", "list"), ("subscribers", "show", "77")):
        as_json = run.inside(*arguments, "--json")
        assert not re.search("[\x1b\r\x9b\u202e\t]", as_json.stdout)
        assert "\\u001b[2J" in as_json.stdout
        assert "\\u009b1m\\u202eexe" in as_json.stdout
    assert run.inside("users", "show", "77", "--json").json()["first_name"] == evil
    as_csv = run.inside("users", "list", "--csv").stdout
    assert not re.search("[\x1b\r\x9b\u202e\t]", as_csv)
    assert "[31mred\nnew line" in as_csv
    assert "Zoë 👩‍👩‍👧" in run.inside("users", "show", "77").stdout
    assert len(run.inside("users", "list").stdout.splitlines()) == 8
    told = run.inside("users", "show", "\x1b[2Jnobody\x9b")
    assert told.code == 4
    assert not re.search("[\x1b\x9b]", told.stderr)


def test_columns_give_way_in_their_order() -> None:
    columns = [
        Column("name", lambda row: row["name"], cut=True),
        Column("a", lambda row: "a" * 10, yields=2),
        Column("b", lambda row: "b" * 10, narrow=lambda row: "b", yields=1),
        Column("c", lambda row: "c" * 10),
    ]
    rows = [{"name": "n" * 20}]

    def at(room: int | None) -> tuple[str, list[int]]:
        kept = fitted(columns, rows, room)
        return "".join(column.text(rows[0])[0] for column in kept), widths_of(kept, rows, room)

    assert at(None) == ("nabc", [20, 10, 10, 10])
    assert at(56) == ("nabc", [20, 10, 10, 10])
    assert at(50) == ("nabc", [14, 10, 10, 10])
    assert at(48) == ("nabc", [12, 10, 10, 10])
    assert at(47) == ("nabc", [20, 10, 1, 10])
    assert at(38) == ("nbc", [20, 1, 10])
    assert at(10) == ("nbc", [12, 1, 10])


def test_printable_keeps_what_people_write() -> None:
    for text in ("Zoë", "Łódź 王小明", "عبد الله", "👩‍👩‍👧", "नमस्ते", "x\u00a0y"):
        assert printable(text) == text
    assert printable("a\nb\x00c\x7f") == "a\ufffdb\ufffdc\ufffd"


def test_every_status_of_a_membership_has_a_colour_or_needs_none() -> None:
    from buffettsbot.cli.shared.output import COLOURS

    assert {*PAYMENT_STATUSES, *STATUSES} - {"all"} == set(COLOURS)
