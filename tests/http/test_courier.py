"""serve's courier: a claim's messages leave at once; Telegram's trouble reaches no customer.

Real processes, a real socket to the sandbox's Telegram, no `pass deliver` unless a test says so.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from commands import Commands
from helpers import clean_env, in_parallel, person, rows, shop, staff
from serving import PATIENCE, Bot, Clock, Sandbox, app_of, bot_of, sandboxed, serving
from sqlalchemy import update

from buffettsbot.core.app import App, open_telegram, style_of
from buffettsbot.core.storage.models import OUTBOX, Outbox
from buffettsbot.core.telegram.delivery import deliver

TOKEN = "123456:secret-of-the-bot"
ADMIN = 100
ANN, BEN, CID = 1, 2, 3
CUSTOMERS = range(1, 9)


@pytest.fixture(scope="module")
def shared_sandbox() -> Iterator[Sandbox]:
    with sandboxed() as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(shared_sandbox: Sandbox) -> Iterator[Sandbox]:
    shared_sandbox.reset()
    shared_sandbox.state.telegram.token = TOKEN
    yield shared_sandbox
    shared_sandbox.reset()


@pytest.fixture
def env(database_url: str, sandbox: Sandbox) -> dict[str, str]:
    return clean_env(database_url, **sandbox.settings | {"telegram_token": TOKEN})


@pytest.fixture
def app(env: dict[str, str]) -> Iterator[App]:
    """The database of the service, seen from here: customers, and a month on sale."""
    app = app_of(env, Clock())
    shop(app.db)
    for chat_id in CUSTOMERS:
        person(app.db, chat_id, f"u{chat_id}")
    yield app
    app.db.close()


def until(true: Callable[[], object], what: object) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def told(sandbox: Sandbox) -> Counter[int]:
    """Return how many messages each chat has received."""
    with sandbox.state.lock:
        return Counter(each["chat_id"] for each in sandbox.state.telegram.sent if each["ok"])


def row_of(app: App, chat_id: int) -> Outbox:
    (found,) = [row for row in rows(app.db, Outbox) if row.chat_id == chat_id]
    assert isinstance(found, Outbox)
    return found


def test_messages_leave_at_once_and_wait_while_telegram_is_down(
    env: dict[str, str], app: App, sandbox: Sandbox, database_url: str
) -> None:
    staff(app.db, ADMIN)
    with serving(env, "--quiet") as service, bot_of(service.url) as bot:
        assert bot.claim(ANN, sandbox.pay()).status_code == 201
        until(lambda: told(sandbox) == {ANN: 1, ADMIN: 1}, service.said)

        sandbox.fail("500", "telegram")
        assert bot.claim(BEN, sandbox.pay()).status_code == 201
        until(lambda: row_of(app, BEN).attempts == 1 and row_of(app, BEN).error, service.said)
        assert told(sandbox)[BEN] == 0

        sandbox.reset_faults()
        assert bot.claim(CID, sandbox.pay()).status_code == 201
        until(lambda: told(sandbox)[CID] == 1, service.said)
    assert told(sandbox)[BEN] == 0
    with app.db.begin() as session:  # some minutes later
        session.execute(update(OUTBOX).values(not_before=OUTBOX.c.created_at))
    run = Commands(database_url, **sandbox.settings, telegram_token=TOKEN)
    assert run("pass", "deliver").code == 0
    assert told(sandbox) == {ANN: 1, BEN: 1, CID: 1, ADMIN: 3}


def test_two_services_on_one_database_send_nothing_twice(
    env: dict[str, str], app: App, sandbox: Sandbox
) -> None:
    sandbox.state.latency["telegram"] = 0.1  # so that they meet
    paid = [sandbox.pay() for _ in CUSTOMERS]
    with serving(env, "--quiet") as one, serving(env, "--quiet") as other:
        bots = [Bot(one.url), Bot(other.url)]

        def claim(number: int) -> int:
            return bots[number % 2].claim(CUSTOMERS[number], paid[number]).status_code

        assert in_parallel(len(CUSTOMERS), claim) == [201] * len(CUSTOMERS)
        for bot in bots:
            bot.close()
        # Who comes while another delivers leaves it to that one, or to the timer, which this is.
        telegram, style = open_telegram(app.settings), style_of(app.settings)
        until(
            lambda: (
                deliver(app.db, telegram, style, clock=app.now)
                and all(row.status == "sent" for row in rows(app.db, Outbox))
            ),
            [row for row in rows(app.db, Outbox) if row.status != "sent"],
        )
        telegram._wire.close()
    assert told(sandbox) == dict.fromkeys(CUSTOMERS, 1)


def test_a_wrong_token_stops_no_claim_and_once_it_is_right_all_is_sent(
    env: dict[str, str], app: App, sandbox: Sandbox
) -> None:
    staff(app.db, ADMIN)
    sandbox.state.telegram.token = "123456:another"
    with serving(env, "--quiet") as service, bot_of(service.url) as bot:
        for customer in (ANN, BEN):
            assert bot.claim(customer, sandbox.pay()).status_code == 201
            until(lambda: "not delivered now: Telegram refuses" in service.text, service.said)
        sandbox.state.telegram.token = TOKEN
        assert bot.claim(CID, sandbox.pay()).status_code == 201
        until(lambda: told(sandbox) == {ANN: 1, BEN: 1, CID: 1, ADMIN: 3}, service.said)
    assert "Traceback" not in service.text
    assert TOKEN not in service.text


def test_sigterm_while_telegram_hangs_ends_the_service_and_loses_nothing(
    sqlite_url: str, sandbox: Sandbox
) -> None:
    env = clean_env(sqlite_url, **sandbox.settings | {"telegram_token": TOKEN})
    app = app_of(env, Clock(timedelta(minutes=3)))
    shop(app.db)
    person(app.db, ANN, "ann")
    sandbox.fail("timeout", "telegram", performed=False)
    with serving(env, "--quiet") as service, bot_of(service.url) as bot:
        assert bot.claim(ANN, sandbox.pay()).status_code == 201
        assert row_of(app, ANN).error is None  # nobody waited for Telegram
        until(lambda: sandbox.state.requests["telegram"], service.said)
        assert service.stop() == 0
        assert "Traceback" not in service.text
    assert told(sandbox) == {}
    sandbox.reset_faults()
    telegram = open_telegram(app.settings)
    deliver(app.db, telegram, style_of(app.settings), clock=app.now)
    telegram._wire.close()
    app.db.close()
    assert told(sandbox) == {ANN: 1}
