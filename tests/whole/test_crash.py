"""SIGKILL at every step of every pass, and in a random loop; then the passes run to the end.

What must hold afterwards, wherever the kills hit: every effect that was due happened at least once
(at a Telegram and a TRON on real sockets), what happened twice was in flight at a kill and says so,
every membership ended once, every payment was accepted once and has its period, and what the
digests count is the truth. `crashing.py` says how a process is killed at a step, and what is one.

The counts are printed. The loop: two processes of each pass, all at once, each killed at a random
moment, round after round. `BUFFETTSBOT_KILLS=1000` makes it longer, `BUFFETTSBOT_SEED` repeats one.
"""

import copy
import itertools
import os
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest
from crashing import PAUSE, Ending, Forge, Order, forge
from helpers import (
    DAY,
    broken,
    clean_env,
    fake_chain,
    ledger,
    member,
    membership,
    person,
    rows,
    shop,
    silence,
    staff,
    user,
)
from serving import Clock, Sandbox, app_of, sandboxed
from sqlalchemy import delete, text
from sqlmodel import col

from buffettsbot.core.app import expectation_of, style_of, utcnow
from buffettsbot.core.ledger.claims import claim
from buffettsbot.core.members.expiry import expire
from buffettsbot.core.members.reminders import remind
from buffettsbot.core.messages.render import render
from buffettsbot.core.storage.models import METADATA, Outbox

GROUP = -1001234567890
ADMIN = 900
MINUTE = 60.0
LINK = "https://t.me/+link"
TIME = r"datetime\.datetime\([^)]*\)|\d{4}-\d\d-\d\d[T ][\d:.]+"
KILLS = os.environ.get("BUFFETTSBOT_KILLS")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with sandboxed() as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def forged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    path = tmp_path_factory.mktemp("warm") / "warm.db"
    with forge(clean_env(f"sqlite:///{path}", telegram_token="1:abc")) as forged:
        yield forged


@pytest.fixture
def world(
    database_url: str, sandbox: Sandbox, forged: Forge, capsys: pytest.CaptureFixture[str]
) -> Iterator["World"]:
    world = World(database_url, sandbox, forged)
    yield world
    world.db.close()
    with capsys.disabled():
        print(world.said, file=sys.stderr)  # which also xdist's workers show


class World:
    """A database with its Telegram and TRON, which can be set back to what it was."""

    def __init__(self, database_url: str, sandbox: Sandbox, forged: Forge) -> None:
        sandbox.reset()
        self.said = ""
        self.sandbox = sandbox
        self.forged = forged
        self.env = clean_env(
            database_url, telegram_token="1:abc", group_id=GROUP, **sandbox.settings
        )
        self.app = app_of(self.env, Clock())
        self.db = self.app.db
        self.begun = utcnow()
        self._lives = itertools.count(1)
        sandbox.state.telegram.merge({"group": {"id": GROUP}})
        shop(self.db)
        staff(self.db, ADMIN)

    def save(self) -> None:
        """Keep the present state."""
        self._telegram = copy.deepcopy(self.sandbox.state.telegram)
        with self.db.begin() as session:
            for table in METADATA.sorted_tables:
                session.execute(text(f"CREATE TABLE saved_{table} AS SELECT * FROM {table}"))

        self._times = set(re.findall(TIME, str(self._rows())))

    def _rows(self) -> list[dict[str, Any]]:
        with self.db.read() as session:
            return [
                {"table": table.name, **row._mapping}
                for table in METADATA.sorted_tables
                for row in session.execute(table.select())
            ]

    def state(self) -> str:
        """Return what stands in the database and at Telegram, but for numbers and names that are
        made up anew, and with new times looking all alike."""
        rows = [str({k: v for k, v in row.items() if k != "id"}) for row in self._rows()]
        whole = str((sorted(rows), sorted(self.sent().items())))
        for written in set(re.findall(TIME, whole)) - self._times:
            whole = whole.replace(written, "new")
        return re.sub(r"\b[0-9a-f]{32}\b", "random", whole)

    def restore(self) -> None:
        """Go back to the state that was kept. No connection of ours stays open.

        The bot has another token from now on: what the dead had on its way is not done any more.
        """
        token = f"1:life{next(self._lives)}"
        self.env["BUFFETTSBOT_TELEGRAM_TOKEN"] = token
        with self.sandbox.state.lock:
            self.sandbox.state.telegram = copy.deepcopy(self._telegram)
            self.sandbox.state.telegram.token = token
        with self.db.begin() as session:
            for table in reversed(METADATA.sorted_tables):
                session.execute(text(f"DELETE FROM {table}"))
            for table in METADATA.sorted_tables:
                session.execute(text(f"INSERT INTO {table} SELECT * FROM saved_{table}"))
        self.db.close()

    def run(self, *commands: Sequence[str], **order: Any) -> Ending:
        """Run command lines in a process of this world."""
        return self.forged.run(*commands, env=self.env, **order)

    def forget_messages(self, *kinds: str) -> None:
        """Delete what is queued of these kinds, or of all."""
        with self.db.begin() as session:
            forget = delete(Outbox)
            session.execute(forget.where(col(Outbox.kind).in_(kinds)) if kinds else forget)

    def member(self, chat_id: int, ends: timedelta) -> None:
        """Sell a month that ends so long after the beginning of this world."""
        member(self.db, chat_id, f"u{chat_id}", now=self.begun + ends - 30 * DAY)
        with self.db.begin() as session:
            inside = "UPDATE telegram_user SET at_private_group = true WHERE chat_id = :chat"
            session.execute(text(inside), {"chat": chat_id})

    def claim(self, chat_id: int, kind: str, now: datetime | None = None) -> str:
        """Claim a payment while the chain is silent; return its hash."""
        paid = self.sandbox.pay(kind)
        silent = fake_chain({paid: silence()}, {paid: silence()})
        expectation = expectation_of(self.app.settings)
        outcome = claim(
            self.db,
            silent,
            expectation,
            person=chat_id,
            period="1 month",
            transaction_hash=paid,
            now=now or self.begun,
        )
        assert outcome.verdict.verdict == "pending"
        return paid

    def in_flight(self) -> set[tuple[int, datetime]]:
        """Return each row that somebody had in hand, and until when."""
        return {
            (row.id, row.leased_until)
            for row in rows(self.db, Outbox)
            if row.status == "queued" and row.leased_until is not None
        }

    def sent(self) -> Counter[tuple[str, int, str]]:
        """Return what Telegram was asked to do, and did: method, person, text."""
        with self.sandbox.state.lock:
            calls = [call for call in self.sandbox.state.telegram.sent if call["ok"]]
        return Counter(
            (
                call["method"],
                call.get("user_id", call["chat_id"]),
                re.sub(r"https://t\.me/\+[\w-]+", LINK, call.get("text", call.get("caption", ""))),
            )
            for call in calls
            if call["method"] != "createChatInviteLink"
        )

    def calls_of(self, row: Outbox, *, again: bool) -> list[tuple[str, int, str]]:
        """Return what a row does at Telegram."""
        if row.kind == "remove":
            return [(f"{verb}ChatMember", row.chat_id, "") for verb in ("ban", "unban")]
        payload = row.payload | {"invite_link": LINK}
        if row.kind in ("admin-add", "admin-keep"):
            payload["by_itself"] = True
        message = render(row.kind, payload, style_of(self.app.settings), again=again)
        method = "sendPhoto" if message.picture else "sendMessage"
        return [(method, row.chat_id, message.text)]


@dataclass
class Counts:
    """What happened in a test, for people."""

    kills: int = 0
    steps: int = 0
    states: int = 0
    effects: int = 0
    in_flight: int = 0
    duplicates: int = 0

    def __str__(self) -> str:
        states = f" that left {self.states} different states" if self.states else ""
        return (
            f"{self.steps} steps, {self.kills} kills{states}; then {self.effects} effects, "
            f"{self.in_flight} in flight at the kills, {self.duplicates} of them twice"
        )


def check_sent(world: World, doubts: set[tuple[int, datetime]], counts: Counts) -> None:
    """Hold what Telegram saw against the outbox: each at least once, twice what was in flight."""
    assert broken(world.db, utcnow()) == []
    due, marked_due, most = (Counter[tuple[str, int, str]]() for _ in range(3))
    doubtful = Counter(number for number, _ in doubts)
    for row in rows(world.db, Outbox):
        assert row.status in ("sent", "failed", "cancelled"), (row.status, row.kind, row.error)
        first, again = (world.calls_of(row, again=again) for again in (False, True))
        if row.status == "sent":
            due.update(first)
        if row.status != "failed":
            for call, marked in zip(first, again, strict=True):
                most[call] += 1
                marked_due[marked] += doubtful[row.id or 0]
    sent = world.sent()
    for call in sent:
        assert call in most or call in marked_due, ("nobody queued this", call)
    bare: Counter[tuple[str, int, str]] = Counter()
    for (method, who, words), times in sent.items():
        bare[method, who, unmarked(words)] += times
    for call, times in sent.items():
        assert times <= most[call] + marked_due[call], ("too often", call, times)
    for call, times in due.items():
        assert bare[call] >= times, ("never happened", call)
    counts.effects += due.total()
    counts.in_flight += len(doubts)
    counts.duplicates += (bare - due).total()


def unmarked(words: str) -> str:
    """Return a message without the line that says it may come twice."""
    return words.partition("\n\n<i>You may have received")[0]


def queued(world: World) -> Counter[tuple[str, int]]:
    """Return what was queued for whom, but for digests."""
    return Counter(
        (row.kind, row.chat_id) for row in rows(world.db, Outbox) if "digest" not in row.kind
    )


def kill_at_every_step(
    world: World,
    name: str,
    check: Callable[[], None],
    least: Counter[tuple[str, int]],
    *more: Sequence[str],
) -> None:
    """Kill the pass at each of its steps in turn; then run to the end and check.

    Kills that leave the very same behind are mended and checked once (each, with
    `BUFFETTSBOT_KILLS`): most statements change nothing before their commit. That such a kill
    leaves no lock either, `restore` shows. `least`: how often Telegram has to see which method for
    whom.
    """
    command = ["pass", name]
    counts, seen = Counts(), set[str]()
    world.save()
    counts.steps = world.run(command, ahead=MINUTE).steps
    for step in range(1, counts.steps + 1):
        world.restore()
        ending = world.run(command, ahead=MINUTE, kill_at=step)
        # Threads race and answers come in pieces: some runs have a few steps less.
        assert ending.killed or step > 0.8 * counts.steps, ending
        counts.kills += ending.killed
        doubts, state = world.in_flight(), world.state()
        world.db.close()
        if state in seen and not KILLS:
            continue
        seen.add(state)
        counts.states += 1
        try:
            run_on(world, command, *more)
            check()
            check_sent(world, doubts, counts)
            told = Counter[tuple[str, int]]()
            for (method, who, _), times in world.sent().items():
                told[method, who] += times
            assert told >= least, least - told
        except AssertionError as error:
            error.add_note(f"killed at step {step} of {counts.steps}: {ending.step}; {counts}")
            raise
    show(f"pass {name}", world, counts)


def run_on(world: World, *commands: Sequence[str], ahead: float = MINUTE + PAUSE) -> None:
    """Run passes to their end, minutes later."""
    ending = world.run(*commands, ["pass", "deliver"], ahead=ahead)
    assert ending.code in (0, 1), ending
    assert " 0 left" in ending.output.splitlines()[-1], ending


def show(name: str, world: World, counts: Counts) -> None:
    """Let the counts be printed at the end."""
    database = "SQLite" if world.db.is_sqlite else "PostgreSQL"
    world.said = f"\n{name} on {database}: {counts}"


def test_settle_killed_at_every_step_accepts_each_payment_once(world: World) -> None:
    world.member(10, 5 * DAY)
    person(world.db, 11, "u11")
    old_end = membership(world.db, 10).end_date
    renewal, refused = world.claim(10, "good"), world.claim(11, "underpaid")
    world.forget_messages()

    def check() -> None:
        check_payments(world, {10: renewal}, {10: old_end})
        assert [p.status for p in ledger(world.db, refused)] == ["refused"]
        told = {("renewal", 10): 1, ("payment-refused", 11): 1}
        assert queued(world) == told | {(f"admin-{kind}", ADMIN): 1 for kind in ("keep", "refused")}

    least = Counter({("sendMessage", 10): 1, ("sendMessage", 11): 1, ("sendMessage", ADMIN): 2})
    kill_at_every_step(world, "settle", check, least)


def check_payments(world: World, paid: dict[int, str], old_ends: dict[int, datetime]) -> None:
    """Each was accepted once, and its days begin now, or where the old ones end."""
    for chat_id, transaction_hash in paid.items():
        (payment,) = ledger(world.db, transaction_hash)
        standing = membership(world.db, chat_id)
        assert payment.status == "accepted"
        assert payment.period_start
        assert payment.period_start == old_ends.get(chat_id, payment.decided_at)
        assert payment.period_end == payment.period_start + 30 * DAY
        assert (standing.transaction_hash, standing.end_date) == (
            transaction_hash,
            payment.period_end,
        )
        assert standing.expired_at is None


def test_remind_killed_at_every_step_tells_everyone_once(world: World) -> None:
    due = {10: 1, 11: 7}
    for chat_id, days in due.items():
        world.member(chat_id, (days - 0.5) * DAY)
    world.member(20, 10 * DAY)
    world.forget_messages()

    def check() -> None:
        kinds = "reminder", "reminder-details"
        assert queued(world) == {(kind, chat_id): 1 for kind in kinds for chat_id in due}
        check_digest(world, "digest-remind", {"told": 2, "by_days": {"1": 1, "7": 1}})

    methods = "sendPhoto", "sendMessage"
    least = Counter({(method, chat_id): 1 for method in methods for chat_id in due})
    least["sendMessage", ADMIN] = 1
    kill_at_every_step(world, "remind", check, least)


def test_expire_killed_at_every_step_ends_everyone_once(world: World) -> None:
    due, staying = (10, 11), 20
    for chat_id in due:
        world.member(chat_id, timedelta(0))
    world.member(staying, DAY)
    world.forget_messages()

    def check() -> None:
        check_ended(world, due)
        assert membership(world.db, staying).expired_at is None
        assert user(world.db, staying).at_private_group
        kinds = "remove", "expired"
        told = {(kind, chat_id): 1 for kind in kinds for chat_id in due}
        assert queued(world) == told | {("admin-delete", ADMIN): len(due)}
        check_digest(world, "digest-expire", {"ended": len(due)})

    methods = "banChatMember", "unbanChatMember", "sendMessage"
    least = Counter({(method, chat_id): 1 for method in methods for chat_id in due})
    least["sendMessage", ADMIN] = len(due) + 1
    kill_at_every_step(world, "expire", check, least)


def check_ended(world: World, due: Iterable[int]) -> None:
    """These are out, since one moment that stands."""
    for chat_id in due:
        assert membership(world.db, chat_id).expired_at is not None
        assert not user(world.db, chat_id).at_private_group


def check_digest(world: World, kind: str, wanted: dict[str, Any]) -> None:
    """What the digests tell adds up to what happened."""
    told: Counter[str] = Counter()
    for row in rows(world.db, Outbox):
        if row.kind == kind and row.chat_id == ADMIN:
            told.update(row.payload if "by_days" not in row.payload else flat(row.payload))
    assert told == Counter(wanted if "by_days" not in wanted else flat(wanted))


def flat(counts: dict[str, Any]) -> dict[str, int]:
    """Return the counts of a reminders' digest without a level."""
    return {"told": counts["told"], **counts["by_days"]}


def test_deliver_killed_at_every_step_sends_twice_only_what_was_in_flight(world: World) -> None:
    world.member(10, timedelta(0))
    world.member(11, DAY / 2)
    world.forget_messages()
    expire(world.db, now=world.begun, guard=1, group=True)
    remind(world.db, now=world.begun, days=(1,))
    person(world.db, 13, "u13")
    world.claim(13, "good")
    world.sandbox.state.telegram.merge({"blocked": [13]})
    # One of each manner is enough: a removal, a picture, a refusal and the digest that tells it.
    world.forget_messages("expired", "admin-delete", "digest-expire", "reminder-details")
    world.forget_messages("digest-remind")

    def check() -> None:
        failed = [row.chat_id for row in rows(world.db, Outbox) if row.status == "failed"]
        assert failed == [13]
        digests = [row for row in rows(world.db, Outbox) if row.kind == "digest-deliver"]
        assert [row.payload["failed"] for row in digests] == [1]

    least = Counter({("banChatMember", 10): 1, ("unbanChatMember", 10): 1})
    least.update({("sendPhoto", 11): 1, ("sendMessage", ADMIN): 1})
    kill_at_every_step(world, "deliver", check, least, ["pass", "deliver"])


def test_all_passes_at_once_killed_at_random_lose_nothing(world: World) -> None:
    wanted = int(KILLS or 30)
    seed = int(os.environ.get("BUFFETTSBOT_SEED", random.randrange(10**6)))
    luck, counts = random.Random(seed), Counts()
    world.forget_messages()
    world.sandbox.delay(0.01)
    ended, reminded, paid = list[int](), list[int](), dict[int, str]()
    doubts: set[tuple[int, datetime]] = set()
    chats = itertools.count(1000)
    ahead = lasting = 0.0

    def moment() -> float | None:
        """Some moment of a round; the first is not disturbed, to see how long one lasts."""
        return luck.uniform(0.05, 0.6) * lasting if lasting else None

    while counts.kills < wanted:
        ahead += MINUTE + 1  # the lease of a deliverer who died is over
        now = world.begun + timedelta(seconds=ahead)
        arrive(world, now, chats, ended, reminded, paid)
        world.db.close()
        orders = (
            Order([["pass", *command]], world.env, ahead, kill_after=moment())
            for command in ALL_AT_ONCE
        )
        begun = time.monotonic()
        endings = world.forged.run_all(*orders)
        lasting = lasting or time.monotonic() - begun
        assert {ending.code for ending in endings} <= {0, -9}, endings
        counts.kills += sum(ending.killed for ending in endings)
        counts.steps += sum(ending.steps for ending in endings)
        doubts |= world.in_flight()
    world.sandbox.delay(0)
    run_on(world, *(["pass", *each] for each in ALL_AT_ONCE), ahead=ahead + PAUSE)
    try:
        check_payments(world, paid, {})
        check_ended(world, ended)
        told = queued(world)
        for kind, chat_ids in (
            ("expired", ended),
            ("remove", ended),
            ("reminder", reminded),
            ("reminder-details", reminded),
            ("welcome", paid),
        ):
            assert [told[kind, chat_id] for chat_id in chat_ids] == [1] * len(chat_ids), kind
        assert told["admin-delete", ADMIN] == len(ended)
        check_digest(world, "digest-expire", {"ended": len(ended)})
        by_days = {"1": len(reminded)}
        check_digest(world, "digest-remind", {"told": len(reminded), "by_days": by_days})
        check_sent(world, doubts, counts)
    except AssertionError as error:
        error.add_note(f"BUFFETTSBOT_SEED={seed}: {counts}")
        raise
    show(f"all passes at random (seed {seed})", world, counts)


ALL_AT_ONCE = (
    ["settle"],
    ["settle"],
    ["remind"],
    ["remind"],
    ["expire", "--force"],
    ["expire", "--force"],
    ["deliver"],
    ["deliver"],
)


def arrive(
    world: World,
    now: datetime,
    chats: "itertools.count[int]",
    ended: list[int],
    reminded: list[int],
    paid: dict[int, str],
) -> None:
    """Some memberships run out, some soon will, and somebody has paid while the chain was away."""
    since_begun = now - world.begun
    for due, left in ((ended, timedelta(0)), (reminded, DAY / 2)):
        for _ in range(3):
            due.append(next(chats))
            world.member(due[-1], since_begun + left)
    for _ in range(2):
        chat_id = next(chats)
        person(world.db, chat_id, f"u{chat_id}")
        paid[chat_id] = world.claim(chat_id, "good", now)
