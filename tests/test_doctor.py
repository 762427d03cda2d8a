"""`buffettsbot doctor`: well when all is well, and for each thing that breaks, its own line."""

import socket
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from commands import Commands, Sandbox, commands, open_sandbox
from helpers import MINUTE, NOW, USDT, WALLET, hash_of, member, person, shop, staff
from loopback import Answer, Loopback
from sqlalchemy import delete, insert, update

from buffettsbot.core import doctor, host_checks, leases
from buffettsbot.core.app import utcnow
from buffettsbot.core.data_checks import PASS_RUN, check_data
from buffettsbot.core.db import Database
from buffettsbot.core.delivery import LEASE
from buffettsbot.core.findings import Finding, exit_code, run_all
from buffettsbot.core.host_checks import (
    check_api,
    check_disk,
    check_env_file,
    check_settings,
    check_timers,
    check_wallet,
)
from buffettsbot.core.models import OUTBOX, PAYMENT
from buffettsbot.core.outside_checks import Witness, check_clock, check_source, check_telegram
from buffettsbot.core.pacing import PAUSE
from buffettsbot.core.settings import Settings, load_settings

GROUP = -1_001_234_567_890
BOT_TOKEN = "123456789:the-secret-of-the-bot"
API_TOKEN = "the-secret-of-the-api-0123456789"
PASSES = ("settle", "deliver", "remind", "expire")

Configure = Callable[..., Settings]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with open_sandbox() as opened:
        yield opened


@pytest.fixture
def well(sandbox: Sandbox) -> Sandbox:
    """The sandbox without a fault: the bot's token is right, and it may do its work."""
    sandbox.http.delete("/_sandbox/faults").raise_for_status()
    rights = {"status": "administrator", "can_invite_users": True, "can_restrict_members": True}
    group = {"id": GROUP, "title": "The circle", "type": "supergroup", "bot": rights}
    play(sandbox, "telegram", token=BOT_TOKEN, group=group)
    for service in ("tronscan", "trongrid"):
        play(sandbox, "keys", service=service, accepted=None)
    return sandbox


def play(sandbox: Sandbox, what: str, **values: Any) -> None:
    sandbox.http.post(f"/_sandbox/{what}", json=values).raise_for_status()


def fail(sandbox: Sandbox, service: str, fault: str, **more: Any) -> None:
    play(sandbox, "faults", service=service, fault=fault, **more)


@pytest.fixture
def configured(settings_env: Path, well: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Configure:
    """Return the settings that point at the sandbox, with these changed; None unsets one."""

    def configure(**changes: object) -> Settings:
        values = {
            "wallet": WALLET,
            "database_url": f"sqlite:///{settings_env}/there.db",
            "telegram_token": BOT_TOKEN,
            "group_id": GROUP,
            "api_token": API_TOKEN,
        } | {f"{name}_url": well.url for name in ("telegram", "tronscan", "trongrid")}
        for name, value in (values | changes).items():
            monkeypatch.setenv(f"BUFFETTSBOT_{name.upper()}", str(value))
            if value is None:
                monkeypatch.delenv(f"BUFFETTSBOT_{name.upper()}")
        return load_settings()

    return configure


def witness(now: Callable[[], datetime] = utcnow) -> Witness:
    return Witness(float("inf"), now)


def told(findings: Any) -> list[tuple[str, str]]:
    """Return checks and statuses; whatever is not well has to come with advice."""
    findings = list(findings)
    assert all(f.advice for f in findings if f.status != "ok"), findings
    assert all("\n" not in f.found + f.advice for f in findings), findings
    return [(f.check, f.status) for f in findings]


def only(findings: Any, check: str) -> Finding:
    (finding,) = [f for f in findings if f.check == check]
    assert isinstance(finding, Finding)
    assert finding.status == "ok" or finding.advice
    return finding


def ran(db: Database, name: str, started: datetime, ended: datetime | None, **report: int) -> None:
    row = {"name": name, "started_at": started, "finished_at": ended, "report": report or None}
    with db.begin() as session:
        session.execute(insert(PASS_RUN), row)


def in_use(db: Database, now: datetime) -> None:
    """What a place looks like where everything runs."""
    shop(db)
    staff(db, 1)
    for name in PASSES:
        ran(db, name, now - 2 * MINUTE, now - MINUTE, due=3, done=3, failed=0)


# As a person meets it


def ready(
    database_url: str, sandbox: Sandbox, tmp_path: Path, **settings: object
) -> tuple[Commands, Path]:
    """Return the command line as it runs in production, and its env file."""
    file = tmp_path / "buffettsbot.env"
    file.write_text(f"BUFFETTSBOT_API_TOKEN={API_TOKEN}\n")
    file.chmod(0o640)
    values = {"telegram_token": BOT_TOKEN, "group_id": GROUP, "telegram_url": sandbox.url}
    run = commands(database_url, sandbox, env_file=file, **values | settings)  # type: ignore[arg-type]
    return run, file


def test_all_is_well_and_nothing_is_changed(
    db: Database, database_url: str, well: Sandbox, tmp_path: Path
) -> None:
    in_use(db, utcnow())
    run, _ = ready(database_url, well, tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())
    done = run("doctor", "--json")
    found = done.json()
    assert {f["status"] for f in found} - {"ok"} == set(), found
    assert done.code == 0
    assert all(set(f) == {"check", "status", "found", "advice"} for f in found)
    expected = ["env file", "settings", "wallet", "api", "database", "plans", "staff"]
    expected += [f"pass {name}" for name in PASSES] + ["outbox", "payments", "leases"]
    expected += ["disk"] if db.is_sqlite else []
    assert [f["check"] for f in found] == [
        *expected, "telegram", "group", "tronscan", "trongrid", "clock",
    ]  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert "the-secret" not in done.stdout


def test_a_person_sees_a_mark_what_was_found_and_what_to_do(
    sqlite_url: str, well: Sandbox, tmp_path: Path
) -> None:
    run, file = ready(sqlite_url, well, tmp_path, group_id="the circle", tronscan_api_key="ключ")
    file.chmod(0o644)
    fail(well, "trongrid", "503")
    screen = run.on_terminal("doctor")
    assert screen.code == 4
    assert screen.widest <= 80
    assert "✗  env file" in screen.text
    assert "→ Run: chmod o= " in screen.text
    piped = run("doctor")
    lines = piped.stdout.splitlines()
    assert [line[0] for line in lines if "settings" in line] == ["✗"]
    assert [line[0] for line in lines if " trongrid " in line] == ["?"]
    assert [line[0] for line in lines if " plans " in line] == ["!"]
    assert [line[0] for line in lines if " telegram " in line] == ["✓"]
    assert all(" → " in line for line in lines if line[0] != "✓")
    assert "the-secret" not in piped.stdout + screen.text


def test_a_database_that_is_not_there_is_not_made(
    configured: Configure, settings_env: Path
) -> None:
    configured()
    finding = only(doctor.examine(utcnow), "database")
    assert finding.status == "failed"
    assert "buffettsbot db upgrade" in finding.advice
    assert list(settings_env.iterdir()) == []


def test_whatever_hangs_the_rest_is_still_told(
    configured: Configure, settings_env: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "ASK_SECONDS", 0.4)
    monkeypatch.setattr(doctor, "ALL_SECONDS", 1.0)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(50)
        place = f"127.0.0.1:{silent.getsockname()[1]}"
        urls = {f"{name}_url": f"http://{place}" for name in ("telegram", "tronscan", "trongrid")}
        configured(database_url=f"postgresql://u:p@{place}/d", **urls)
        found = doctor.examine(utcnow)
    assert ("wallet", "ok") in told(found)
    for name in ("telegram", "tronscan", "trongrid", "clock"):
        assert only(found, name).status == "unknown"
    assert only(found, "database") == Finding(
        "database", "unknown", "no answer in time", "Try again in a moment."
    )
    assert exit_code(found) == 5


def test_settings_that_cannot_be_read_are_the_first_thing_to_mend(
    settings_env: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUFFETTSBOT_ENV_FILE", "/nowhere/at.all")
    assert told(doctor.examine(utcnow)) == [("settings", "failed")]
    file = settings_env / "latin.env"
    file.write_bytes(b"BUFFETTSBOT_COMMUNITY=caf\xe9\n")
    file.chmod(0o600)
    monkeypatch.setenv("BUFFETTSBOT_ENV_FILE", str(file))
    assert told(doctor.examine(utcnow)) == [("env file", "ok"), ("settings", "failed")]


def test_a_check_that_breaks_is_a_finding_and_worse_goes_first() -> None:
    def breaks() -> Iterator[Finding]:
        yield Finding("a", "warning", "seen before", "do this")
        raise ZeroDivisionError("secret")

    found = run_all({"a": breaks, "b": lambda: []}, deadline=monotonic() + 60)
    assert told(found) == [("a", "warning"), ("a", "unknown")]
    assert "secret" not in str(found)
    statuses = [Finding("x", status, "") for status in ("ok", "warning", "unknown", "failed")]
    assert [exit_code(statuses[:end]) for end in range(5)] == [0, 0, 0, 5, 4]


# The host


def test_every_malformed_setting_has_its_line_and_a_typing_error_its_guess(
    configured: Configure, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert told(check_settings(configured(), None)) == [("settings", "ok")]
    monkeypatch.setenv("BUFFETTSBOT_TIMEZON", "UTC")
    found = list(check_settings(configured(timezone="Nowhere", language="xx"), None))
    assert told(found) == [("settings", s) for s in ("failed", "failed", "warning")]
    assert "BUFFETTSBOT_TIMEZONE?" in found[2].advice
    monkeypatch.delenv("BUFFETTSBOT_TIMEZON")
    configured(timezone="UTC", language="en")
    quorum = check_settings(configured(chain_quorum=2, chain_sources="tronscan"), None)
    assert told(quorum) == [("settings", "failed")]
    configured(chain_quorum=1)
    texts = list(check_settings(configured(messages_dir=tmp_path / "gone"), None))
    assert texts[0].advice.endswith("buffettsbot messages check")


@pytest.mark.parametrize(
    ("mode", "status"), [(0o600, "ok"), (0o640, "ok"), (0o660, "warning"), (0o644, "failed")]
)
def test_nobody_else_reads_the_env_file(tmp_path: Path, mode: int, status: str) -> None:
    file = tmp_path / "the.env"
    file.touch()
    file.chmod(mode)
    assert told(check_env_file(file)) == [("env file", status)]


@pytest.mark.parametrize(
    ("wallet", "status"),
    [(WALLET, "ok"), (WALLET[:-1] + "x", "failed"), (USDT, "failed"), (None, "failed")],
)
def test_the_wallet_is_a_wallet(configured: Configure, wallet: str | None, status: str) -> None:
    assert told(check_wallet(configured(wallet=wallet))) == [("wallet", status)]


@pytest.mark.parametrize(
    ("token", "status"), [(API_TOKEN, "ok"), (None, "warning"), ("short", "warning")]
)
def test_the_api_asks_for_a_token(configured: Configure, token: str | None, status: str) -> None:
    found = list(check_api(configured(api_token=token)))
    assert told(found) == [("api", status)]
    assert not token or token not in str(found)


def test_a_full_disk_is_seen_before_it_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for bound, status in ((0, "ok"), (2**62, "warning")):
        monkeypatch.setattr(host_checks, "NEARLY_FULL", bound)
        assert told(check_disk(tmp_path)) == [("disk", status)]
    monkeypatch.setattr(host_checks, "FULL", 2**62)
    assert told(check_disk(tmp_path)) == [("disk", "failed")]
    assert told(check_disk(tmp_path / "gone")) == [("disk", "unknown")]


def test_only_units_that_are_installed_are_expected_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_checks, "SYSTEMD", tmp_path / "none")
    assert told(check_timers()) == []
    monkeypatch.setattr(host_checks, "SYSTEMD", tmp_path)
    states = [("loaded", "active"), ("loaded", "inactive"), *[("not-found", "inactive")] * 4]
    shown = "\\n".join(f"LoadState={load}\\nActiveState={state}\\n" for load, state in states)
    program = tmp_path / "systemctl"
    program.write_text(f"#!/bin/sh\nprintf '{shown}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found = list(check_timers())
    assert told(found) == [("timers", "ok"), ("timers", "failed")]
    assert found[1].advice == "Run: sudo systemctl enable --now buffettsbot-deliver.timer"


# Outside


@pytest.mark.parametrize(
    ("fault", "status", "says"),
    [
        ("429-in-band", "warning", "too often"),
        ("429", "warning", "too often"),
        ("403-key", "failed", "status 403"),
        ("html", "failed", "not {name}"),
        ("array", "failed", "not {name}"),
        ("404", "failed", "not {name}"),
        ("502-html", "unknown", "in trouble"),
        ("reset", "unknown", "does not answer"),
    ],
)
@pytest.mark.parametrize("name", ["tronscan", "trongrid"])
def test_each_trouble_of_a_source_has_its_words(
    configured: Configure, well: Sandbox, name: str, fault: str, status: str, says: str
) -> None:
    fail(well, name, fault)
    found = list(check_source(configured(), name, witness()))
    assert told(found) == [(name, status)]
    assert says.format(name=name) in found[0].found


def test_each_key_of_a_source_is_tried(configured: Configure, well: Sandbox) -> None:
    play(well, "keys", service="trongrid", accepted=["key-one", "key-three"])
    settings = configured(trongrid_api_key="key-one, key-two, key-three")
    found = list(check_source(settings, "trongrid", witness()))
    assert told(found) == [("trongrid", status) for status in ("ok", "failed", "ok")]
    assert "API key 2 of 3" in found[1].found
    assert "BUFFETTSBOT_TRONGRID_API_KEY" in found[1].advice
    assert "key-" not in str(found)


@pytest.mark.parametrize(
    ("world", "status", "says"),
    [
        ({"bot": {"can_invite_users": False}}, "failed", "may not invite users in"),
        ({"bot": {"can_restrict_members": False}}, "failed", "may not ban users in"),
        ({"bot": {"status": "member"}}, "failed", "no administrator"),
        ({"bot": {"status": "kicked"}}, "failed", "may not do its work"),
        ({"type": "group"}, "failed", "is a group, not a supergroup"),
        ({}, "ok", "The circle"),
    ],
)
def test_the_bots_rights_are_looked_at(
    configured: Configure, well: Sandbox, world: dict[str, Any], status: str, says: str
) -> None:
    play(well, "telegram", group={"id": GROUP, **world})
    found = list(check_telegram(configured(), witness()))
    assert told(found) == [("telegram", "ok"), ("group", status)]
    assert says in found[1].found


def test_a_group_that_moved_is_named_by_its_new_id(configured: Configure, well: Sandbox) -> None:
    new = GROUP - 1
    play(well, "telegram", migrate={str(GROUP): new})
    try:
        finding = only(check_telegram(configured(), witness()), "group")
    finally:
        play(well, "telegram", migrate={str(GROUP): GROUP})
    assert (finding.status, str(new) in finding.advice) == ("failed", True)


@pytest.mark.parametrize(
    ("fault", "status"),
    [("401", "failed"), ("429", "warning"), ("500", "unknown"), ("html", "unknown")],
)
def test_each_trouble_of_telegram_has_its_status(
    configured: Configure, well: Sandbox, fault: str, status: str
) -> None:
    fail(well, "telegram", fault)
    found = list(check_telegram(configured(), witness()))
    assert told(found) == [("telegram", status)]
    assert "secret" not in str(found)


def test_without_a_token_or_a_group_it_says_what_that_means(configured: Configure) -> None:
    assert told(check_telegram(configured(telegram_token=None), witness())) == [
        ("telegram", "failed")
    ]
    found = list(check_telegram(configured(group_id=None), witness()))
    assert told(found) == [("telegram", "ok"), ("group", "ok")]
    assert "by hand" in found[1].found


@pytest.mark.parametrize(
    ("drift", "status", "says"),
    [
        (timedelta(seconds=10), "ok", "agrees"),
        (timedelta(minutes=3), "warning", "ahead of"),
        (-timedelta(minutes=9), "failed", "behind Telegram's"),
    ],
)
def test_the_clock_is_held_against_those_outside(
    configured: Configure, drift: timedelta, status: str, says: str
) -> None:
    configured()
    finding = only(doctor.examine(lambda: utcnow() + drift), "clock")
    assert finding.status == status
    assert says in finding.found


def test_one_wrong_clock_outside_is_not_believed(configured: Configure, loopback: Loopback) -> None:
    right, wrong = witness(), witness()
    right.drift, wrong.drift = timedelta(seconds=1), timedelta(days=1)
    assert told(check_clock([right, wrong])) == [("clock", "ok")]
    assert told(check_clock([wrong, right, wrong])) == [("clock", "failed")]
    assert told(check_clock([witness()])) == [("clock", "unknown")]
    cached = witness()
    loopback.answer = Answer(b"{}", headers={"age": "3600"})
    list(check_source(configured(tronscan_url=loopback.url), "tronscan", cached))
    assert cached.drift is not None
    assert round(cached.drift / MINUTE) == -60


# The data


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
    assert "damaged" in only(doctor.examine(utcnow), "database").found
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


def test_a_new_place_is_warned_of_what_it_lacks(db: Database) -> None:
    found = told(check_data(db, NOW))
    warned = ["plans", "staff", *(f"pass {name}" for name in PASSES)]
    assert [check for check, status in found if status == "warning"] == warned
    assert {status for _, status in found} == {"ok", "warning"}


@pytest.mark.parametrize(
    ("name", "ended", "status"),
    [
        ("settle", 14 * MINUTE, "ok"),
        ("settle", 16 * MINUTE, "warning"),
        ("deliver", 61 * MINUTE, "failed"),
        ("remind", timedelta(hours=25), "ok"),
        ("expire", timedelta(hours=27), "warning"),
        ("expire", timedelta(hours=51), "failed"),
    ],
)
def test_a_pass_that_stopped_running_is_told(
    db: Database, name: str, ended: timedelta, status: str
) -> None:
    ran(db, name, NOW - ended - MINUTE, NOW - ended, due=1, done=1, failed=0)
    finding = only(check_data(db, NOW), f"pass {name}")
    assert finding.status == status


def test_a_pass_that_begins_and_never_ends_or_failed_is_told(db: Database) -> None:
    ran(db, "settle", NOW - 3 * 60 * MINUTE, None)
    ran(db, "remind", NOW - 5 * MINUTE, NOW - 4 * MINUTE, due=9, done=7, failed=2)
    ran(db, "deliver", NOW - 2 * MINUTE, NOW - MINUTE, due=0, done=0, failed=0)
    ran(db, "deliver", NOW, None)  # under way
    found = list(check_data(db, NOW))
    assert "never ended" in only(found, "pass settle").found
    assert only(found, "pass settle").status == "failed"
    assert only(found, "pass remind").found == "ended 4 minutes ago, 2 failed"
    assert only(found, "pass deliver").status == "ok"


def test_what_waits_too_long_in_the_outbox_or_never_arrived_is_told(db: Database) -> None:
    in_use(db, NOW)
    member(db)
    ages = (5 * MINUTE, 20 * MINUTE, 7 * 60 * MINUTE)
    seen = [only(check_data(db, NOW + age), "outbox").status for age in ages]
    assert seen == ["ok", "warning", "failed"]
    with db.begin() as session:
        session.execute(update(OUTBOX).values(status="failed", error="blocked"))
    found = [f for f in check_data(db, NOW + MINUTE) if f.check == "outbox"]
    assert told(found) == [("outbox", "ok"), ("outbox", "warning")]
    assert told(f for f in check_data(db, NOW + timedelta(days=8)) if f.check == "outbox") == [
        ("outbox", "ok")
    ]


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

    assert seen() == [("payments", "ok")]
    pending(1)
    assert seen() == [("payments", "ok")]
    pending(2, status="held", reason="held-for-review", next_check_at=None)
    assert seen() == [("payments", "ok"), ("payments", "warning")]
    pending(3, next_check_at=NOW - 20 * MINUTE)
    assert seen() == [("payments", "failed"), ("payments", "warning")]
    with db.begin() as session:
        session.execute(delete(PAYMENT))


def test_a_lease_from_a_wrong_clock_is_told(db: Database) -> None:
    def seen() -> Finding:
        return only(check_data(db, NOW), "leases")

    leases.take(db, LEASE, holder="me", now=NOW, until=NOW + MINUTE)
    assert (seen().status, seen().found) == ("ok", "deliver held")
    leases.take(db, LEASE, holder="me", now=NOW, until=NOW + 90 * MINUTE)
    assert seen().status == "failed"
    leases.release(db, LEASE, holder="me")
    leases.take(db, PAUSE, holder="telegram", now=NOW, until=NOW + 90 * MINUTE)
    assert seen().status == "warning"
