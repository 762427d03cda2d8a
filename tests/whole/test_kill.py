"""`serve` is killed (SIGKILL) during claims, twenty times over; then everything is settled.

What must hold afterwards, whatever moment the kills hit: every claim that was written down reached
its end, no hash bought twice, no payment was lost, nobody was told twice, and what a client was
answered is what stands.
"""

import random
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx
import pytest
from helpers import broken, clean_env, in_parallel, ledger, membership, person, rows, shop, staff
from serving import (
    Bot,
    Clock,
    Sandbox,
    Service,
    app_of,
    bot_of,
    launch,
    moment,
    open_chain_of,
    sandboxed,
)

from buffettsbot.core.app import App, expectation_of, utcnow
from buffettsbot.core.ledger.settle import settle
from buffettsbot.core.storage.models import Outbox, Payment

ROUNDS = 20
CUSTOMERS = range(1, 6)
ADMINS = (101, 102)
MONTH = timedelta(days=30)
# What becomes of each kind of payment in the end.
ENDS = {
    "good": "accepted",
    "unconfirmed": "accepted",
    "underpaid": "refused",
    "not-found": "refused",
}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with sandboxed() as sandbox:
        yield sandbox


@dataclass
class Story:
    """What was tried, and what the clients heard."""

    kinds: dict[str, str] = field(default_factory=dict)
    claims: list[tuple[int, str]] = field(default_factory=list)
    heard: list[tuple[int, str, httpx.Response]] = field(default_factory=list)
    silent: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def claim(self, bot: Bot, chat_id: int, paid: str) -> None:
        """Claim, and keep the answer if there is one."""
        try:
            answer = bot.claim(chat_id, paid)
        except httpx.TransportError:
            with self.lock:
                self.silent += 1
        else:
            with self.lock:
                self.heard.append((chat_id, paid, answer))


def test_a_service_killed_twenty_times_loses_nothing(
    database_url: str, sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    sandbox.reset()
    sandbox.delay(0.08)
    env = clean_env(database_url, **sandbox.settings)
    app = app_of(env, Clock())
    shop(app.db)
    staff(app.db, *ADMINS)
    for chat_id in CUSTOMERS:
        person(app.db, chat_id, f"u{chat_id}")
    seed = random.randrange(10**6)
    story, luck = Story(), random.Random(seed)
    with ExitStack() as stack:
        stack.callback(app.db.close)
        # The next one starts while the present one works, which saves half the time.
        services = [launch(env, "--quiet")]
        stack.callback(lambda: services[-1].kill())
        for number in range(ROUNDS):
            service = services[-1]
            service.wait_until_serving()
            if number + 1 < ROUNDS:
                services.append(launch(env, "--quiet"))
            play_round(story, service, sandbox, luck)
    before = Counter(p.status for p in ledger(app.db))
    settle_all(app, sandbox, story)
    check_answers(app, story)
    counts = check_ledger(app, story)
    told = check_notices(app)
    assert broken(app.db, utcnow()) == []
    app.db.close()
    with capsys.disabled():
        print(  # to stderr, which also xdist's workers show
            f"\n{ROUNDS} kills (seed {seed}, {database_url.partition(':')[0]}): "
            f"{len(story.claims)} claims, {len(story.heard)} answered, {story.silent} cut off; "
            f"then in the ledger {dict(before)}, settled to {dict(counts)}; {told} notices",
            file=sys.stderr,
        )
    assert story.silent > ROUNDS / 2, "the kills came too late to hit anything"
    assert before["pending"] > ROUNDS / 2, "nothing was left in between"
    assert len(story.heard) > ROUNDS / 2, "the kills came too early"


def play_round(story: Story, service: Service, sandbox: Sandbox, luck: random.Random) -> None:
    """Eight clients claim at once; somewhere in the middle the service dies."""
    fresh = []
    for kind in ("good", "good", *ENDS):
        fresh.append(sandbox.pay(kind))
        story.kinds[fresh[-1]] = kind
    claims = [(luck.choice(CUSTOMERS), paid) for paid in fresh]
    claims.append((luck.choice(CUSTOMERS), fresh[0]))  # perhaps a thief
    claims.append(luck.choice(story.claims or claims))  # a bot that tries again
    story.claims += claims
    enough, moment = luck.randrange(len(fresh) + 1), luck.uniform(0.0, 0.2)
    answers = len(story.heard) + luck.choice((0, 0, 1, 2))

    def is_time() -> bool:
        asked = set(fresh) & set(sandbox.asked())
        return len(asked) >= enough and len(story.heard) >= answers

    def kill() -> None:
        """Wait until the chain was asked about some of these, some have their answer, and a little
        more."""
        deadline = time.monotonic() + 10
        while not is_time() and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(moment)
        service.kill()

    with bot_of(service.url) as bot:
        killer = threading.Thread(target=kill)
        killer.start()
        in_parallel(len(claims), lambda n: story.claim(bot, *claims[n]))
        killer.join()


def settle_all(app: App, sandbox: Sandbox, story: Story) -> None:
    """Let time pass and the settle pass run, until nothing is pending."""
    sandbox.delay(0)
    for paid, kind in story.kinds.items():
        if kind == "unconfirmed":
            sandbox.confirm(paid)
    chain, expectation = open_chain_of(app, sandbox.wire), expectation_of(app.settings)
    for hours in range(1, 60, 5):
        report = settle(app.db, chain, expectation, now=utcnow() + timedelta(hours=hours))
        assert report.failed == 0
    assert [p for p in ledger(app.db) if p.status in ("pending", "held")] == []


def accepted_of(app: App) -> list[Payment]:
    return [p for p in ledger(app.db) if p.status == "accepted"]


def check_ledger(app: App, story: Story) -> Counter[str]:
    """Each hash came to the end that it deserves, once, and pays for just its own days."""
    by_hash: dict[str, list[Payment]] = defaultdict(list)
    for payment in ledger(app.db):
        by_hash[payment.transaction_hash].append(payment)
    assert set(by_hash) <= set(story.kinds)
    for paid, entries in by_hash.items():
        bought = [p for p in entries if p.status == "accepted"]
        assert len(bought) == (1 if ENDS[story.kinds[paid]] == "accepted" else 0), (paid, entries)
        for other in entries:
            if bought and other is not bought[0]:
                assert (other.status, other.reason) == ("refused", "already-used")
    for chat_id in CUSTOMERS:
        own = sorted(
            (p for p in accepted_of(app) if p.customer_id == chat_id),
            key=lambda p: p.period_end or utcnow(),
        )
        end = None
        for payment in own:
            assert payment.period_start
            assert payment.period_end
            assert payment.period_end - payment.period_start == MONTH
            # the first begins when it was decided, each other where the one before it ends
            assert payment.period_start == (end or payment.decided_at)
            end = payment.period_end
        if own:
            assert membership(app.db, chat_id).end_date == end
            assert membership(app.db, chat_id).transaction_hash == own[-1].transaction_hash
    return Counter(p.status for p in ledger(app.db))


def check_answers(app: App, story: Story) -> None:
    """What a client heard is true, and stays true."""
    entries = {(p.customer_id, p.transaction_hash): p for p in ledger(app.db)}
    for chat_id, paid, answer in story.heard:
        assert answer.status_code in (201, 202, 400), answer.text
        said: dict[str, Any] = answer.json()
        entry = entries[(chat_id, paid)]
        if answer.status_code == 201:
            assert entry.status == "accepted"
            assert entry.decided_at
            assert entry.period_end
            assert moment(said["start_date"]) == entry.decided_at.replace(microsecond=0)
            assert moment(said["end_date"]) == entry.period_end.replace(microsecond=0)
        elif answer.status_code == 400:
            assert (entry.status, entry.reason) == ("refused", said["reason"])


def check_notices(app: App) -> int:
    """Each accepted payment is told once: to the customer, and to each admin."""
    queued: list[Outbox] = rows(app.db, Outbox)
    assert len({row.key for row in queued}) == len(queued)
    told: dict[str, Counter[str]] = defaultdict(Counter)
    for row in queued:
        told[row.payload["transaction_hash"]][f"{row.kind} to {row.chat_id}"] += 1
    for counts in told.values():
        assert set(counts.values()) == {1}, counts
    for payment in accepted_of(app):
        kinds = [kind for kind in told[payment.transaction_hash] if "payment-pending" not in kind]
        to = f"to {payment.customer_id}"
        staff_told = [f"to {admin}" for admin in ADMINS]
        renewal = [f"renewal {to}", *(f"admin-keep {each}" for each in staff_told)]
        welcome = [f"welcome {to}", *(f"admin-add {each}" for each in staff_told)]
        assert sorted(kinds) in (sorted(renewal), sorted(welcome))
    firsts = Counter(row.chat_id for row in queued if row.kind == "welcome")
    assert set(firsts.values()) <= {1}
    return len(queued)
