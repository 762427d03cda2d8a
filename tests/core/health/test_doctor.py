"""`buffettsbot doctor`: well when all is well, and for each thing that breaks, its own line."""

import shutil
import socket
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
from commands import ROOT, Commands, Sandbox, commands, open_sandbox
from helpers import MINUTE, NOW, USDT, WALLET, hash_of, member, person, shop, staff
from loopback import Answer, Asked, Loopback, as_json
from sqlalchemy import delete, insert, update

from buffettsbot.core.app import utcnow
from buffettsbot.core.health import database as database_check
from buffettsbot.core.health import doctor
from buffettsbot.core.health import host as host_checks
from buffettsbot.core.health.data import PASS_RUN, check_data
from buffettsbot.core.health.findings import Finding, ago, exit_code, listed, run_all, sentences
from buffettsbot.core.health.host import (
    check_api,
    check_disk,
    check_env_file,
    check_settings,
    check_timers,
    check_wallet,
)
from buffettsbot.core.health.outside import (
    Witness,
    check_clock,
    check_source,
    check_telegram,
    milliseconds,
)
from buffettsbot.core.settings.settings import Settings, load_settings
from buffettsbot.core.storage import leases
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import OUTBOX, PAYMENT
from buffettsbot.core.telegram.delivery import LEASE
from buffettsbot.core.telegram.pacing import PAUSE

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
    assert doctor.ASK_SECONDS < doctor.ALL_SECONDS <= 12
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
        assert only(found, name).found != "no answer in time"  # it could still say what happened
    assert only(found, "database") == Finding(
        "database", "unknown", "no answer in time", "Try again in a moment."
    )
    assert exit_code(found) == 5


def test_a_database_server_that_is_away_is_not_known_to_be_wrong(
    configured: Configure, settings_env: Path
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        configured(database_url=f"postgresql://u:p@127.0.0.1:{nobody.getsockname()[1]}/d")
        found = doctor.examine(utcnow)
    assert only(found, "database").status == "unknown"
    assert not [f for f in found if f.check == "disk"]  # that is another host's
    configured(database_url="nonsense")
    found = doctor.examine(utcnow)
    assert not [f for f in found if f.check == "database"]
    assert "BUFFETTSBOT_DATABASE_URL" in only(found, "settings").found


def test_only_the_sources_in_use_are_asked(configured: Configure, settings_env: Path) -> None:
    configured(chain_sources="trongrid")
    (settings_env / "there.db").touch()
    found = doctor.examine(utcnow)
    assert [f.check for f in found] == [
        *("settings", "wallet", "api", "database", "telegram", "group", "trongrid", "clock")
    ]
    assert "there is none" in only(found, "database").found  # an empty file is no database


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


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        *((-5, "0 seconds"), (0, "0 seconds"), (1, "1 second"), (59, "59 seconds")),
        *((60, "1 minute"), (119, "1 minute"), (120, "2 minutes"), (3599, "59 minutes")),
        *((3600, "1 hour"), (7200, "2 hours"), (86_400, "24 hours"), (172_799, "47 hours")),
        *((172_800, "2 days"), (259_199, "2 days"), (100_000_000, "1,157 days")),
    ],
)
def test_a_span_is_said_as_people_say_it(seconds: int, words: str) -> None:
    assert ago(timedelta(seconds=seconds)) == words


def test_what_happened_and_what_to_do_are_told_apart() -> None:
    assert sentences("It broke. Mend it. Then go on.") == ("It broke", "Mend it. Then go on.")
    assert sentences("It broke.") == ("It broke", "")
    assert [listed(words) for words in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        *("", "a", "a and b", "a, b and c")
    ]


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
    odd = list(check_settings(configured(bind="nonsense"), None))
    assert told(odd) == [("settings", "failed")]
    assert "the environment" in odd[0].advice
    configured(bind="127.0.0.1:8000")
    assert told(check_settings(configured(telegram_token=None), None)) == [("settings", "ok")]
    configured()
    file = tmp_path / "the.env"
    file.write_text("BUFFETTSBOT_TIMEZON=UTC\nOTHER=x\n")
    monkeypatch.setenv("BUFFETTSBOT_ENV_FILE", str(file))
    found = list(check_settings(load_settings(), file))
    assert told(found) == [("settings", "warning"), ("settings", "ok")]
    assert str(file) in found[1].found
    monkeypatch.delenv("BUFFETTSBOT_ENV_FILE")
    assert "no env file" in only(check_settings(load_settings(), None), "settings").found
    texts = list(check_settings(configured(messages_dir=tmp_path / "gone"), None))
    assert texts[0].advice.endswith("buffettsbot messages check")


@pytest.mark.parametrize(
    ("mode", "status"),
    [
        *((0o600, "ok"), (0o640, "ok"), (0o660, "warning"), (0o620, "warning")),
        *((0o644, "failed"), (0o602, "failed"), (0o601, "failed"), (0o664, "failed")),
    ],
)
def test_nobody_else_reads_the_env_file(tmp_path: Path, mode: int, status: str) -> None:
    file = tmp_path / "the.env"
    file.touch()
    file.chmod(mode)
    assert told(check_env_file(file)) == [("env file", status)]
    file.unlink()
    assert told(check_env_file(file)) == [("env file", "failed")]


@pytest.mark.parametrize(
    ("wallet", "status"),
    [(WALLET, "ok"), (WALLET[:-1] + "x", "failed"), (USDT, "failed"), (None, "failed")],
)
def test_the_wallet_is_a_wallet(configured: Configure, wallet: str | None, status: str) -> None:
    assert told(check_wallet(configured(wallet=wallet))) == [("wallet", status)]
    if status == "ok":
        configured(usdt_contract=wallet)
        assert told(check_wallet(configured(wallet=wallet))) == [("wallet", "failed")]


@pytest.mark.parametrize(
    ("token", "status"), [(API_TOKEN[:16], "ok"), (None, "warning"), (API_TOKEN[:15], "warning")]
)
def test_the_api_asks_for_a_token(configured: Configure, token: str | None, status: str) -> None:
    found = list(check_api(configured(api_token=token)))
    assert told(found) == [("api", status)]
    assert not token or token not in str(found)


def test_a_full_disk_is_seen_before_it_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert host_checks.FULL == 100 * 2**20 < 2**30 == host_checks.NEARLY_FULL
    there = shutil.disk_usage(tmp_path)
    for free, status in (
        (2**30, "ok"),
        (2**30 - 1, "warning"),
        (100 * 2**20, "warning"),
        (1, "failed"),
    ):
        usage = there._replace(free=free)
        monkeypatch.setattr(shutil, "disk_usage", lambda _, usage=usage: usage)
        assert told(check_disk(tmp_path)) == [("disk", status)]
    monkeypatch.undo()
    assert told(check_disk(tmp_path / "gone")) == [("disk", "unknown")]


def test_only_units_that_are_installed_are_expected_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_checks, "SYSTEMD", tmp_path / "none")
    assert told(check_timers()) == []
    monkeypatch.setattr(host_checks, "SYSTEMD", tmp_path)
    states = [("loaded", "active"), ("loaded", "inactive"), *[("not-found", "inactive")] * 3]
    states.append(("loaded", "failed"))
    shown = "\\n".join(f"LoadState={load}\\nActiveState={state}\\n" for load, state in states)
    program = tmp_path / "systemctl"
    program.write_text(f"#!/bin/sh\nprintf '{shown}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found = list(check_timers())
    assert told(found) == [("timers", "ok"), ("timers", "failed"), ("service", "failed")]
    assert found[1].advice == "Run: sudo systemctl enable --now buffettsbot-deliver.timer"


def test_every_unit_that_is_shipped_is_expected_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = {path.name for path in (ROOT / "systemd").glob("*.timer")}
    assert set(host_checks.UNITS) == shipped | {"buffettsbot-http.service"}
    monkeypatch.setattr(host_checks, "SYSTEMD", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert told(check_timers()) == []  # without systemctl, the last runs have to tell
    (tmp_path / "systemctl").write_text("#!/bin/sh\necho LoadState=loaded\nexit 1\n")
    (tmp_path / "systemctl").chmod(0o755)
    assert told(check_timers()) == []


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
        ("500", "unknown", "in trouble"),
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
    play(well, "keys", service="trongrid", accepted=["key-one"])
    (finding,) = check_source(configured(trongrid_api_key="key-one"), "trongrid", witness())
    assert finding.found.endswith(", with an API key")
    assert "of 1" not in finding.found
    (finding,) = check_source(configured(tronscan_api_key=None), "tronscan", witness())
    assert finding.found.endswith(", without an API key")


def test_a_dead_source_is_asked_once_and_not_with_each_key(
    configured: Configure, loopback: Loopback
) -> None:
    settings = configured(trongrid_api_key="key-one, key-two", trongrid_url=loopback.url)
    answers = iter([Answer(b"no", status=401)])
    loopback.answer = lambda _: next(answers, Answer(reset=True))
    found = list(check_source(settings, "trongrid", witness()))
    assert told(found) == [("trongrid", "failed"), ("trongrid", "unknown")]
    assert "status 401" in found[0].found
    assert told(check_source(settings, "trongrid", witness())) == [("trongrid", "unknown")]


def test_a_source_that_knows_what_does_not_exist_is_not_believed(
    configured: Configure, loopback: Loopback
) -> None:
    info = {"id": "0" * 64, "blockNumber": 1, "blockTimeStamp": 1_700_000_000_000}
    info |= {"receipt": {"result": "SUCCESS"}, "log": [], "contractResult": [""]}
    loopback.answer = as_json(info)
    (finding,) = check_source(configured(trongrid_url=loopback.url), "trongrid", witness())
    assert finding.status == "failed"
    assert "claims to know" in finding.found


def test_a_slow_answer_is_shown_and_a_deadline_kept(
    configured: Configure, loopback: Loopback
) -> None:
    def slow(_: object) -> Answer:
        sleep(0.3)
        return Answer(b"{}")

    loopback.answer = slow
    settings = configured(trongrid_url=loopback.url)
    (finding,) = check_source(settings, "trongrid", witness())
    number, unit = finding.found.split()[2:4]
    assert (int(number) >= 300, unit) == (True, "ms,")
    late = Witness(monotonic() + 0.1, utcnow)
    assert told(check_source(settings, "trongrid", late)) == [("trongrid", "unknown")]
    assert [milliseconds(seconds) for seconds in (0.0123, 9.5, 10.4)] == [
        *("12 ms", "9,500 ms", "10 seconds")
    ]


@pytest.mark.parametrize("result", ["a word", {"id": 7}, {"username": "x"}, []])
def test_what_only_looks_like_telegram_is_not(
    configured: Configure, loopback: Loopback, result: Any
) -> None:
    loopback.answer = as_json({"ok": True, "result": result})
    (finding,) = check_telegram(configured(telegram_url=loopback.url), witness())
    assert (finding.status, finding.found) == ("failed", "what answers is not Telegram")


@pytest.mark.parametrize(
    ("me", "says"),
    [
        ({"status": "administrator", "can_invite_users": True}, "may not ban users in"),
        ({"status": "restricted"}, "is no administrator of 'The circle' (but restricted)"),
        ({}, "is no administrator"),
    ],
)
def test_a_right_that_telegram_does_not_name_is_none(
    configured: Configure, loopback: Loopback, me: dict[str, Any], says: str
) -> None:
    group = {"id": GROUP, "title": "The circle", "type": "supergroup"}
    results = {"getMe": {"username": "bot", "id": 1}, "getChat": group, "getChatMember": me}

    def answer(asked: Asked) -> Answer:
        return as_json({"ok": True, "result": results[asked.path.rpartition("/")[2]]})

    loopback.answer = answer
    found = list(check_telegram(configured(telegram_url=loopback.url), witness()))
    assert told(found) == [("telegram", "ok"), ("group", "failed")]
    assert says in found[1].found


def test_a_malformed_group_is_told_with_the_settings(configured: Configure) -> None:
    assert told(check_telegram(configured(group_id="the circle"), witness())) == [
        ("telegram", "ok")
    ]


@pytest.mark.parametrize(
    ("world", "status", "says"),
    [
        ({"bot": {"can_invite_users": False}}, "failed", "may not invite users in"),
        ({"bot": {"can_restrict_members": False}}, "failed", "may not ban users in"),
        ({"bot": {"status": "member"}}, "failed", "no administrator"),
        ({"bot": {"status": "kicked"}}, "failed", "may not do its work"),
        ({"type": "group"}, "failed", "is a group, not a supergroup"),
        ({"type": "channel"}, "failed", "is a channel, not a supergroup"),
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


@pytest.mark.parametrize(
    ("drift", "status"),
    [(30, "ok"), (30.1, "warning"), (-30.1, "warning"), (300, "warning"), (300.1, "failed")],
)
def test_a_clock_may_be_half_a_minute_off(drift: float, status: str) -> None:
    seen = witness()
    seen.drift = timedelta(seconds=drift)
    assert told(check_clock([seen, witness()])) == [("clock", status)]


def test_the_clock_is_read_in_the_middle_of_the_question(
    configured: Configure, loopback: Loopback
) -> None:
    start = utcnow()
    moments = iter([start, start + 2 * MINUTE])
    seen = witness(lambda: next(moments))
    settings = configured(tronscan_url=loopback.url)
    list(check_source(settings, "tronscan", seen))
    assert seen.drift is not None
    assert abs(seen.drift - MINUTE) < timedelta(seconds=10)
    unsaid = witness()
    loopback.answer = Answer(b"{}", headers={"age": "soon"})
    list(check_source(settings, "tronscan", unsaid))
    assert unsaid.drift is None


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
    assert "never ended" in only(found, "pass settle").found
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
