"""`buffettsbot init`: the settings and the database from nothing, again, and from the original."""

import errno
import os
import pty
import select
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import PATIENCE, PROGRAM, ROOT, Commands, Sandbox, open_sandbox
from helpers import STRANGER, WALLET, clean_env
from hypothesis import given
from hypothesis import strategies as st

from buffettsbot.core.errors import BadSettings, Invalid, NotAllowed, Unavailable
from buffettsbot.core.settings import envfile, places, settings
from buffettsbot.core.settings import first_settings as setup
from buffettsbot.core.settings.settings import load_settings, named_in
from buffettsbot.core.storage.database import SCHEMA_VERSION, Database

TOKEN = "123456789:the-secret-of-the-bot"
ORIGINAL = f"""\
DEBUG=1
SECRET_KEY=foo
SQL_ENGINE=django.db.backends.postgresql
SQL_DATABASE=subscriptions-db-dev
SQL_USER=tg-admin
SQL_PASSWORD=p@ss word
SQL_HOST=db.example
SQL_PORT=5432
API_ENDPOINT=https://apilist.tronscanapi.com/api/transaction-info?hash
API_KEY=a-key
STAS_TRC20_WALLET_ADDRESS={WALLET}
TELEGRAM_BOT_TOKEN={TOKEN}
"""


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with open_sandbox() as opened:
        said = opened.http.post("/_sandbox/telegram", json={"token": TOKEN})
        said.raise_for_status()
        yield opened


def runner(url: str, sandbox: Sandbox, file: Path, **more: object) -> Commands:
    """Return the command line where nothing is set but the database, Telegram and the env file."""
    given = {"wallet": None, "telegram_url": sandbox.url, "env_file": file} | more
    run = Commands(url, **given)  # type: ignore[arg-type]
    run.env["BUFFETTSBOT_ENV_FILE"] = str(file)
    return run


def values(file: Path) -> dict[str, str]:
    return named_in(envfile.values_in(file.read_text("utf-8")))


def mode(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)


def test_from_nothing_to_a_place_that_works_and_again(
    empty_database_url: str, sandbox: Sandbox, tmp_path: Path
) -> None:
    file = tmp_path / "deep" / "down" / "buffettsbot.env"
    run = runner(empty_database_url, sandbox, file, telegram_token=TOKEN)
    name = "Ann's $HOME & #1 «клуб»"
    made = run("init", "--wallet", WALLET, "--community", name)
    assert made.code == 0, made
    assert "buffettsbot doctor" in made.stderr
    assert "secret" not in made.stdout + made.stderr
    assert mode(file) == 0o600
    db = Database(empty_database_url)
    assert db.version() == SCHEMA_VERSION
    db.close()
    first = values(file)
    assert (first["wallet"], first["telegram_token"], first["community"]) == (WALLET, TOKEN, name)
    assert len(first["api_token"]) >= 40
    before = file.read_bytes()
    again = run.inside("init", "--json")
    assert (again.code, again.json()["changed"]) == (0, [])
    assert again.json()["version"] == SCHEMA_VERSION
    assert file.read_bytes() == before


def test_a_file_keeps_what_is_not_given_anew(
    sqlite_url: str, sandbox: Sandbox, tmp_path: Path
) -> None:
    file, original = tmp_path / "the.env", tmp_path / "original.env"
    file.write_text(
        "# mine, do not touch\n\n"
        f"BUFFETTSBOT_WALLET={STRANGER}   # an old one\n"
        'export BUFFETTSBOT_COMMUNITY="The circle"\n'
        "OTHER=x # stays\nnot a line at all\nBUFFETTSBOT_API_TOKEN=the-old-one"
    )
    file.chmod(0o644)
    original.write_text(ORIGINAL)
    run = runner(sqlite_url, sandbox, file)
    done = run.inside("init", "--from-env", str(original), "--wallet", WALLET, "--language", "ru")
    assert done.code == 0, done
    text = file.read_text()
    assert text.startswith(f"# mine, do not touch\n\nBUFFETTSBOT_WALLET={WALLET}\n")
    assert 'export BUFFETTSBOT_COMMUNITY="The circle"\nOTHER=x # stays\nnot a line at all\n' in text
    assert "BUFFETTSBOT_API_TOKEN=the-old-one\n" in text
    assert mode(file) == 0o640
    found = values(file)
    assert (found["language"], found["telegram_token"]) == ("ru", TOKEN)
    assert found["tronscan_api_key"] == "a-key"
    run.inside("init", "--from-env", str(original))
    assert file.read_text() == text


def test_the_originals_file_gives_everything_it_has(settings_env: Path, tmp_path: Path) -> None:
    original, file = tmp_path / "original.env", tmp_path / "new.env"
    original.write_text(ORIGINAL)
    draft = setup.draft(file, given={}, environment={}, original=original)
    assert draft.problems == {}
    setup.write(draft)
    read = load_settings(file)
    assert (
        read.database
        == "postgresql+psycopg://tg-admin:p%40ss%20word@db.example:5432/subscriptions-db-dev"
    )  # noqa: E501
    assert read.tronscan_base == "https://apilist.tronscanapi.com"
    assert read.tronscan_keys == ["a-key"]


def test_what_the_file_says_is_not_taken_from_the_original(tmp_path: Path) -> None:
    original, file = tmp_path / "original.env", tmp_path / "the.env"
    original.write_text(ORIGINAL)
    file.write_text("BUFFETTSBOT_TELEGRAM_TOKEN=1:mine\n")
    draft = setup.draft(file, given={}, environment={}, original=original)
    assert "telegram_token" not in draft.changes
    assert draft.values["telegram_token"] == "1:mine"
    assert "wallet" in draft.changes


def test_all_that_is_missing_or_malformed_is_named_and_nothing_is_written(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    file = tmp_path / "the.env"
    run = runner(f"sqlite:///{tmp_path}/no.db", sandbox, file)
    run.inside("init").refused(4, "BUFFETTSBOT_WALLET", "BUFFETTSBOT_TELEGRAM_TOKEN")
    given = ("--wallet", WALLET[:-1] + "x", "--timezone", "Nowhere", "--telegram-token", TOKEN)
    run.inside("init", *given).refused(4, "BUFFETTSBOT_WALLET", "BUFFETTSBOT_TIMEZONE")
    right = ("--wallet", WALLET, "--telegram-token")
    run.inside("init", *right, "1:wrong").refused(4, "refuses the bot's token")
    run.inside("init", *right, TOKEN, "--community", "${HOME}").refused(4, "no ${")
    run.inside("init", *right, TOKEN, "--from-env", "/no/such").refused(4, "/no/such")
    assert list(tmp_path.iterdir()) == []


def typed(answers: dict[str, list[str]], env: dict[str, str], *arguments: str) -> tuple[int, str]:
    """Run `init` on a terminal, and type an answer whenever a prompt ends so; return its exit code
    and what was seen, blanks made one."""
    here, there = pty.openpty()
    process = subprocess.Popen(
        [*PROGRAM, "init", *arguments],
        env=env | {"TERM": "xterm"},
        cwd=ROOT,
        stdin=there,
        stdout=there,
        stderr=there,
        start_new_session=True,  # the password prompt must not find the developer's own terminal
    )
    os.close(there)
    seen = turn = ""
    try:
        while select.select([here], [], [], PATIENCE)[0]:
            try:
                piece = os.read(here, 4096).decode()
            except OSError:
                break
            seen, turn = seen + piece, turn + piece
            for prompt in [each for each in answers if turn.endswith(each)]:
                os.write(here, f"{answers[prompt].pop(0)}\n".encode())
                turn = ""
        code = process.wait(PATIENCE)
    finally:
        process.kill()
        process.wait()
        os.close(here)
    assert not any(answers.values()), seen
    assert "Traceback" not in seen
    return code, " ".join(seen.split())


def test_on_a_terminal_it_asks_until_the_answers_are_right(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    file = tmp_path / "the.env"
    answers = {
        "USDT: ": [WALLET[:-1] + "x", WALLET],
        "not shown): ": ["hello", "1:wrong", TOKEN],
        "[none]: ": ["the circle", "-100123"],
        "[UTC]: ": ["Europe/Berlin"],
        "[en]: ": ["xx", ""],
        "[our community]: ": [""],
    }
    env = clean_env(f"sqlite:///{tmp_path}/b.db", wallet=None, telegram_url=sandbox.url)
    code, seen = typed(answers, env, "--env-file", str(file))
    assert code == 0, seen
    assert "checksum is broken" in seen
    assert "This is no bot's token" in seen
    assert "refuses the bot's token" in seen
    assert "write a group's id, a number below 0" in seen
    assert "secret" not in seen
    found = values(file)
    assert (found["wallet"], found["telegram_token"], found["group_id"]) == (
        WALLET,
        TOKEN,
        "-100123",
    )
    assert (found["timezone"], found["language"]) == ("Europe/Berlin", "en")


def malformed_file(tmp_path: Path) -> Path:
    file = tmp_path / "the.env"
    file.write_text(
        f"# mine\nBUFFETTSBOT_WALLET={WALLET[:-1]}x\nBUFFETTSBOT_TIMEZONE=Nowhere\n"
        f"BUFFETTSBOT_GROUP_ID=5\nBUFFETTSBOT_TELEGRAM_TOKEN={TOKEN}\n"
    )
    return file


def test_what_is_malformed_in_the_file_is_named_and_the_file_stays(
    sqlite_url: str, sandbox: Sandbox, tmp_path: Path
) -> None:
    file = malformed_file(tmp_path)
    file.write_text(f"{file.read_text()}BUFFETTSBOT_REMINDER_DAYS=never\n")
    before = file.read_bytes()
    run = runner(sqlite_url, sandbox, file)
    told = run("init", "--yes", "--community", "The circle").refused(4, "Nothing was written")
    for name, wanted in (
        ("WALLET", "checksum"),
        ("TIMEZONE", "write a time zone such as Europe/Berlin"),
        ("GROUP_ID", "write a group's id"),
        ("REMINDER_DAYS", "write days such as 7,3,1"),
    ):
        line = next(one for one in told.splitlines() if f"BUFFETTSBOT_{name} is malformed: " in one)
        assert wanted in line
    assert f"Fix them in {file}" in told
    assert run.inside("init", "--json").error()["error"] == "bad-settings"
    code, seen = typed({}, run.env)  # what it cannot ask for is named before it asks for the rest
    assert (code, "REMINDER_DAYS is malformed" in seen, "WALLET" in seen) == (4, True, False)
    assert file.read_bytes() == before
    anew = {"BUFFETTSBOT_REMINDER_DAYS": "7", "BUFFETTSBOT_GROUP_ID": "-5"}
    done = run.inside("init", "--wallet", WALLET, "--timezone", "UTC", env=anew)
    assert done.code == 0, done
    assert settings.malformed(values(file)) == {}


def test_on_a_terminal_it_asks_again_for_what_is_malformed_and_for_nothing_else(
    sqlite_url: str, sandbox: Sandbox, tmp_path: Path
) -> None:
    file = malformed_file(tmp_path)
    before = file.read_bytes()
    run = runner(sqlite_url, sandbox, file)

    def answers(group: str) -> dict[str, list[str]]:
        return {
            "USDT: ": ["T", WALLET],
            "[none]: ": [group],
            "[UTC]: ": ["Mars", "Europe/Berlin"],
        }

    code, seen = typed(answers("none"), run.env)  # which leaves the malformed one where it is
    assert (code, file.read_bytes()) == (4, before), seen
    assert "BUFFETTSBOT_GROUP_ID is malformed" in seen
    code, seen = typed(answers("-100123"), run.env)
    assert code == 0, seen
    found = values(file)
    assert (found["wallet"], found["timezone"], found["group_id"]) == (
        WALLET,
        "Europe/Berlin",
        "-100123",
    )
    assert file.read_text().startswith(f"# mine\nBUFFETTSBOT_WALLET={WALLET}\n")


# Where, and how it is written


def test_the_first_place_that_exists_is_taken(
    settings_env: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, own = places.usual_places()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert setup.place(None, {}) == own
    places.SERVICE_STATE.mkdir(parents=True)
    assert setup.place(None, {}) == host
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert setup.place(None, {}) == own
    host.parent.mkdir()
    host.touch()
    assert setup.place(None, {}) == host
    named = {"BUFFETTSBOT_ENV_FILE": str(tmp_path / "named")}
    assert setup.place(None, named) == tmp_path / "named"
    assert setup.place(tmp_path / "given", named) == tmp_path / "given"


@pytest.mark.skipif(os.geteuid() != 0, reason="it is about root")
def test_root_without_a_service_keeps_settings_and_data_together(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    host, home = tmp_path / "host", tmp_path / "home"
    run = Commands("", wallet=None, telegram_url=sandbox.url, home=home)
    run.env.pop("BUFFETTSBOT_DATABASE_URL")
    there = (  # this machine's own /etc is not to be touched
        "from pathlib import Path\nfrom buffettsbot.core.settings import places\n"
        f"places.ETC_FILE = Path({str(host)!r}) / 'buffettsbot.env'\n"
        f"places.SERVICE_STATE = Path({str(host)!r}) / 'state'\n"
        "from buffettsbot.cli import main\nmain()"
    )
    run.program = [sys.executable, "-c", there]
    made = run("init", "--wallet", WALLET, env={"BUFFETTSBOT_TELEGRAM_TOKEN": TOKEN})
    assert made.code == 0, made
    assert "The settings are root's own: no service is installed here." in made.stderr
    assert not host.exists()
    names = {path.name for path in home.rglob("*") if path.is_file()}
    assert {"buffettsbot.env", "buffettsbot.db"} <= names
    assert run("plans", "list").code == 0


def test_a_file_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, link = tmp_path / "real.env", tmp_path / "link.env"
    real.write_text("old\n")
    link.symlink_to(real)
    full = ((errno.ENOSPC, Unavailable), (errno.EDQUOT, Unavailable))
    for number, error in (*full, (errno.EACCES, NotAllowed)):

        def fails(*_: object, number: int = number) -> None:
            raise OSError(number, os.strerror(number))

        with monkeypatch.context() as patch, pytest.raises(error):
            patch.setattr(os, "replace", fails)
            envfile.write(link, "new\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.env", "real.env"]
    assert real.read_text() == "old\n"
    real.chmod(0o666)
    if os.geteuid() == 0:
        os.chown(real, 1, 1)
    owner = (real.stat().st_uid, real.stat().st_gid)
    envfile.write(link, "new\n")
    assert (real.stat().st_uid, real.stat().st_gid, mode(real)) == (*owner, 0o640)
    assert link.is_symlink()
    assert real.read_text() == "new\n"
    pipe = tmp_path / "pipe"  # never a device: should this fail, root would replace it
    os.mkfifo(pipe)
    with pytest.raises(NotAllowed):
        envfile.write(pipe, "new\n")
    assert pipe.is_fifo()


def test_what_cannot_be_written_for_both_readers_is_refused() -> None:
    for value in ("two\nlines", "a\x00b", "tab\tbed", "\x85", "\u2028", "end\\", "${HOME}"):
        with pytest.raises(Invalid):
            envfile.quoted(value)
    for value in ("a\\\\b c", "a\\b c", "\\'", '\\" c'):
        assert envfile.values_in(f"K={envfile.quoted(value)}") == {"K": value}


def test_a_variable_is_set_where_it_counts_and_nothing_else_is_touched() -> None:
    text = "K=first\nBROKEN LINE\nK=last\nEMPTY="
    assert envfile.values_in(text) == {"K": "last"}
    assert envfile.with_values(text, {"K": "new", "EMPTY": "full"}, {}) == (
        "K=first\nBROKEN LINE\nK=new\nEMPTY=full\n"
    )
    assert envfile.with_values("A=1", {"B": "2"}, {"B": "a note"}) == "A=1\n\n# a note\nB=2\n"
    assert envfile.with_values("A=1\n", {"B": "2"}, {}) == "A=1\nB=2\n"
    assert envfile.with_values("", {"B": "2"}, {}) == "B=2\n"
    assert envfile.with_values("BROKEN LINE", {"BROKEN": "2"}, {}) == "BROKEN LINE\nBROKEN=2\n"


def test_a_file_that_is_no_text_is_said(tmp_path: Path) -> None:
    file = tmp_path / "latin.env"
    file.write_bytes(b"BUFFETTSBOT_COMMUNITY=caf\xe9\n")
    with pytest.raises(BadSettings, match="cannot be read: it is not UTF-8 text"):
        envfile.read_text(file)


TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1)
ODD = st.text(st.sampled_from("ab \"'\\$#;=`{}é"), min_size=1)


@given(st.lists(TEXTS | ODD, min_size=1, max_size=5))
def test_every_value_is_read_as_it_was_given(given_values: list[str]) -> None:
    wanted = {}
    for number, value in enumerate(given_values):
        try:
            envfile.quoted(value)
        except Invalid:
            assert value.endswith("\\") or "${" in value or any(c in value for c in "\u2028\u2029")
        else:
            wanted[f"K{number}"] = value
    text = envfile.with_values("# a comment\nK1='before'\n", wanted, {"K0": "a note"})
    assert envfile.values_in(text) == {"K1": "before"} | wanted
    assert envfile.with_values(text, wanted, {}) == text


SYSTEMD = [
    *Path("/usr/lib").glob("*/systemd/libsystemd-shared-*.so"),
    *Path("/usr/lib/systemd").glob("libsystemd-shared-*.so"),
]
READ = """
import ctypes, sys
found = ctypes.POINTER(ctypes.c_char_p)()
assert ctypes.CDLL(sys.argv[1]).load_env_file(None, sys.argv[2].encode(), ctypes.byref(found)) >= 0
number = 0
while found[number]:
    print(found[number].decode())
    number += 1
"""


@pytest.mark.skipif(not SYSTEMD, reason="systemd's own reader of env files is not installed")
def test_systemd_reads_the_same(tmp_path: Path) -> None:
    odd = [
        "plain",
        "two words",
        "a #b",
        "#c",
        "a;b",
        "$HOME",
        "it's",
        'say "x"',
        "a\\b",
        '\\"',
        "`",
    ]
    odd += ["'", '"', "é №1", " x ", "a\\\\b's", "'\\n'", "=", "a=b"]
    wanted = {f"K{number}": value for number, value in enumerate(odd)}
    file = tmp_path / "the.env"
    file.write_text(envfile.with_values(setup.HEADING, wanted, {"K3": "a note"}))
    done = subprocess.run(
        [sys.executable, "-c", READ, str(SYSTEMD[0]), str(file)],
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    )
    assert done.stdout.splitlines() == [f"{name}={value}" for name, value in wanted.items()]
