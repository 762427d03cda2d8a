"""POST /api/v1/join-requests/ against the sandbox's Telegram, over sockets, on both databases."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from helpers import (
    DAY,
    NOW,
    clean_env,
    hash_of,
    member,
    paid,
    payments_chain,
    person,
    rows,
    shop,
    user,
    waits_for_a_lock,
)
from serving import Bot, Host, Sandbox, bot_of, hosting, sandboxed
from sqlalchemy import update

from buffettsbot.cli.serve import CHAIN_SLOTS, TELEGRAM_SLOTS, THREADS
from buffettsbot.core.app import expectation_of, utcnow
from buffettsbot.core.ledger.claims import claim
from buffettsbot.core.members import users
from buffettsbot.core.members.expiry import expire
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import Outbox, Subscription
from buffettsbot.core.telegram.bot import Telegram
from buffettsbot.core.telegram.joining import answer_request

JOINS = "/api/v1/join-requests/"
TOKEN, GROUP = "123456:secret-token", -1001234567890
ANN, BEN = 7_000_000_001, 7_000_000_002


@pytest.fixture(scope="module")
def shared_sandbox() -> Iterator[Sandbox]:
    with sandboxed() as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(shared_sandbox: Sandbox) -> Sandbox:
    shared_sandbox.reset()
    shared_sandbox.telegram(token=TOKEN, group={"id": GROUP})
    return shared_sandbox


@pytest.fixture
def env(database_url: str, sandbox: Sandbox) -> dict[str, str]:
    return clean_env(database_url, telegram_token=TOKEN, group_id=GROUP, **sandbox.settings)


@pytest.fixture
def host(env: dict[str, str], sandbox: Sandbox) -> Iterator[Host]:
    """A service that sells a month; Ann has bought one, Ben is only known."""
    with hosting(env, sandbox.wire, telegram_slots=1) as host:
        shop(host.app.db)
        person(host.app.db, ANN, "ann")
        person(host.app.db, BEN, "ben")
        buy(host, ANN, hash_of(1))
        yield host


@pytest.fixture
def bot(host: Host) -> Iterator[Bot]:
    with bot_of(host.url) as bot:
        yield bot


def buy(host: Host, who: int, transaction_hash: str, *, final: bool = True) -> None:
    now = host.app.now()
    payment = paid(transaction_hash, at=now - timedelta(minutes=1), final=final)
    claim(
        host.app.db,
        payments_chain(payment),
        expectation_of(host.app.settings),
        person=who,
        period="1 month",
        transaction_hash=transaction_hash,
        now=now,
    )


def asks(sandbox: Sandbox, *people: int) -> None:
    sandbox.telegram(join_requests=list(people))


def passed_on(bot: Bot, chat_id: int) -> bool:
    answer = bot.post(JOINS, {"chat_id": chat_id})
    assert answer.status_code == 200, answer.text
    assert answer.json().keys() == {"approved"}
    approved: bool = answer.json()["approved"]
    return approved


def not_now(answer: httpx.Response, *words: str) -> int:
    """Check that it is refused for now, in these words; return the seconds to wait."""
    assert answer.status_code == 503, answer.text
    assert answer.headers["retry-after"] == str(answer.json()["retry_after"])
    assert TOKEN not in answer.text
    for word in words:
        assert word in answer.json()["message"]
    wait: int = answer.json()["retry_after"]
    return wait


def is_in(sandbox: Sandbox, who: int) -> bool:
    members: dict[str, str] = sandbox.telegram()["group"]["members"]
    return members.get(str(who)) == "member"


def removals(host: Host) -> list[int]:
    return [row.chat_id for row in rows(host.app.db, Outbox) if row.kind == "remove"]


def test_a_member_is_let_in_and_noted(bot: Bot, host: Host, sandbox: Sandbox) -> None:
    asks(sandbox, ANN, BEN)
    assert passed_on(bot, ANN) is True
    assert is_in(sandbox, ANN)
    assert user(host.app.db, ANN).at_private_group is True
    assert user(host.app.db, BEN).at_private_group is False
    assert sandbox.telegram()["join_requests"] == [BEN]


def test_everyone_else_is_turned_away(bot: Bot, host: Host, sandbox: Sandbox) -> None:
    person(host.app.db, 8, "payer")
    buy(host, 8, hash_of(8), final=False)
    for who in (BEN, 8, 999):  # known, waiting for a payment to be final, never registered
        asks(sandbox, who)
        assert passed_on(bot, who) is False
        assert sandbox.telegram()["join_requests"] == []
        assert not is_in(sandbox, who)
    host.clock.ahead = 31 * DAY
    asks(sandbox, ANN)
    assert passed_on(bot, ANN) is False
    assert not is_in(sandbox, ANN)
    assert removals(host) == []
    assert not any(user(host.app.db, who).at_private_group for who in (ANN, BEN, 8))


def test_the_same_again_is_answered_the_same(bot: Bot, host: Host, sandbox: Sandbox) -> None:
    asks(sandbox, ANN, BEN)
    assert [passed_on(bot, ANN) for _ in range(3)] == [True] * 3
    assert [passed_on(bot, BEN) for _ in range(3)] == [False] * 3
    sandbox.telegram(group={"members": {str(BEN): "member"}})
    assert passed_on(bot, BEN) is False
    sandbox.telegram(not_found=[999])
    assert passed_on(bot, 999) is False


def test_a_request_that_was_taken_back_puts_nobody_into_the_group(
    bot: Bot, host: Host, sandbox: Sandbox
) -> None:
    assert passed_on(bot, ANN) is True
    assert not is_in(sandbox, ANN)
    assert user(host.app.db, ANN).at_private_group is False


def test_trouble_at_telegram_is_503_and_changes_nothing(
    bot: Bot, host: Host, sandbox: Sandbox
) -> None:
    asks(sandbox, ANN, BEN)
    queued = len(rows(host.app.db, Outbox))
    for fault in ("500", "502-html", "html", "empty", "reset"):
        for who in (ANN, BEN):
            sandbox.fail(fault, "telegram", times=1)
            assert not_now(bot.post(JOINS, {"chat_id": who}), "Telegram", "again") == 5
    sandbox.fail("429", "telegram", times=1, retry_after=7)
    assert not_now(bot.post(JOINS, {"chat_id": ANN}), "a pause of 7 s") == 7
    assert user(host.app.db, ANN).at_private_group is False
    assert len(rows(host.app.db, Outbox)) == queued
    assert passed_on(bot, ANN) is True


def test_an_answer_that_was_lost_is_made_up_for(bot: Bot, host: Host, sandbox: Sandbox) -> None:
    asks(sandbox, ANN)
    sandbox.fail("truncated", "telegram", times=1)
    not_now(bot.post(JOINS, {"chat_id": ANN}))
    assert is_in(sandbox, ANN)
    assert passed_on(bot, ANN) is True
    assert user(host.app.db, ANN).at_private_group is True


def test_what_a_person_has_to_mend_is_503_with_the_cure(bot: Bot, sandbox: Sandbox) -> None:
    asks(sandbox, ANN, BEN)
    weak: dict[str, Any] = {"status": "administrator", "can_invite_users": False}
    for world, cure in (
        ({"group": {"bot": weak}}, "administrator"),
        ({"group": {"bot": {"status": "kicked"}}}, "BUFFETTSBOT_GROUP_ID"),
        ({"revoked": True}, "BUFFETTSBOT_TELEGRAM_TOKEN"),
    ):
        sandbox.telegram(**world)
        for who in (ANN, BEN):
            assert not_now(bot.post(JOINS, {"chat_id": who}), cure) == 60


def test_a_member_whom_telegram_will_not_have_is_a_conflict(bot: Bot, sandbox: Sandbox) -> None:
    said = {"ok": False, "error_code": 400, "description": "Bad Request: USER_CHANNELS_TOO_MUCH"}
    sandbox.fail("custom", "telegram", status=400, body=said)
    answer = bot.post(JOINS, {"chat_id": ANN})
    assert answer.status_code == 409
    assert "USER_CHANNELS_TOO_MUCH" in answer.json()["message"]


@pytest.mark.parametrize("missing", ["telegram_token", "group_id"])
def test_without_a_group_to_run_it_says_so(sqlite_url: str, sandbox: Sandbox, missing: str) -> None:
    given = {"telegram_token": TOKEN, "group_id": GROUP, **sandbox.settings, missing: None}
    with hosting(clean_env(sqlite_url, **given), sandbox.wire) as host, bot_of(host.url) as bot:
        words = ("BUFFETTSBOT_TELEGRAM_TOKEN", "BUFFETTSBOT_GROUP_ID")
        assert not_now(bot.post(JOINS, {"chat_id": ANN}), *words) == 60
        assert bot.post(JOINS, {}).json() == {"chat_id": ["This field is required."]}


def test_a_group_that_migrated_is_followed(
    database_url: str, sandbox: Sandbox, env: dict[str, str]
) -> None:
    sandbox.telegram(migrate={"-500": GROUP})
    with hosting(env | {"BUFFETTSBOT_GROUP_ID": "-500"}, sandbox.wire) as host:
        shop(host.app.db)
        person(host.app.db, ANN, "ann")
        buy(host, ANN, hash_of(1))
        asks(sandbox, ANN)
        with bot_of(host.url) as bot:
            assert passed_on(bot, ANN) is True
    assert is_in(sandbox, ANN)


class Waiting:
    """A request that waits for Telegram until it is let go."""

    def __init__(self, bot: Bot, sandbox: Sandbox, chat_id: int) -> None:
        self.sandbox = sandbox
        self.answers: list[httpx.Response] = []
        sandbox.fail("timeout", "telegram", seconds=60, times=1)
        self.thread = threading.Thread(
            target=lambda: self.answers.append(bot.post(JOINS, {"chat_id": chat_id}))
        )
        self.thread.start()
        while not sandbox.state.requests["telegram"]:
            pass

    def let_go(self) -> httpx.Response:
        self.sandbox.state.release()
        self.thread.join()
        return self.answers[0]


def test_whoever_loses_the_membership_meanwhile_is_taken_out_again(
    bot: Bot, host: Host, sandbox: Sandbox
) -> None:
    asks(sandbox, ANN)
    waiting = Waiting(bot, sandbox, ANN)
    late = utcnow() + 31 * DAY
    assert expire(host.app.db, now=late, guard=1, group=True).done == 1
    assert waiting.let_go().json() == {"approved": False}
    assert removals(host) == [ANN, ANN]  # expire's may have been carried out before the approval
    assert user(host.app.db, ANN).at_private_group is False


def test_an_end_that_is_being_written_down_is_waited_for(
    postgresql_url: str, sandbox: Sandbox
) -> None:
    db = Database(postgresql_url)
    telegram = Telegram(sandbox.wire, sandbox.url, TOKEN, group=GROUP)
    member(db, ANN)
    asks(sandbox, ANN)
    answers: list[bool] = []
    asking = threading.Thread(
        target=lambda: answers.append(answer_request(db, telegram, chat_id=ANN, now=NOW))
    )
    with db.begin() as session:
        users.lock(session.connection(), ANN)
        session.execute(update(Subscription).values(expired_at=NOW))
        asking.start()
        while not waits_for_a_lock(db):
            pass
    asking.join()
    assert answers == [False]
    assert [row.chat_id for row in rows(db, Outbox) if row.kind == "remove"] == [ANN]
    assert user(db, ANN).at_private_group is False
    db.close()


def test_a_slow_telegram_holds_only_its_slots(bot: Bot, host: Host, sandbox: Sandbox) -> None:
    assert CHAIN_SLOTS + TELEGRAM_SLOTS < THREADS
    asks(sandbox, ANN)
    waiting = Waiting(bot, sandbox, ANN)
    for _ in range(20):
        not_now(bot.post(JOINS, {"chat_id": ANN}), "Too many")
    assert bot.get("/api/v1/plans/").status_code == 200
    assert len(sandbox.state.requests["telegram"]) == 1
    assert waiting.let_go().json() == {"approved": True}
    assert passed_on(bot, ANN) is True


def test_answers_are_counted(bot: Bot, sandbox: Sandbox) -> None:
    asks(sandbox, ANN, BEN)
    for who in (ANN, BEN, BEN):
        passed_on(bot, who)
    text = bot.get("/metrics").text
    assert 'buffettsbot_join_requests_total{answer="approved"} 1.0' in text
    assert 'buffettsbot_join_requests_total{answer="declined"} 2.0' in text
    assert str(ANN) not in text
