"""A service on a real socket, its database, its sandbox, and a bot that asks it."""

from collections.abc import Iterator

import pytest
from helpers import clean_env
from serving import Bot, Host, Sandbox, bot_of, hosting, sandboxed

from buffettsbot.core.offers import plans

ANN, BEN = 7_000_000_001, 7_000_000_002


@pytest.fixture(scope="module")
def shared_sandbox() -> Iterator[Sandbox]:
    with sandboxed() as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(shared_sandbox: Sandbox) -> Sandbox:
    shared_sandbox.reset()
    return shared_sandbox


@pytest.fixture
def env(database_url: str, sandbox: Sandbox) -> dict[str, str]:
    return clean_env(database_url, timezone="Asia/Kolkata", **sandbox.settings)


@pytest.fixture
def host(env: dict[str, str], sandbox: Sandbox) -> Iterator[Host]:
    with hosting(env, sandbox.wire) as host:
        yield host


@pytest.fixture
def bot(host: Host) -> Iterator[Bot]:
    with bot_of(host.url) as bot:
        yield bot


@pytest.fixture
def shop(host: Host, bot: Bot) -> Bot:
    """A shop with two plans, where Ann and Ben are known."""
    plans.create_plan(host.app.db, period="1 year", price=500)
    plans.create_plan(host.app.db, period="1 month", price=50)
    bot.register(ANN, "ann")
    bot.register(BEN, "ben")
    return bot
