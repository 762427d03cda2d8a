"""`db backup` and `db restore`: whole while others work, in one step, or refused."""

import hashlib
import os
import shutil
import sqlite3
import stat
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import Commands
from helpers import (
    DAY,
    NOW,
    buy,
    clean_env,
    hash_of,
    in_parallel,
    ledger,
    member,
    person,
    rows,
    shop,
)
from serving import Sandbox, bot_of, sandboxed, serving
from sqlalchemy import make_url, text

from buffettsbot.core.backup import archive as archives
from buffettsbot.core.backup import backups
from buffettsbot.core.backup import postgresql as postgresql_dump
from buffettsbot.core.errors import Conflict, Invalid, NotAllowed, Unavailable
from buffettsbot.core.health.invariants import find_broken
from buffettsbot.core.storage import database as core_db
from buffettsbot.core.storage import migrations
from buffettsbot.core.storage.database import SCHEMA_VERSION, Database
from buffettsbot.core.storage.models import METADATA, TelegramUser

pytestmark = pytest.mark.usefixtures("server_programs")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with sandboxed() as sandbox:
        yield sandbox


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "the.backup"


@pytest.fixture
def elsewhere(elsewhere_url: str) -> Iterator[Database]:
    opened = Database(elsewhere_url)
    yield opened
    opened.close()


def everything(db: Database) -> dict[str, list[Any]]:
    """Return every row of every table."""
    with db.read() as session:
        return {
            table.name: [
                tuple(row) for row in session.execute(table.select().order_by(*table.primary_key))
            ]
            for table in METADATA.sorted_tables
        }


def story(db: Database) -> None:
    """Three members, one of whom renewed."""
    for number, name in enumerate(("ann", "bob", "cleo"), start=7):
        member(db, number, name)
    buy(db, hash_of(90), who=9, now=NOW + DAY)


def backed_up(db: Database, file: Path) -> backups.Backup:
    return backups.back_up(db, file, now=NOW)


def restored(db: Database, file: Path) -> archives.Archive:
    return backups.restore(db, file, now=NOW, actor="olga")


# Under load


class Crowd:
    """Customers who register, pay and claim, one after the other, until they are told to stop."""

    def __init__(self, url: str, sandbox: Sandbox, first: int) -> None:
        self.answers: list[int] = []
        self._stop = threading.Event()
        self._answered = threading.Condition()
        self._threads = [
            threading.Thread(target=self._work, args=(url, sandbox, first + 1000 * number))
            for number in range(4)
        ]
        for thread in self._threads:
            thread.start()

    def _work(self, url: str, sandbox: Sandbox, chat_id: int) -> None:
        with bot_of(url) as bot:
            while not self._stop.is_set():
                chat_id += 1
                bot.register(chat_id, f"user{chat_id}")
                status = bot.claim(chat_id, sandbox.pay()).status_code
                with self._answered:
                    self.answers.append(status)
                    self._answered.notify_all()

    def wait_for(self, claims: int) -> None:
        """Wait until so many more claims were answered."""
        with self._answered:
            enough = len(self.answers) + claims
            assert self._answered.wait_for(lambda: len(self.answers) >= enough, timeout=60)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)


def test_a_backup_under_load_is_whole_and_a_damaged_one_leaves_the_live_data_alone(
    database_url: str, elsewhere_url: str, sandbox: Sandbox, file: Path
) -> None:
    live = Database(database_url)
    shop(live)
    env = clean_env(database_url, **sandbox.settings)
    run = Commands(database_url, **sandbox.settings)
    other = Commands(elsewhere_url, **sandbox.settings)
    with serving(env) as service:
        crowd = Crowd(service.url, sandbox, 1_000_000)
        try:
            crowd.wait_for(20)
            made = run("db", "backup", str(file), "--json").json()
            crowd.wait_for(20)
        finally:
            crowd.stop()
        assert set(crowd.answers) == {201}
        assert 20 <= made["rows"]["payment"] < len(ledger(live))
        assert other.inside("db", "restore", str(file), "--yes").code == 0
        assert other.inside("db", "check", "--json").json() == {"clean": True, "findings": []}
        copy = Database(elsewhere_url)
        assert _counts(copy) == made["rows"] | {"audit": made["rows"]["audit"] + 1}
        assert {p.transaction_hash for p in ledger(copy)} < {
            p.transaction_hash for p in ledger(live)
        }
        before = everything(live)
        whole = file.read_bytes()
        middle = made["size"] // 2
        for damaged in (whole[:middle], whole[:middle] + b"\x55\xaa" + whole[middle + 2 :]):
            file.write_bytes(damaged)
            run.inside("db", "restore", str(file), "--yes").refused(4, "Nothing was changed")
        assert everything(live) == before
        file.write_bytes(whole)
        _the_service_goes_on_with_the_restored_data(service.url, run, file, sandbox, live)
    live.close()
    copy.close()


def _the_service_goes_on_with_the_restored_data(
    url: str, run: Commands, file: Path, sandbox: Sandbox, live: Database
) -> None:
    with bot_of(url) as bot:
        bot.register(5, "late")
        payment = sandbox.pay()
        for _ in range(8):  # so often that the driver prepares the statements
            assert bot.claim(5, payment).status_code == 201
        assert run("db", "restore", str(file), "--yes").code == 0
        assert bot.get("/api/v1/subscriptions/", chat_id=5).status_code == 404
        bot.register(5, "late")
        assert bot.claim(5, payment).status_code == 201
    assert list(find_broken(live, now=NOW)) == []


def _counts(db: Database) -> dict[str, int]:
    return {name: len(found) for name, found in everything(db).items()}


# There and back


def test_what_was_backed_up_comes_back_row_by_row(
    db: Database, elsewhere: Database, file: Path
) -> None:
    story(db)
    before = everything(db)
    made = backed_up(db, file)
    assert made.archive == archives.read(file) == restored(elsewhere, file)
    after = everything(elsewhere)
    ((_, at, actor, action, subject, detail),) = after.pop("audit")
    assert (at, actor, action, subject) == (NOW, "olga", "db restore", "the.backup")
    assert detail == f"made {NOW.isoformat()}"
    assert after == {name: found for name, found in before.items() if name != "audit"}
    assert list(find_broken(elsewhere, now=NOW)) == []
    member(elsewhere, 70, "dora")  # new rows get new ids


def test_restoring_undoes_what_came_after_for_whoever_has_it_open(
    db: Database, database_url: str, file: Path
) -> None:
    story(db)
    backed_up(db, file)
    before = everything(db)
    member(db, 70, "dora")
    other = Database(database_url)
    assert len(rows(other, TelegramUser)) == 4
    restored(db, file)
    for opened in (db, other):
        assert everything(opened) | {"audit": []} == before
    other.close()


def test_the_databases_own_tools_read_a_backup(
    db: Database, file: Path, elsewhere_url: str
) -> None:
    story(db)
    backed_up(db, file)
    if db.is_sqlite:
        assert file.read_bytes()[18:20] == b"\1\1"  # no -wal file belongs to it
        shutil.copyfile(file, file.with_suffix(".db"))
        plain = sqlite3.connect(file.with_suffix(".db"))
        assert plain.execute("SELECT count(*) FROM payment").fetchone() == (4,)
        assert plain.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        plain.close()
        return
    url = make_url(elsewhere_url).set(drivername="postgresql")
    target = url.render_as_string(hide_password=False)
    subprocess.run(["pg_restore", "--no-owner", "--dbname", target, file], check=True)
    copy = Database(elsewhere_url)
    assert len(ledger(copy)) == 4
    copy.close()


def test_an_older_backup_is_brought_to_this_programs_form(
    db: Database, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    story(db)
    backed_up(db, file)
    there = tmp_path / "migrations"
    usual = migrations._config
    shutil.copytree(Path(migrations.__file__).parent, there)
    newer = f"{int(SCHEMA_VERSION) + 1:04}"
    (there / "versions" / f"{newer}_more.py").write_text(
        "import sqlalchemy as sa\n"
        "from alembic import op\n"
        f"revision, down_revision = {newer!r}, {SCHEMA_VERSION!r}\n"
        "def upgrade():\n"
        "    op.add_column('plan', sa.Column('colour', sa.String()))\n"
    )

    def config(connection: Any) -> Any:
        made = usual(connection)
        made.set_main_option("script_location", str(there))
        return made

    monkeypatch.setattr(migrations, "_config", config)
    for module in (core_db, migrations, backups):
        monkeypatch.setattr(module, "SCHEMA_VERSION", newer)
    migrations.upgrade(db)
    restored(db, file)
    assert db.version() == newer
    with db.read() as session:
        assert session.execute(text("SELECT colour FROM plan")).all() == [(None,)]


# What is refused


def test_a_backup_with_any_byte_changed_added_or_missing_is_refused(file: Path) -> None:
    file.write_bytes(b"some data\n" * 9)
    archive = archives.Archive("sqlite", SCHEMA_VERSION, NOW, "1", 90, {"payment": 3})
    archives.seal(file, archive)
    whole = file.read_bytes()
    assert archives.read(file) == archive
    flipped = (whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(len(whole)))
    cut = (whole[:at] for at in range(len(whole)))
    more = (whole + b"\n", b"\n" + whole, whole + whole)
    for damaged in (*flipped, *cut, *more):
        file.write_bytes(damaged)
        with pytest.raises(Invalid, match="Nothing was changed; take another backup"):
            archives.read(file)


def _resealed(file: Path, **changes: Any) -> None:
    """Give a backup another seal that is right."""
    archive = archives.read(file)
    os.truncate(file, archive.size)
    fields = {name: getattr(archive, name) for name in archive.__dataclass_fields__}
    archives.seal(file, archives.Archive(**fields | changes))


def test_a_newer_a_foreign_or_a_missing_backup_is_refused(
    db: Database, database_url: str, file: Path, tmp_path: Path
) -> None:
    story(db)
    backed_up(db, file)
    before = everything(db)
    run = Commands(database_url)
    run.inside("db", "restore", str(tmp_path / "none"), "--yes").refused(4, "There is no file")
    run.inside("db", "restore", str(tmp_path), "--yes").refused(5, "Is a directory")
    _resealed(file, version="9999")
    told = run.inside("db", "restore", str(file), "--yes").refused(4, "a newer version of buff")
    assert "(its data has version 9999" in told
    other = {"sqlite": "postgresql", "postgresql": "sqlite"}[archives.read(file).database]
    _resealed(file, version=SCHEMA_VERSION, database=other)
    run.inside("db", "restore", str(file), "--yes").refused(4, "a database of its own kind")
    _resealed(file, database={"sqlite": "postgresql", "postgresql": "sqlite"}[other])
    run.inside("db", "restore", str(file)).refused(4, "Nobody answered; nothing was changed")
    run.inside("db", "restore", str(file), stdin="n\n").refused(4, "people: 3, payments: 4)? What")
    assert everything(db) == before
    assert run.inside("db", "restore", str(file), "--yes", "--json").json()["rows"]["payment"] == 4


def test_data_of_a_newer_program_or_none_are_not_backed_up(
    db: Database, elsewhere: Database, file: Path
) -> None:
    with pytest.raises(NotAllowed, match="There are no data"):
        backed_up(elsewhere, file)
    with db.begin() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(NotAllowed, match="from a newer version"):
        backed_up(db, file)
    assert not file.exists()


def test_damage_inside_the_data_is_found_before_anything_is_replaced(
    sqlite_url: str, file: Path
) -> None:
    db = Database(sqlite_url)
    story(db)
    backed_up(db, file)
    before = everything(db)
    size = archives.read(file).size
    with file.open("r+b") as backup:
        backup.seek(size // 2)
        backup.write(b"\x55" * 4096)
    _reseal_blindly(file, size)
    with pytest.raises(Invalid, match="are damaged"):
        restored(db, file)
    assert everything(db) == before
    db.close()


def _reseal_blindly(file: Path, size: int) -> None:
    """Make the checksum right again: the damage was there before the backup."""
    line = file.read_bytes()[size:].splitlines()[1]
    data = file.read_bytes()[:size] + b"\n" + line + b"\n"
    file.write_bytes(data + hashlib.sha256(data).hexdigest().encode() + b"\n")


def test_damaged_data_are_not_backed_up(sqlite_url: str, file: Path, tmp_path: Path) -> None:
    db = Database(sqlite_url)
    for number in range(1, 300):
        person(db, number, None, first_name="x" * 64)
    db.close()
    live = tmp_path / "buffettsbot.db"
    with live.open("r+b") as raw:
        raw.seek(live.stat().st_size - 4096)
        raw.write(b"\x55" * 4096)
    with pytest.raises(Unavailable, match="damaged"):
        backed_up(Database(sqlite_url), file)
    assert list(tmp_path.glob("*.backup*")) == []


def test_a_live_file_that_is_no_database_any_more_says_what_to_do(
    sqlite_url: str, file: Path, tmp_path: Path
) -> None:
    db = Database(sqlite_url)
    story(db)
    before = everything(db)
    backed_up(db, file)
    db.close()
    live = tmp_path / "buffettsbot.db"
    for damaged in (b"\0" * 8192, live.read_bytes()[:10_000]):
        live.write_bytes(damaged)
        with pytest.raises(Unavailable, match=f"Stop the services, move {live} and"):
            restored(Database(sqlite_url), file)
    for left in tmp_path.glob("buffettsbot.db*"):
        left.unlink()
    restored(db, file)
    assert everything(db) | {"audit": []} == before
    db.close()


# In one step


def test_whoever_is_in_the_way_is_waited_for_and_then_said(
    db: Database, database_url: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    story(db)
    backed_up(db, file)
    before = everything(db)
    for module in (core_db, postgresql_dump):
        monkeypatch.setattr(module, "BUSY_SECONDS", 1)
    impatient = Database(database_url)
    with db.begin() as session:
        session.execute(text("UPDATE plan SET price = price"))
        with pytest.raises(Unavailable, match=r"[Tt]ry again in a moment"):
            restored(impatient, file)
    assert everything(db) == before
    impatient.close()


def _stand_in(directory: Path, program: str, script: str) -> dict[str, str]:
    """Put a script before a program of PostgreSQL's; `$REAL` is the program's own path."""
    directory.mkdir(exist_ok=True)
    real = shutil.which(program)
    (directory / program).write_text(f"#!/bin/sh\nREAL={real}\n{script}\n")
    (directory / program).chmod(0o755)
    return {"PATH": f"{directory}{os.pathsep}{os.environ['PATH']}"}


def test_a_restore_that_dies_half_way_changes_nothing(
    postgresql_url: str, file: Path, tmp_path: Path
) -> None:
    db = Database(postgresql_url)
    story(db)
    backed_up(db, file)
    member(db, 70, "dora")
    before = everything(db)
    run = Commands(postgresql_url)
    half = '"$REAL" "$@" | head -n 300'
    fails = _stand_in(tmp_path / "fails", "pg_restore", f"{half}; echo error: torn >&2; exit 1")
    run("db", "restore", str(file), "--yes", env=fails).refused(5, "not restore the data: torn.")
    assert everything(db) == before
    killed = _stand_in(tmp_path / "kills", "pg_restore", f"{half}; kill -9 $PPID")
    process = run.start("db", "restore", str(file), "--yes", env=killed)
    process.communicate(timeout=60)
    assert process.returncode == -9
    assert everything(db) == before  # waits for the locks, so psql has ended
    db.close()


def test_a_view_of_the_owners_is_not_dropped(postgresql_url: str, file: Path) -> None:
    db = Database(postgresql_url)
    story(db)
    backed_up(db, file)
    with db.begin() as session:
        session.execute(text("CREATE VIEW mine AS SELECT * FROM payment"))
    with pytest.raises(Unavailable, match="a view"):
        restored(db, file)
    with db.read() as session:
        assert len(session.execute(text("SELECT * FROM mine")).all()) == 4
    db.close()


# PostgreSQL's programs


def test_the_password_is_no_argument(postgresql_url: str, file: Path, tmp_path: Path) -> None:
    url = make_url(postgresql_url).set(password="s3cr3t p'w")
    run = Commands(url.render_as_string(hide_password=False))
    seen = tmp_path / "seen"
    spy = f'echo "$PGPASSWORD" "$@" >> {seen}; exec "$REAL" "$@"'
    for program in ("pg_dump", "pg_restore", "psql"):
        env = _stand_in(tmp_path / "spies", program, spy)
    assert run("db", "backup", str(file), env=env).code == 0
    assert run("db", "restore", str(file), "--yes", env=env).code == 0
    lines = seen.read_text().splitlines()
    assert len(lines) == 3
    assert all(line.startswith("s3cr3t p'w ") and line.count("s3cr3t") == 1 for line in lines)


def test_missing_or_old_programs_are_said_with_their_package(
    postgresql_url: str, file: Path, tmp_path: Path
) -> None:
    run = Commands(postgresql_url)
    told = run.inside("db", "backup", str(file), env={"PATH": str(tmp_path)}).refused(5)
    assert "pg_dump is missing." in told
    assert "apt install postgresql-client" in told
    old = _stand_in(
        tmp_path / "old",
        "pg_dump",
        "echo 'pg_dump: error: aborting because of server version mismatch' >&2; exit 1",
    )
    run.inside("db", "backup", str(file), env=old).refused(5, "older than the server", "postgresql")
    assert not list(tmp_path.glob("*.backup*"))
    assert not list(tmp_path.glob(".*"))


# The file


def test_a_backup_is_private_and_never_overwrites_unless_asked(
    db: Database, database_url: str, tmp_path: Path, file: Path
) -> None:
    story(db)
    run = Commands(database_url)
    told = run.inside("db", "backup", str(file)).stderr
    assert told == f"All data (people: 3, payments: 4) are in {file}\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    first = file.read_bytes()
    person(db, 70, "dora")
    run.inside("db", "backup", str(file)).refused(4, "exists already", "--overwrite")
    assert file.read_bytes() == first
    made = run.inside("db", "backup", str(file), "--overwrite", "--json").json()
    assert made["rows"]["telegram_user"] == 4
    assert made["version"] == SCHEMA_VERSION
    assert made["size"] == file.stat().st_size
    run.inside("db", "backup", str(tmp_path / "no" / "x")).refused(5, "No such file or directory")
    assert [path.name for path in tmp_path.glob("*backup*")] == ["the.backup"]
    assert not list(tmp_path.glob(".*"))


def test_only_one_of_those_who_write_the_same_file_gets_it(db: Database, file: Path) -> None:
    story(db)
    results = in_parallel(3, lambda _: backed_up(db, file))
    assert [type(r) for r in results if isinstance(r, Exception)] == [Conflict, Conflict]
    assert archives.read(file).rows["payment"] == 4


def test_a_full_disk_leaves_nothing(database_url: str, tmp_path: Path, db: Database) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or not shutil.which("unshare"):
        pytest.skip("only root mounts a disk")
    for number in range(1, 300):
        person(db, number, None, first_name=hash_of(number**30)[:64])
    mounted = f"mount -t tmpfs -o size=8k none {disk} && "
    script = f'{mounted} "$@"; code=$?; ls -A {disk}; exit $code'
    run = Commands(database_url).under("unshare", "--mount", "sh", "-c", script, "sh")
    if run("--version").code:
        pytest.skip("this machine does not let root mount")
    run("db", "backup", f"{disk}/the.backup").refused(5, "The disk is full")


def test_a_directory_keeps_the_newest_of_our_own(
    db: Database, database_url: str, tmp_path: Path
) -> None:
    story(db)
    place = tmp_path / "backups"
    place.mkdir()
    for name in ("buffettsbot-20990101T000000Z.txt", "mine.backup"):
        (place / name).touch()
    left = place / ".buffettsbot-20260101T000000Z.backup.abc_1def.partial"
    left.touch()
    os.utime(left, (0, 0))
    for day in range(4):
        made = backups.back_up(db, place, now=NOW + day * DAY, keep=2)
    assert [path.name for path in made.removed] == ["buffettsbot-20260302T120000Z.backup"]
    assert sorted(path.name for path in place.iterdir()) == [
        "buffettsbot-20260303T120000Z.backup",
        "buffettsbot-20260304T120000Z.backup",
        "buffettsbot-20990101T000000Z.txt",
        "mine.backup",
    ]
    run = Commands(database_url)
    run.inside("db", "backup", "--rotate", "0", str(place)).refused(2)
    run.inside("db", "backup", "--rotate", "3", str(place / "x")).refused(2, "needs a directory")
    told = run.inside("db", "backup", "--rotate", "1", str(place), "--json").json()
    assert len(told["removed"]) == 2
    assert Path(told["file"]).parent == place
    assert archives.read(Path(told["file"])).rows["payment"] == 4


def test_what_was_just_made_stays_though_a_clock_once_ran_ahead(
    db: Database, tmp_path: Path
) -> None:
    story(db)
    place = tmp_path / "backups"
    place.mkdir()
    ahead = [backups.back_up(db, place, now=NOW + n * 1000 * DAY).file for n in (1, 2)]
    made = backups.back_up(db, place, now=NOW, keep=2)
    assert made.removed == ahead[:1]
    assert sorted(place.iterdir()) == [made.file, ahead[1]]
    made = backups.back_up(db, place, now=NOW + DAY, keep=1)
    assert list(place.iterdir()) == [made.file]


def test_an_old_backup_that_cannot_be_removed_is_said(db: Database, tmp_path: Path) -> None:
    place = tmp_path / "backups"
    (place / "buffettsbot-20200101T000000Z.backup").mkdir(parents=True)
    with pytest.raises(Unavailable, match="is made, but an old one cannot be removed"):
        backups.back_up(db, place, now=NOW, keep=1)
    assert len(list(place.iterdir())) == 2


@pytest.mark.parametrize("name", ["back[1].up", "**.up"])
def test_a_name_with_signs_of_the_shell_leaves_nothing_beside_it(
    db: Database, tmp_path: Path, name: str
) -> None:
    place = tmp_path / "backups"
    place.mkdir()
    backups.back_up(db, place / name, now=NOW)
    assert [path.name for path in place.iterdir()] == [name]


@pytest.mark.parametrize("about", ['"more": 1', '"size": 1, "created_at": "noon"', '"a": }'])
def test_a_seal_that_says_what_we_do_not_know_is_refused(tmp_path: Path, about: str) -> None:
    line = b"data\n" + b'{"buffettsbot_backup": 1, ' + about.encode() + b"}\n"
    file = tmp_path / "of-tomorrow.backup"
    file.write_bytes(line + hashlib.sha256(line).hexdigest().encode() + b"\n")
    with pytest.raises(Invalid, match="does not know"):
        archives.read(file)
