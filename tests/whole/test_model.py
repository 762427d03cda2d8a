"""Everything in any order, against a model of the promises that fits on two pages.

Hypothesis registers, pays, claims, renews, grants, revokes, lets time pass, reminds, expires and
delivers as it likes; after each step the database must say what the model says: who is in and until
when, what every payment came to, and each message that was ever queued, sent or taken back. The
chain is a fake source, Telegram is the sandbox over a real socket, and time is an argument.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, cast
from zoneinfo import ZoneInfo

import httpx
import pytest
from helpers import (
    DAY,
    EXPECTATION,
    NOW,
    FakeSource,
    broken,
    fake_chain,
    paid,
    person,
    rows,
    shop,
    silence,
    staff,
)
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import text

from buffettsbot.core.errors import NoMembership, NotAllowed
from buffettsbot.core.ledger.claims import claim
from buffettsbot.core.ledger.settle import settle
from buffettsbot.core.members.expiry import expire
from buffettsbot.core.members.grants import grant, revoke
from buffettsbot.core.members.memberships import running_member
from buffettsbot.core.members.reminders import remind
from buffettsbot.core.messages.words import Style
from buffettsbot.core.storage.audit import By
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import Outbox, Payment, Subscription
from buffettsbot.core.telegram import pacing
from buffettsbot.core.telegram.bot import Telegram
from buffettsbot.core.telegram.delivery import deliver
from buffettsbot.core.wire import Wire
from buffettsbot.http.sandbox import running_sandbox

pytestmark = pytest.mark.slow

PEOPLE = (11, 12, 13)
ADMIN = 900
GROUP = -1001234567890
PRICES = {"1 month": 50, "3 months": 130}
LENGTHS = {"1 month": 30 * DAY, "3 months": 90 * DAY}
THRESHOLDS = (1, 3, 7)
TABLES = "outbox, payment, subscription, plan, telegram_user, audit, lease, pass_run"
OVERTAKEN = {"reminder", "reminder-details", "expired", "remove"}
STYLE = Style(
    language="en",
    zone=ZoneInfo("UTC"),
    community="our community",
    support=None,
    explorer_url="https://tronscan.org/#/transaction/",
    directory=None,
)


@dataclass
class Claim:
    """A payment in the ledger: whose, and what has become of it."""

    plan: str
    status: str
    claimed_at: datetime
    attempts: int = 0
    next_check: datetime = NOW


@dataclass
class Model:
    """What the promises say, in dictionaries. Keys of `claims`: (hash, customer, plan)."""

    ends: dict[int, datetime] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)
    claims: dict[tuple[str, int, str], Claim] = field(default_factory=dict)
    told: set[tuple[int, datetime, int]] = field(default_factory=set)
    outbox: Counter[tuple[str, int, str]] = field(default_factory=Counter)

    def runs(self, chat: int, now: datetime) -> bool:
        return chat in self.ends and chat not in self.ended and self.ends[chat] > now

    def queue(self, *notices: tuple[str, int]) -> None:
        self.outbox.update((kind, chat, "queued") for kind, chat in notices)

    def cancel(self, chat: int, kinds: set[str]) -> None:
        for kind in kinds:
            count = self.outbox.pop((kind, chat, "queued"), 0)
            self.outbox[kind, chat, "cancelled"] += count

    def extend(self, chat: int, length: timedelta, now: datetime) -> None:
        """Promise 4: paid days are never lost."""
        running = self.runs(chat, now)
        self.ends[chat] = (self.ends[chat] if running else now) + length
        self.ended.discard(chat)
        self.cancel(chat, OVERTAKEN)
        word, notice = ("renewal", "admin-keep") if running else ("welcome", "admin-add")
        self.queue((word, chat), (notice, ADMIN))

    def let_go(self, chat: int) -> None:
        self.ended.add(chat)
        self.cancel(chat, {"reminder", "reminder-details"})
        self.queue(("remove", chat), ("expired", chat), ("admin-delete", ADMIN))

    def live(self, transaction_hash: str) -> tuple[str, int, str] | None:
        """Promise 1: at most one claim of a hash is alive."""
        alive = [
            key
            for key, entry in self.claims.items()
            if key[0] == transaction_hash and entry.status != "refused"
        ]
        assert len(alive) <= 1
        return alive[0] if alive else None


@dataclass
class OnChain:
    """A transaction on the chain: how much, when, from when on it is final; or nobody says."""

    usdt: int
    at: datetime
    final_at: datetime
    silent: bool = False


class World(RuleBasedStateMachine):
    """The program on one side, the model on the other, and one clock."""

    def __init__(self, db: Database, bot: Telegram, sandbox: httpx.Client) -> None:
        super().__init__()
        self.db, self.bot, self.sandbox = db, bot, sandbox
        sandbox.delete("/_sandbox/telegram/sent")
        with db.begin() as session:
            for table in TABLES.split(", "):
                session.execute(text(f"DELETE FROM {table}"))
        self.now = NOW
        self.model = Model()
        self.chain: dict[str, OnChain] = {}
        self.source = FakeSource()
        shop(db, month=50, quarter=130)
        staff(db, ADMIN)
        for chat in PEOPLE:
            person(db, chat, f"member{chat}")

    def tick(self, by: timedelta = timedelta(minutes=1)) -> datetime:
        """Let time pass, and the chain with it."""
        self.now += by
        for transaction_hash, payment in self.chain.items():
            self.source.answers[transaction_hash] = (
                silence()
                if payment.silent
                else paid(
                    transaction_hash,
                    payment.usdt,
                    at=payment.at,
                    final=payment.final_at <= self.now,
                )
            )
        return self.now

    @rule(hours=st.sampled_from([1, 20, 24 * 3, 24 * 6, 24 * 25, 24 * 80]))
    def time_passes(self, hours: int) -> None:
        self.tick(timedelta(hours=hours))

    @rule(
        chat=st.sampled_from(PEOPLE),
        period=st.sampled_from(sorted(PRICES)),
        usdt=st.sampled_from([1, 50, 130]),
        hours=st.sampled_from([0, 0, 2]),
        waits=st.sampled_from([0, 0, 30]),
    )
    def somebody_pays_and_claims(
        self, chat: int, period: str, usdt: int, hours: int, waits: int
    ) -> None:
        transaction_hash = f"{len(self.chain) + 1:064x}"
        final_at = self.now + timedelta(hours=hours)
        self.chain[transaction_hash] = OnChain(usdt, self.now, final_at)
        self.tick(timedelta(hours=waits))
        self._claim(transaction_hash, chat, period)

    @precondition(lambda self: any(self.model.runs(chat, self.now) for chat in PEOPLE))
    @rule(
        which=st.integers(0, 2),
        period=st.sampled_from(sorted(PRICES)),
        usdt=st.sampled_from([1, 130]),
        silent=st.booleans(),
    )
    def a_membership_runs_out_while_the_chain_keeps_a_payment_waiting(
        self, which: int, period: str, usdt: int, silent: bool
    ) -> None:
        """Promise 6: expiry touches nobody whose payment is pending, until the chain has spoken."""
        members = [chat for chat in PEOPLE if self.model.runs(chat, self.now)]
        chat = members[which % len(members)]
        end = self.model.ends[chat]
        self.tick(max(end - self.now - timedelta(minutes=5), timedelta(0)))
        transaction_hash = f"{len(self.chain) + 1:064x}"
        payment = OnChain(usdt, self.now, end + timedelta(hours=1), silent=silent)
        self.chain[transaction_hash] = payment
        self._claim(transaction_hash, chat, period)
        self.tick(timedelta(minutes=5))
        self.expire_pass()
        assert chat not in self.model.ended
        payment.silent = False
        self.tick(timedelta(hours=1))
        self.settle_pass()
        assert self.model.claims[transaction_hash, chat, period].status != "pending"
        self.expire_pass()

    @precondition(lambda self: self.chain)
    @rule(
        chat=st.sampled_from(PEOPLE),
        period=st.sampled_from(sorted(PRICES)),
        which=st.integers(0, 3),
    )
    def somebody_claims_a_known_hash(self, chat: int, period: str, which: int) -> None:
        self._claim(list(self.chain)[-1 - which % len(self.chain)], chat, period)

    def _claim(self, transaction_hash: str, chat: int, period: str) -> None:
        now = self.tick()
        expected = self._claimed(transaction_hash, chat, period, now)
        outcome = claim(
            self.db,
            fake_chain(self.source),
            EXPECTATION,
            person=chat,
            period=period,
            transaction_hash=transaction_hash,
            now=now,
        )
        verdict = str(outcome.verdict.verdict)
        assert (verdict, outcome.verdict.reason == "already-used") == expected

    def _claimed(
        self, transaction_hash: str, chat: int, period: str, now: datetime
    ) -> tuple[str, bool]:
        key = (transaction_hash, chat, period)
        live = self.model.live(transaction_hash)
        if live is not None and live != key:
            self.model.claims.setdefault(key, Claim(period, "refused", now))
            return "refused", True
        if live is None:
            self.model.claims[key] = Claim(period, "pending", now)
        entry = self.model.claims[key]
        if entry.status == "pending":
            self._asked(key, entry, now)
        return entry.status, False

    def _asked(self, key: tuple[str, int, str], entry: Claim, now: datetime) -> None:
        """The chain says what it knows; promises 2 and 3."""
        transaction_hash, chat, period = key
        payment = self.chain[transaction_hash]
        entry.attempts += 1
        if payment.silent or payment.final_at > now:
            wait = min(timedelta(seconds=30) * 2 ** (entry.attempts - 1), timedelta(minutes=15))
            entry.next_check = now + wait
            if entry.attempts == 1:
                self.model.queue(("payment-pending", chat))
        elif payment.usdt < PRICES[period] or entry.claimed_at - payment.at > DAY:
            entry.status = "refused"
            if entry.attempts > 1:
                self.model.queue(("payment-refused", chat), ("admin-refused", ADMIN))
        else:
            entry.status = "accepted"
            self.model.extend(chat, LENGTHS[period], now)

    @rule()
    def settle_pass(self) -> None:
        now = self.tick()
        due = [
            (entry.next_check, key)
            for key, entry in self.model.claims.items()
            if entry.status == "pending" and entry.next_check <= now
        ]
        for _, key in sorted(due):
            self._asked(key, self.model.claims[key], now)
        report = settle(self.db, fake_chain(self.source), EXPECTATION, now=now)
        assert report.due == len(due)

    @rule(chat=st.sampled_from(PEOPLE), days=st.sampled_from([1, 5, 40]), until=st.booleans())
    def admin_grants(self, chat: int, days: int, until: bool) -> None:
        now = self.tick()
        length = days * DAY
        by = By("admin", now)
        if not until:
            self.model.extend(chat, length, now)
            grant(self.db, person=chat, days=days, reason="a gift", by=by)
            return
        if self.model.runs(chat, now):
            length = now + length - self.model.ends[chat]
        if length <= timedelta(0):
            with pytest.raises(NotAllowed):
                grant(self.db, person=chat, until=now + days * DAY, reason="a gift", by=by)
            return
        self.model.extend(chat, length, now)
        grant(self.db, person=chat, until=now + days * DAY, reason="a gift", by=by)

    @rule(chat=st.sampled_from(PEOPLE))
    def admin_revokes(self, chat: int) -> None:
        now = self.tick()
        if not self.model.runs(chat, now):
            with pytest.raises(NoMembership):
                running_member(self.db, chat, now=now)
            return
        self.model.ends[chat] = now
        self.model.cancel(chat, {"welcome", "renewal"})
        self.model.let_go(chat)
        member = running_member(self.db, chat, now=now)
        revoke(self.db, member=member, reason="rude", by=By("admin", now), group=True)

    @rule()
    def remind_pass(self) -> None:
        now = self.tick()
        told = 0
        for chat, end in self.model.ends.items():
            near = [days for days in THRESHOLDS if end - now <= days * DAY]
            if (
                not near
                or not self.model.runs(chat, now)
                or (chat, end, near[0]) in self.model.told
            ):
                continue
            self.model.told.add((chat, end, near[0]))
            self.model.queue(("reminder", chat), ("reminder-details", chat))
            told += 1
        assert remind(self.db, now=now, days=THRESHOLDS).done == told

    @rule()
    def expire_pass(self) -> None:
        now = self.tick()
        waiting = {key[1] for key, entry in self.model.claims.items() if entry.status == "pending"}
        over = [
            chat
            for chat, end in self.model.ends.items()
            if end <= now and chat not in self.model.ended and chat not in waiting
        ]
        for chat in over:
            self.model.let_go(chat)
        assert expire(self.db, now=now, guard=0.2, group=True).done == len(over)

    @rule()
    def deliver_pass(self) -> None:
        now = self.tick()
        waiting = {key: n for key, n in self.model.outbox.items() if key[2] == "queued" and n}
        for (kind, chat, status), count in waiting.items():
            del self.model.outbox[kind, chat, status]
            self.model.outbox[kind, chat, "sent"] += count
        report = deliver(self.db, self.bot, STYLE, clock=lambda: now)
        troubles = [row.error for row in rows(self.db, Outbox) if row.status == "failed"]
        assert (report.failed, report.skipped, troubles) == (0, 0, [])

    @invariant()
    def the_database_agrees(self) -> None:
        held = {
            s.customer_id: (s.end_date, s.expired_at is not None)
            for s in rows(self.db, Subscription)
        }
        assert held == {c: (end, c in self.model.ended) for c, end in self.model.ends.items()}

    @invariant()
    def the_ledger_agrees(self) -> None:
        ledger = Counter(
            (p.transaction_hash, p.customer_id, p.status) for p in rows(self.db, Payment)
        )
        expected = Counter(
            (key[0], key[1], entry.status) for key, entry in self.model.claims.items()
        )
        assert ledger == expected

    @invariant()
    def the_outbox_agrees(self) -> None:
        said = Counter(
            (row.kind, row.chat_id, row.status)
            for row in rows(self.db, Outbox)
            if not row.kind.startswith("digest-")
        )
        assert said == +self.model.outbox

    @invariant()
    def telegram_was_told_what_the_outbox_says(self) -> None:
        """Promise 5: each message once, as the emulated Telegram's own log has it."""
        sent = self.sandbox.get("/_sandbox/telegram/sent").json()
        heard = Counter(one["chat_id"] for one in sent if one["ok"] and one["chat_id"] in PEOPLE)
        said = Counter[int]()
        for (kind, chat, status), count in self.model.outbox.items():
            if status == "sent" and chat in PEOPLE and kind != "remove":
                said[chat] += count
        assert heard == +said

    def teardown(self) -> None:
        """Nothing of such a life looks broken to `db check`. At its end, for it takes 8 ms."""
        assert broken(self.db, self.now) == []


@pytest.fixture
def sandbox() -> Iterator[httpx.Client]:
    with running_sandbox() as url, httpx.Client(base_url=url, trust_env=False) as http:
        yield http


def test_whatever_happens_in_whatever_order_the_promises_hold(
    db: Database, sandbox: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacing, "SECOND", 0.0)  # the pace has tests of its own
    monkeypatch.setattr(pacing, "STEP", 0.0)
    monkeypatch.setattr(pacing, "CHAT_SECONDS", 0.0)
    sandbox.post(
        "/_sandbox/telegram", json={"token": "1:model", "group": {"id": GROUP, "members": {}}}
    )
    wire = Wire()
    bot = Telegram(wire, str(sandbox.base_url), "1:model", group=GROUP)
    run_state_machine_as_test(
        cast(Any, partial(World, db, bot, sandbox)),
        settings=settings(
            max_examples=20,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    wire.close()
