"""`buffettsbot doctor`: well when all is well, and for each thing that breaks, its own line."""

import socket
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from time import monotonic

import pytest
from commands import Commands, Sandbox, commands
from examining import API_TOKEN, BOT_TOKEN, GROUP, PASSES, Configure, fail, in_use, only, told

from buffettsbot.core.app import utcnow
from buffettsbot.core.health import doctor
from buffettsbot.core.health.findings import Finding, ago, exit_code, listed, run_all, sentences
from buffettsbot.core.storage.database import Database


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
