"""Data that an older program left behind go on with today's: an upgrade tells nobody twice.

`tests/data/upgrade` has a shop of commit 906a11e as it stood at one moment, on both databases and
in backups: who is who stands in its `make`. Each test begins with it either upgraded or restored.
"""

import gzip
import json
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from commands import Commands
from helpers import (
    DAY,
    EXPECTATION,
    MINUTE,
    STYLE,
    FakeSource,
    broken,
    buy,
    fake_chain,
    hash_of,
    not_found,
    paid,
    person,
    rows,
)
from serving import Sandbox, sandboxed
from sqlalchemy import make_url, text

from buffettsbot.core.ledger.settle import settle
from buffettsbot.core.members.expiry import expire
from buffettsbot.core.members.reminders import remind
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import LIVE, Outbox, Payment, Subscription
from buffettsbot.core.telegram import pacing
from buffettsbot.core.telegram.bot import Telegram
from buffettsbot.core.telegram.delivery import deliver
from buffettsbot.core.telegram.group_audit import audit_group

DATA = Path(__file__).parents[1] / "data" / "upgrade"
WORLD = json.loads((DATA / "telegram.json").read_text())
MOMENT = datetime.fromisoformat(WORLD["moment"])
TOKEN, GROUP = "123456:upgrade", WORLD["group"]
DAYS = (7, 3, 1)
HOUR = timedelta(hours=1)
ADMINS = (901, 902)
REMINDED = ["reminder", "reminder-details"]

# What the old program had queued, and what it had left undone, by chat id: all that is to happen.
FIRST_EVENING = {
    22: REMINDED,
    24: REMINDED,
    25: REMINDED,  # was in flight when the deliverer was killed
    27: REMINDED,  # due since the last pass, as the next two
    28: REMINDED,
    29: REMINDED,
    32: ["renewal"],
    34: ["invitation"],
    35: ["invitation"],
    36: ["remove"],
    37: ["remove"],
    42: ["expired", "remove"],
    43: ["expired", "remove"],  # banned already; the ban has to be lifted
    44: ["expired", "remove"],
    45: ["welcome"],
    46: ["payment-pending"],
    47: ["payment-pending", "renewal"],  # of the payment that the chain confirms; no reminder
    48: ["payment-pending", "welcome"],  # the same; no farewell, and no removal
    52: [*REMINDED, "welcome"],
    54: ["expired", "remove"],
    61: ["payment-pending"],
    65: ["payment-pending"],
    66: ["payment-pending", "welcome"],
    84: ["payment-pending"],
    85: ["welcome"],  # nobody knows whether the old program's went out
}
FOR_EACH_ADMIN = {
    "admin-add": 4,  # 45, 48, 52, 66; of 85 one has heard, and the other had blocked the bot
    "admin-keep": 2,
    "admin-delete": 6,  # 42, 43, 44, 45, 48, 54
    "digest-expire": 3,
    "digest-remind": 3,
    "pass-failed": 1,
}
# The thresholds that each is reminded of, over old and new, until the memberships are over.
REMINDERS = {
    **dict.fromkeys((21, 22, 23, 24, 25, 26, 27, 28, 29, 74), [1, 3, 7]),
    **dict.fromkeys((41, 42, 43, 44, 45, 46, 48), [1, 3, 7]),  # over by then
    31: [3, 7],  # renewed early, as the next two
    32: [7],
    47: [7],
    73: [3, 7],
    33: [7],
    52: [1],  # granted for a few hours, and for three days
    55: [1, 3],
}


def unpacked(name: str) -> bytes:
    return gzip.decompress((DATA / f"{name}.gz").read_bytes())


def leave_behind(url: str) -> None:
    """Put the old program's database there."""
    if url.startswith("sqlite"):
        Path(str(make_url(url).database)).write_bytes(unpacked("sqlite.db"))
        return
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        connection.execute(unpacked("postgresql.sql"))


TABLES = {
    "telegram_user": "chat_id, telegram_username, first_name, last_name, is_staff, date_joined",
    "plan": "id, period, price, is_active",
    "subscription": "transaction_hash, customer_id, plan_id, start_date, end_date, duration, "
    "expired_at",
    "payment": "id, transaction_hash, customer_id, plan_id, price, status, reason, amount, sender, "
    "paid_at, claimed_at, decided_at, attempts, next_check_at, period_start, period_end",
    "outbox": "id, kind, chat_id, status, attempts, not_before, leased_until, sent_at, error",
    "lease": "name, holder, until",
    "pass_run": "id, name, started_at, finished_at",
    "audit": "id, at, actor, action, subject, detail",
}


def contents(db: Database) -> dict[str, Sequence[Any]]:
    """Return what stands in every table, as the database itself says it."""
    with db.read() as session:
        return {
            table: session.execute(text(f"SELECT {columns} FROM {table} ORDER BY 1")).all()
            for table, columns in TABLES.items()
        }


@dataclass
class World:
    """Today's program on the old data, the Telegram of that moment, and a chain."""

    db: Database
    url: str
    sandbox: Sandbox
    before: dict[str, Sequence[Any]]
    source: FakeSource = field(default_factory=FakeSource)
    now: datetime = MOMENT

    def passes(self, now: datetime) -> None:
        """Run every pass as the timers would; deliver twice, for what waits a moment."""
        self.now = now
        settle(self.db, fake_chain(self.source), EXPECTATION, now=now)
        remind(self.db, now=now, days=DAYS)
        expire(self.db, now=now, guard=0.2, group=True)
        bot = Telegram(self.sandbox.wire, self.sandbox.url, TOKEN, group=GROUP)
        audit_group(self.db, bot, clock=lambda: self.now, guard=0.2, fix=True)
        deliver(self.db, bot, STYLE, clock=lambda: self.now)
        self.now += 2 * MINUTE
        deliver(self.db, bot, STYLE, clock=lambda: self.now)

    def sent(self) -> list[Outbox]:
        """Return what was sent at any time, by the old program or by this one."""
        return [row for row in rows(self.db, Outbox) if row.status == "sent"]

    def sent_since(self) -> Counter[tuple[int, str]]:
        """Return what this program has sent, by chat and kind."""
        return Counter(
            (row.chat_id, row.kind) for row in self.sent() if row.sent_at and row.sent_at >= MOMENT
        )

    def heard(self) -> Counter[int]:
        """Return how many messages each has got from Telegram."""
        return Counter(one["chat_id"] for one in self._done("sendMessage", "sendPhoto"))

    def taken_out(self) -> list[int]:
        """Return who was banned and may come back, in the order of their ids."""
        lifted = Counter(int(one["user_id"]) for one in self._done("unbanChatMember"))
        banned = Counter(int(one["user_id"]) for one in self._done("banChatMember"))
        assert lifted == banned
        return sorted(banned.elements())

    def _done(self, *methods: str) -> list[dict[str, Any]]:
        with self.sandbox.state.lock:
            sent = list(self.sandbox.state.telegram.sent)
        return [one for one in sent if one["ok"] and one["method"] in methods]


@pytest.fixture(params=["upgraded", "restored"])
def world(
    request: pytest.FixtureRequest,
    empty_database_url: str,
    server_programs: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[World]:
    monkeypatch.setattr(pacing, "SECOND", 0.0)  # the pace has tests of its own
    monkeypatch.setattr(pacing, "STEP", 0.0)
    monkeypatch.setattr(pacing, "CHAT_SECONDS", 0.0)
    url = empty_database_url
    leave_behind(url)
    with closing(Database(url)) as db:
        before = contents(db)
        run = Commands(url)
        assert run.inside("db", "upgrade").code == 0
        if request.param == "restored":
            restore(db, run, tmp_path)
        with sandboxed() as sandbox:
            people = {"members": WORLD["members"]}
            sandbox.telegram(token=TOKEN, blocked=[88], group={"id": GROUP, **people})
            yield World(db, url, sandbox, before)


def restore(db: Database, run: Commands, tmp_path: Path) -> None:
    """Lose data, and get them back from the old backup."""
    kind = "sqlite" if db.is_sqlite else "postgresql"
    if not db.is_sqlite and programs_before_17():
        pytest.skip("the old backup was written by pg_dump 18, which these programs cannot read")
    file = tmp_path / "old.backup"
    file.write_bytes(unpacked(f"{kind}.backup"))
    with db.begin() as session:
        for table in ("outbox", "payment", "subscription", "lease"):
            session.execute(text(f"DELETE FROM {table}"))
    assert run.inside("db", "restore", str(file), "--yes").code == 0
    with db.begin() as session:
        session.execute(text("DELETE FROM audit WHERE action = 'db restore'"))


def programs_before_17() -> bool:
    program = shutil.which("pg_restore")
    assert program, "PostgreSQL's own programs are missing"
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    return int(said.stdout.split()[2].split(".")[0]) < 17


def first_evening(world: World) -> None:
    """The passes run for the first time; of the payments that wait, the chain confirms three."""
    for number in (6100, 4601, 8400):
        seen = paid(hash_of(number), at=MOMENT - HOUR, final=False)
        world.source.answers[hash_of(number)] = seen
    for number in (6600, 4701, 4801):
        world.source.answers[hash_of(number)] = paid(hash_of(number), at=MOMENT - HOUR)
    world.source.answers[hash_of(6500)] = not_found(hash_of(6500))
    world.passes(MOMENT + 30 * MINUTE)


def test_nothing_is_lost_or_changed(world: World) -> None:
    assert contents(world.db) == world.before
    assert broken(world.db, MOMENT) == []


def test_all_that_was_left_undone_is_done_and_no_more(world: World) -> None:
    first_evening(world)
    expected = {(chat, kind): 1 for chat, kinds in FIRST_EVENING.items() for kind in kinds}
    told = world.sent_since()
    messages = Counter(chat for chat, kind in told.elements() if kind != "remove")
    assert world.heard() == messages
    for admin in ADMINS:
        assert {kind: told.pop((admin, kind)) for kind in FOR_EACH_ADMIN} == FOR_EACH_ADMIN
    assert told == expected
    assert world.taken_out() == [36, 37, 42, 43, 44, 54]
    assert broken(world.db, MOMENT + 30 * MINUTE) == []
    for late in (33, 40, 90):
        world.passes(MOMENT + late * MINUTE)
    assert world.heard() == messages
    assert world.taken_out() == [36, 37, 42, 43, 44, 54]


def test_over_the_days_that_follow_everyone_is_told_once(world: World) -> None:
    first_evening(world)
    world.source.answers[hash_of(4601)] = paid(hash_of(4601), at=MOMENT - HOUR)
    for days in range(1, 11):
        world.passes(MOMENT + days * DAY)
    reminders: dict[int, list[int]] = {}
    done: Counter[tuple[Any, ...]] = Counter()
    for row in world.sent():
        if row.kind == "reminder":
            reminders.setdefault(row.chat_id, []).append(row.payload["days"])
        about = row.payload.get("end_date"), row.payload.get("transaction_hash")
        if not row.kind.startswith(("digest-", "payment-", "admin-")):
            done[row.chat_id, row.kind, *about, row.payload.get("days")] += 1
    assert {chat: sorted(days) for chat, days in reminders.items()} == REMINDERS
    assert [what for what, times in done.items() if times > 1] == []
    over = (21, 22, 23, 24, 25, 26, 27, 28, 29, 52, 74, 88)
    assert world.taken_out() == sorted([36, 37, 42, 43, 44, 54, *over])
    assert broken(world.db, MOMENT + 10 * DAY) == []


def test_no_hash_of_the_old_ledger_buys_again(world: World) -> None:
    before = rows(world.db, Subscription)
    used = {p.transaction_hash for p in rows(world.db, Payment) if p.status in LIVE}
    assert len(used) == 47
    person(world.db, 9, "newcomer")
    for transaction_hash in used:
        bought = buy(world.db, transaction_hash, who=9, now=MOMENT)
        assert bought.verdict.reason == "already-used"
    assert rows(world.db, Subscription) == before
