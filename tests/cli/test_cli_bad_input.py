"""What goes wrong is said in one sentence, with the right code, and changes nothing.

Bad values, missing and malformed settings, databases and files that cannot be used, and secrets,
which stay secret in all of it.
"""

import os
import shutil
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import Commands, Sandbox, commands, open_sandbox
from helpers import WALLET, buy, hash_of, person, rows, shop
from sqlalchemy import make_url, text
from sqlmodel import SQLModel

from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import Payment, Plan, Subscription, TelegramUser

GOOD = hash_of(0xABC)
LINK = "https://tronscan.org/#/transaction/"
NO_HASHES = [
    "",
    " ",
    "0x",
    GOOD[1:],
    f"{GOOD}0",
    f"0x0x{GOOD[4:]}",
    f"0x{GOOD[2:]}",
    f"{GOOD[:-1]}g",
    f"{GOOD[:32]} {GOOD[32:]}",
    f"{GOOD[:32]}\n{GOOD[32:]}",
    f"-{GOOD[1:]}".replace("-", "_"),
    "а" * 64,  # Cyrillic
    "１" * 64,  # full-width digits
    "😀" * 64,
    "\udcff" * 64,
    "'; DROP TABLE payment; --",
    f"' OR transaction_hash LIKE '{GOOD[:20]}%",
    "%" * 64,
    "a" * 100_000,
    f"{LINK}{GOOD[1:]}",
    f"https://tronscan.org/#/address/{WALLET}",
    f"{LINK}{'a' * 5_000}/{GOOD}",
    f"{GOOD},{hash_of(1)}",
    f"{GOOD}{GOOD}",
    "{transaction_hash}",
    "../../etc/passwd",
]
NO_USERS = [
    "",
    " ",
    "@",
    "@@ann",
    "nobody",
    "8",
    "0",
    "00",
    "1.5",
    "99999999999999999999999",
    "٧",  # an Arabic seven
    "Анна",
    "an n",
    "ann;",
    "a%",
    "_nn",
    "ann' OR '1'='1",
    "ann\udcff",
    "a" * 33,
    "a" * 100_000,
    "😀",
]
NO_PERIODS = ["", " ", "1", "month", "0 months", "2 months", "1 monthly", "one month", "9" * 5_000]
NO_PRICES = ["0", "-5", "1.5", "50.0", "abc", "", " ", "+5", "1e3", "1_000", "0x10", "٥", "$50"]
HUGE = ["1000001", "9" * 19, "9" * 5_000]
NO_CHAT_IDS = ["0", "1.5", "abc", "", "+7", str(2**52), "9" * 40, "٧", "7;"]
NO_NAMES = ["@", "a" * 33, "1ann", "_ann", "a b", "ann;", "Анна", "an\nn", "a-b", "a\x00"]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with open_sandbox() as opened:
        yield opened


@pytest.fixture
def run(sqlite_url: str, sandbox: Sandbox) -> Commands:
    return commands(sqlite_url, sandbox)


def everything(db: Database) -> dict[str, list[dict[str, Any]]]:
    """Return all that the database holds."""
    with db.read() as session:
        return {
            name: [dict(row._mapping) for row in session.execute(table.select())]
            for name, table in SQLModel.metadata.tables.items()
        }


# Values


@pytest.mark.slow
def test_bad_values_are_refused_and_change_nothing(
    database_url: str, db: Database, sandbox: Sandbox
) -> None:
    run = commands(database_url, sandbox)
    every = slice(None, None, 6 if database_url.startswith("postgresql") else 1)
    shop(db)
    person(db, 7, "ann")
    buy(db, hash_of(1))
    before = everything(db)
    asked = sandbox.asked()
    for number, value in enumerate(NO_HASHES[every]):
        judged = run.inside("verify", "--", value).refused(4)
        assert "refused (malformed-hash): This is not a transaction hash." in judged, value[:99]
        assert "not a transaction hash" in run.inside("payments", "show", "--", value).refused(4)
        if number % 3 == 0:
            claimed = run.inside("subscribers", "claim", "--", "ann", "1 month", value).refused(4)
            assert claimed == judged
    assert sandbox.asked() == asked
    for value in NO_USERS[every]:
        for arguments in (
            ["users", "show", "--", value],
            ["users", "promote", "--", value],
            ["subscribers", "claim", "--", value, "1 month", hash_of(2)],
        ):
            told = run.inside(*arguments).refused(4, "is known", "buffettsbot users add")
            assert len(told) < 300, value[:99]
    for value in NO_PERIODS[every]:
        for arguments in (
            ["plans", "create", "--", value, "50"],
            ["plans", "set-price", "--", value, "50"],
            ["plans", "retire", "--yes", "--", value],
            ["subscribers", "claim", "--", "ann", value, hash_of(2)],
            ["verify", "--plan", value, hash_of(2)],
        ):
            if arguments[0] == "verify" and not value:
                continue  # no plan at all
            told = run.inside(*arguments).refused(4, "Choose one of: 1 month, 3 months")
            assert len(told) < 300, value[:99]
    for value in (NO_PRICES + HUGE)[every]:
        for command in ("create", "set-price"):
            told = run.inside("plans", command, "--", "1 month", value).refused(2)
            assert "whole USDT, from 1 to 1,000,000" in told, value[:99]
    assert run.inside("plans", "create", "1 year", "-5").refused(2, "No such option: -5")
    for value in NO_CHAT_IDS:
        run.inside("users", "add", "--", value, "bob").refused(4, "A chat id is a whole number")
    swapped = run.inside("users", "add", "@Me", "42").refused(4, "The chat id comes first: ")
    assert swapped.endswith(": buffettsbot users add 42 Me\n")
    for value in NO_NAMES:
        run.inside("users", "add", "--", "8", value).refused(4, "A Telegram username has")
    for option in ("--first-name", "--last-name"):
        run.inside("users", "add", "8", "bob", option, "x" * 65).refused(4, "at most 64")
        run.inside("users", "add", "8", "bob", option, "\udcff").refused(4, "A name")
    assert everything(db) == before


def test_bad_values_in_a_real_process(run: Commands, sqlite_url: str) -> None:
    db = Database(sqlite_url)
    shop(db)
    before = everything(db)
    run("plans", "create", "1 year", "-5").refused(2, "Error: No such option: -5")
    run("verify", "a" * 100_000).refused(4, "malformed-hash")
    run("users", "show", "\udcff").refused(4, "is known")  # a byte that is no UTF-8
    assert everything(db) == before
    db.close()


# Settings


def test_settings_that_are_missing_or_malformed_are_named_all_at_once(run: Commands) -> None:
    bad = {
        "BUFFETTSBOT_WALLET": WALLET[:-1] + "z",
        "BUFFETTSBOT_NETWORK": "moon",
        "BUFFETTSBOT_USDT_CONTRACT": "USDT",
        "BUFFETTSBOT_CHAIN_SOURCES": "etherscan",
        "BUFFETTSBOT_CHAIN_QUORUM": "3",
        "BUFFETTSBOT_TRONSCAN_URL": "tronscan",
        "BUFFETTSBOT_TRONGRID_URL": "ftp://x",
        "BUFFETTSBOT_TIMEZONE": "Mars/Olympus",
        "BUFFETTSBOT_PAYMENT_MAX_AGE": "soon",
        "BUFFETTSBOT_UNDERPAYMENT_TOLERANCE": "-1",
        "BUFFETTSBOT_HOLD_RISKY": "perhaps",
        "BUFFETTSBOT_DATABASE_URL": "mysql://host/name",
    }
    everywhere = run("verify", GOOD, env=bad).refused(4, "Fix these settings")
    for arguments in (
        ["verify", GOOD],
        ["subscribers", "claim", "ann", "1 month", GOOD],
        ["pass", "settle"],
        ["pass", "settle", "--dry-run"],
        ["serve"],
    ):
        told = run.inside(*arguments, env=bad).refused(4)
        assert [name for name in bad if f"\n  {name} is malformed: " not in told] == [], arguments
        assert told.count("\n") == len(bad) + 1, arguments
    assert run.inside("verify", GOOD, env=bad).stderr == everywhere
    as_json = run.inside("verify", GOOD, "--json", env=bad)
    assert as_json.error()["error"] == "bad-settings"
    assert "BUFFETTSBOT_WALLET" in as_json.error()["message"]

    both = {"BUFFETTSBOT_WALLET": "", "BUFFETTSBOT_CHAIN_QUORUM": "9"}
    told = run.inside("pass", "settle", env=both).refused(4, "BUFFETTSBOT_WALLET is not set")
    assert "BUFFETTSBOT_CHAIN_QUORUM is malformed" in told
    few = {"BUFFETTSBOT_CHAIN_QUORUM": "2", "BUFFETTSBOT_CHAIN_SOURCES": "tronscan"}
    run.inside("verify", GOOD, env=few).refused(4, "names fewer sources")


def test_a_command_needs_only_the_settings_it_works_with(run: Commands) -> None:
    without = {"BUFFETTSBOT_WALLET": "", "BUFFETTSBOT_CHAIN_QUORUM": "9"}
    for arguments in (
        "plans create 1year 5",
        "plans list",
        "users add 7 ann",
        "users list",
        "subscribers list",
        "subscribers show ann",
        "payments list",
        "db status",
        "db upgrade",
        "--help",
        "--version",
        "verify --help",
    ):
        assert run.inside(*arguments.split(), env=without).code == 0, arguments
    no_zone = {"BUFFETTSBOT_TIMEZONE": "Mars"}
    for arguments in ("plans list", "users promote ann", "db status"):
        assert run.inside(*arguments.split(), env=no_zone).code == 0, arguments
    for arguments in ("users list", "subscribers list", "payments list", "verify x"):
        told = run.inside(*arguments.split(), env=no_zone).refused(4)
        assert "BUFFETTSBOT_TIMEZONE is malformed: write a time zone such as" in told, arguments


SECRET = "hunter2secret"
SECRETS = {
    "BUFFETTSBOT_TRONSCAN_API_KEY": f"{SECRET},{SECRET}2",
    "BUFFETTSBOT_TRONGRID_API_KEY": SECRET,
    "BUFFETTSBOT_TELEGRAM_TOKEN": f"123:{SECRET}",
    "BUFFETTSBOT_API_TOKEN": SECRET,
    "SQL_PASSWORD": SECRET,
}


def test_no_secret_is_ever_said(run: Commands, sandbox: Sandbox, sqlite_url: str) -> None:
    db = Database(sqlite_url)
    shop(db)
    person(db, 7, "ann")
    db.close()
    lines = ("db status", f"verify {GOOD}")
    told = run.inside("subscribers", "claim", "ann", "1month", GOOD, env=SECRETS)
    assert (told.code, SECRET in told.stderr) == (5, False)
    closed = f"127.0.0.1:{_closed_port()}"
    for number, wrong in enumerate(
        (
            {},
            {"BUFFETTSBOT_DATABASE_URL": f"postgresql://bot:{SECRET}@{closed}/bot"},
            {"BUFFETTSBOT_DATABASE_URL": f"postgresql://bot@{closed}/bot?password={SECRET}"},
            {"BUFFETTSBOT_DATABASE_URL": f"postgresql://bot:{SECRET}@host:port/bot"},
            {"BUFFETTSBOT_DATABASE_URL": f"mysql://bot:{SECRET}@host/bot"},
            {"BUFFETTSBOT_DATABASE_URL": SECRET},
            {"BUFFETTSBOT_TRONSCAN_URL": f"htp://bot:{SECRET}@host"},
            {"BUFFETTSBOT_TRONSCAN_URL": f"http://bot:{SECRET}@{closed}"},
            {"BUFFETTSBOT_TRONGRID_URL": f"http://bot:{SECRET}@{closed}/{SECRET}"},
            {"BUFFETTSBOT_TELEGRAM_URL": f"http://{SECRET}"},
            {"BUFFETTSBOT_GROUP_ID": SECRET, "BUFFETTSBOT_HOLD_RISKY": SECRET},
        )
    ):
        for line in lines:
            result = run.inside(*line.split(), *["--json"][: number % 2], env=SECRETS | wrong)
            assert SECRET not in result.stdout + result.stderr, (number, line)
        if number in (0, 1):  # its log lines come only in a process
            for line in lines:
                result = run(*line.split(), env=SECRETS | wrong)
                assert SECRET not in result.stdout + result.stderr, (number, line)
    assert sandbox.asked()


def test_the_password_of_the_database_is_not_shown(postgresql_url: str) -> None:
    url = make_url(postgresql_url).set(password=SECRET)  # which this server does not ask for
    run = Commands(url.render_as_string(hide_password=False))
    status = run.inside("db", "status", "--json")
    assert status.code == 0
    assert "***" in status.json()["database"]
    for arguments in (["db", "status"], ["db", "status", "--json"], ["users", "show", "nobody"]):
        result = run.inside(*arguments)
        assert SECRET not in result.stdout + result.stderr


# Databases


def _closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


COMMANDS = (
    "plans list",
    "plans create 1year 500",
    "users list --json",
    "users add 8 bob",
    "subscribers list",
    "payments list --csv",
    f"verify {GOOD}",
    "pass settle",
    "db status",
    "db upgrade",
)


def _all_refuse(run: Commands, code: int, words: str) -> None:
    """Check that every command refuses with the same code and words."""
    for line in COMMANDS:
        result = run.inside(*line.split())
        assert result.code == code, (line, result)
        assert words in result.stderr, (line, result)
        assert result.stdout == "" or line == "db status", line


def test_a_database_that_is_down(sandbox: Sandbox) -> None:
    run = commands(f"postgresql://bot@127.0.0.1:{_closed_port()}/bot", sandbox)
    _all_refuse(run, 5, "The database does not answer. Check that it runs")
    run("plans", "list").refused(5, "error: The database does not answer.")
    assert run.inside("users", "list", "--json").error()["error"] == "unavailable"


def test_a_postgresql_database_that_is_not_prepared_or_not_there(
    postgres_url: str, request: pytest.FixtureRequest, sandbox: Sandbox
) -> None:
    run = commands(postgres_url, sandbox)  # the server's own database, which is never ours
    for line in COMMANDS[:-1]:
        result = run.inside(*line.split())
        assert result.code == 4, line
        assert "Run: buffettsbot db upgrade" in result.stderr, line
    run("users", "list").refused(4, "The database is not prepared", "Run: buffettsbot db upgrade")
    server, _, _ = postgres_url.rpartition("?") if "?" in postgres_url else (postgres_url, "", "")
    missing = postgres_url.replace(server, server.rpartition("/")[0] + "/no_such_database", 1)
    _all_refuse(commands(missing, sandbox), 5, "does not exist")


def test_a_postgresql_database_that_cannot_be_written(
    postgresql_url: str, sandbox: Sandbox
) -> None:
    db = Database(postgresql_url)
    shop(db)
    before = everything(db)
    with db.begin() as session:
        name = session.execute(text("SELECT current_database()")).scalar_one()
        session.execute(text(f"ALTER DATABASE {name} SET default_transaction_read_only = on"))
    run = commands(postgresql_url, sandbox)
    assert run.inside("plans", "list", "--json").json()[0]["period"] == "1 month"
    for line in ("plans create 1year 5", "users add 8 bob", "pass settle"):
        run.inside(*line.split()).refused(5, "The database cannot be written: it is read-only.")
    run("plans", "set-price", "1month", "5").refused(5, "standby")
    assert everything(db) == before
    db.close()


def test_a_directory_or_another_file_instead_of_a_database(
    tmp_path: Path, sqlite_url: str, sandbox: Sandbox
) -> None:
    text_file = tmp_path / "notes.txt"
    text_file.write_text("Not a database at all, but long enough to be looked at.\n" * 20)
    torn = tmp_path / "torn.db"
    torn.write_bytes((tmp_path / "buffettsbot.db").read_bytes()[:5_000])
    for path, words in (
        (tmp_path, "The database file cannot be opened."),
        (text_file, "The database file is damaged or no database."),
        (torn, "The database file is damaged or no database."),
        (text_file / "below.db", f"The database's directory {text_file} cannot be made"),
        (Path("/proc/nowhere.db"), "The database file cannot be opened."),
    ):
        before = path.read_bytes() if path.is_file() else None
        _all_refuse(commands(f"sqlite:///{path}", sandbox), 5, words)
        assert before is None or path.read_bytes() == before
    run = commands(f"sqlite:///{text_file}", sandbox)
    run("users", "list").refused(5, "Restore a backup, or choose another file")


def test_a_database_from_a_newer_version(database_url: str, db: Database, sandbox: Sandbox) -> None:
    shop(db)
    with db.begin() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    before = everything(db)
    run = commands(database_url, sandbox)
    _all_refuse(run, 4, "from a newer version of buffettsbot (its data has version 9999")
    run("db", "upgrade").refused(4, "Install the newer version; nothing was changed.")
    assert everything(db) == before
    assert db.version() == "9999"


def test_a_database_opened_for_reading_only(
    tmp_path: Path, sqlite_url: str, sandbox: Sandbox
) -> None:
    db = Database(sqlite_url)
    shop(db)
    before = everything(db)
    path = tmp_path / "buffettsbot.db"
    run = commands(f"sqlite:///file:{path}?mode=ro&uri=true", sandbox)
    assert run.inside("plans", "list", "--json").json()[0]["price"] == 50
    for line in (
        "plans create 1year 5",
        "users add 8 bob",
        "pass settle",
        "plans retire 1month -y",
    ):
        run.inside(*line.split()).refused(5, "The database cannot be written: it is read-only.")
    assert everything(db) == before
    db.close()


def _as_everyone(run: Commands) -> Commands:
    """Return the command line bound by permissions, as every user but root is."""
    if os.geteuid() != 0:
        return run
    if not shutil.which("setpriv"):
        pytest.skip("root may read and write everything, and there is no setpriv")
    powers = "-dac_override,-dac_read_search"
    return run.under("setpriv", f"--bounding-set={powers}", f"--inh-caps={powers}")


def test_files_and_directories_without_permission(
    tmp_path: Path, sqlite_url: str, sandbox: Sandbox
) -> None:
    place = tmp_path / "locked"
    place.mkdir()
    shutil.copyfile(tmp_path / "buffettsbot.db", place / "bot.db")
    (place / "bot.db").chmod(0o444)
    secret = tmp_path / "secret.env"
    secret.write_text("BUFFETTSBOT_WALLET=x\n")
    secret.chmod(0o000)
    place.chmod(0o555)
    try:
        run = _as_everyone(commands(f"sqlite:///{place}/bot.db", sandbox))
        run("plans", "create", "1 year", "5").refused(5, "it is read-only", "Check who owns")
        below = _as_everyone(commands(f"sqlite:///{place}/new/bot.db", sandbox))
        below("plans", "list").refused(5, "/new cannot be made: Permission denied.")
        env = {"BUFFETTSBOT_ENV_FILE": str(secret)}
        run("plans", "list", env=env).refused(4, f"{secret} cannot be read: Permission denied.")
        assert [file.name for file in place.iterdir()] == ["bot.db"]
    finally:
        place.chmod(0o755)


def test_an_admin_who_may_not_read_the_settings_yet(tmp_path: Path, sqlite_url: str) -> None:
    file = tmp_path / "buffettsbot.env"
    file.write_text("BUFFETTSBOT_WALLET=x\n")
    file.chmod(0o000)
    run = Commands(sqlite_url)
    run.env.pop("BUFFETTSBOT_ENV_FILE")
    here = (  # the host's own file must not be touched, so it is another that is read in its place
        "from pathlib import Path\nfrom buffettsbot.core.settings import places\n"
        f"places.ETC_FILE = Path({str(file)!r})\nfrom buffettsbot.cli import main\nmain()"
    )
    run.program = [*run.program[:1], "-c", here]
    run = _as_everyone(run)
    why, cure = f"{file} cannot be read: Permission denied. ", "sudo adduser NAME buffettsbot, then"
    run("plans", "list").refused(4, why, cure)
    assert cure in run("plans", "list", "--json").error()["message"]
    looked = run("doctor")
    told = (looked.code, why[:-2] in looked.stdout, cure in looked.stdout)
    assert told == (4, True, True)
    assert "as the user of the service" not in looked.stdout
    run("init", "--yes").refused(4, why, "Run this with sudo")


def test_what_lies_behind_a_closed_door(tmp_path: Path, sqlite_url: str, sandbox: Sandbox) -> None:
    place = tmp_path / "locked"
    place.mkdir()
    file = place / "some.file"
    file.touch()
    place.chmod(0o000)
    try:
        run = _as_everyone(commands(sqlite_url, sandbox))
        unseen = f"{file} cannot be seen: Permission denied."
        for arguments in (["plans", "list"], ["init", "--from-env", str(file)]):
            run(*arguments, env={"BUFFETTSBOT_ENV_FILE": str(file)}).refused(4, str(file), "denied")
        run("plans", "list", env={"BUFFETTSBOT_ENV_FILE": str(file)}).refused(4, unseen)
        told = run("doctor", "--json", env={"BUFFETTSBOT_ENV_FILE": str(file)})
        assert (told.code, [f["check"] for f in told.json()]) == (4, ["settings"])
        assert told.json()[0]["found"] in unseen
        assert "as the user of the service" in told.json()[0]["advice"]
        there = _as_everyone(commands(f"sqlite:///{file}", sandbox))
        (found,) = [f for f in there("doctor", "--json").json() if f["check"] == "database"]
        assert (found["status"], found["found"]) == ("failed", unseen.rstrip("."))
        run("db", "backup", str(file)).refused(5, "cannot be written", "Permission denied")
        run("db", "import-django", str(file)).refused(4, f"no file {file}")
        for directory in (place, place / "inside"):
            own = {"BUFFETTSBOT_MESSAGES_DIR": str(directory)}
            texts = run("messages", "check", "--json", env=own)
            assert (texts.code, len(texts.json())) == (4, 1)
            (shown,) = run("messages", "preview", "welcome", "--json", env=own).json()
            assert "Welcome" in shown["text"]  # the shipped text, and a warning
            assert str(directory) in shown["warnings"][0]
    finally:
        place.chmod(0o755)


def test_a_database_that_may_not_be_written_is_told_by_the_doctor(
    tmp_path: Path, sqlite_url: str, sandbox: Sandbox
) -> None:
    place = tmp_path / "there"
    place.mkdir()
    file = place / "bot.db"
    shutil.copyfile(tmp_path / "buffettsbot.db", file)
    run = _as_everyone(commands(f"sqlite:///{file}", sandbox))
    for rights, rights_above in ((0o444, 0o755), (0o644, 0o555)):
        file.chmod(rights)
        place.chmod(rights_above)
        try:
            found = {f["check"]: f for f in run("doctor", "--json").json()}
        finally:
            place.chmod(0o755)
        assert found["database"]["status"] == "failed"
        assert found["database"]["found"] == f"{file} may not be written by this user"


def test_a_full_disk(sqlite_url: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    from buffettsbot.core.storage import database as core_db

    prepare = core_db._prepare_sqlite

    def small(connection: sqlite3.Connection, record: Any) -> None:
        prepare(connection, record)
        connection.execute("PRAGMA max_page_count = 1")  # SQLite: not below what there is already

    db = Database(sqlite_url)
    shop(db)
    person(db, 7, "ann")
    before = everything(db)
    db.close()
    monkeypatch.setattr(core_db, "_prepare_sqlite", small)
    run = commands(sqlite_url, sandbox)
    codes = set()
    for number in range(100, 200):
        result = run.inside("users", "add", str(number), f"user{number}", "--first-name", "x" * 64)
        codes.add(result.code)
        if result.code == 5:
            result.refused(5, "The disk of the database is full. Make room and try again.")
            break
    assert 5 in codes
    assert run.inside("plans", "list", "--json").json()[0]["period"] == "1 month"
    monkeypatch.undo()
    db = Database(sqlite_url)
    after = everything(db)
    assert after["plan"] == before["plan"]
    assert len(after["telegram_user"]) == number - 100 + 1
    db.close()


def test_a_full_disk_in_a_real_process(tmp_path: Path, sandbox: Sandbox) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or not shutil.which("unshare"):
        pytest.skip("only root mounts a disk")
    mounted = f"mount -t tmpfs -o size=128k none {disk} && exec "
    run = commands(f"sqlite:///{disk}/bot.db", sandbox).under(
        "unshare", "--mount", "sh", "-c", f'{mounted} "$@"', "sh"
    )
    probe = run("--version")
    if probe.code:
        pytest.skip("this machine does not let root mount")
    run("plans", "list").refused(5, "The disk of the database is full. Make room and try again.")


# Places and files


def test_a_port_that_is_taken(run: Commands, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        for command in ("serve", "sandbox"):
            told = run(command, "--bind", place).refused(5, f"{place} is taken by another program.")
            assert "--bind" in told
    for command in ("serve", "sandbox"):
        for place in ("nonsense", ":8000", "127.0.0.1", "127.0.0.1:port", "127.0.0.1:70000", ""):
            if command == "serve" and not place:
                continue  # the configured place
            told = run.inside(command, "--bind", place).refused(2)
            assert "write host:port or unix:/path" in told, place
    run.inside("serve", "--bind", "0.0.0.0:0").refused(4, "Without BUFFETTSBOT_API_TOKEN", "Set a")
    run.inside("serve", "--bind", f"unix:{tmp_path}/none/x").refused(5, "No such file or directory")


def test_env_files_that_cannot_be_used(run: Commands, tmp_path: Path) -> None:
    binary = tmp_path / "binary.env"
    binary.write_bytes(bytes(range(256)) * 4)
    for path, words in (
        (tmp_path / "missing.env", "does not exist"),
        (tmp_path, ""),
        (binary, "cannot be read: it is not UTF-8 text."),
    ):
        env = {"BUFFETTSBOT_ENV_FILE": str(path)}
        told = run.inside("plans", "list", env=env).refused(4, str(path))
        assert words in told
        assert run.inside("plans", "list", "--json", env=env).error()["error"] == "bad-settings"
    env = {"BUFFETTSBOT_ENV_FILE": str(binary)}
    run("plans", "list", env=env).refused(4, f"error: The env file {binary} cannot be read")
    assert run.inside("--help", env=env).code == 0


def test_an_env_file_is_read_and_the_environment_wins(tmp_path: Path, sandbox: Sandbox) -> None:
    path = tmp_path / "bot.env"
    path.write_text(
        "\ufeff# the owner's settings\r\n"
        f"BUFFETTSBOT_DATABASE_URL=sqlite:///{tmp_path}/of-the-file.db\r\n"
        f'export STAS_TRC20_WALLET_ADDRESS="{WALLET}"\r\n'
        "BUFFETTSBOT_TIMEZONE=Mars\r\n",
        encoding="utf-8",
    )
    run = commands("", sandbox, wallet=None)
    run.env["BUFFETTSBOT_ENV_FILE"] = str(path)
    assert run.inside("plans", "create", "1 year", "5").code == 0
    assert (tmp_path / "of-the-file.db").is_file()
    run.inside("users", "list").refused(4, "BUFFETTSBOT_TIMEZONE is malformed")
    zone = {"BUFFETTSBOT_TIMEZONE": "Europe/Berlin"}
    assert run.inside("users", "list", env=zone).code == 0
    assert run.inside("verify", "nonsense", env=zone).code == 4
    other = zone | {"BUFFETTSBOT_DATABASE_URL": f"sqlite:///{tmp_path}/of-the-environment.db"}
    assert run.inside("plans", "list", "--json", env=other).json() == []


def test_every_table_is_looked_at(db: Database) -> None:
    """`everything` would prove nothing if it saw nothing."""
    shop(db)
    person(db)
    buy(db, hash_of(1))
    assert {name for name, found in everything(db).items() if found} >= {
        model.__tablename__ for model in (Plan, TelegramUser, Payment, Subscription)
    }
    assert len(rows(db, Plan)) == 1
