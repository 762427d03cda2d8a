"""Sixteen clients, two real processes, one hash: it buys once, whoever asks and whatever they ask.

Each race is run several times over: the clients start together, but threads are never quite equal.
"""

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

import httpx
import pytest
from helpers import clean_env, in_parallel, ledger, membership, person, queued, shop
from serving import Bot, Clock, Sandbox, app_of, bot_of, moment, sandboxed, serving

from buffettsbot.core.app import App

CLIENTS = 16
RACES = 6


@pytest.fixture(scope="module")
def shared_sandbox() -> Iterator[Sandbox]:
    with sandboxed() as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(shared_sandbox: Sandbox) -> Sandbox:
    shared_sandbox.reset()
    return shared_sandbox


@pytest.fixture
def app(database_url: str, sandbox: Sandbox) -> Iterator[App]:
    """The database of both processes, seen from here: sixteen people, and a month on sale."""
    app = app_of(clean_env(database_url, **sandbox.settings), Clock())
    shop(app.db)
    for chat_id in range(1, CLIENTS + 1):
        person(app.db, chat_id, f"u{chat_id}")
    yield app
    app.db.close()


@pytest.fixture
def bots(app: App, database_url: str, sandbox: Sandbox) -> Iterator[list[Bot]]:
    """Two processes on one database, the clients spread over them."""
    env = clean_env(database_url, **sandbox.settings)
    with (
        serving(env, "--quiet") as one,
        serving(env, "--quiet") as two,
        bot_of(one.url) as first,
        bot_of(two.url) as second,
    ):
        yield [first, second] * (CLIENTS // 2)


def race(bots: list[Bot], *claims: tuple[int, str]) -> list[httpx.Response]:
    """Let every client make its claim at once."""
    answers = in_parallel(len(claims), lambda n: bots[n].claim(*claims[n]))
    for answer in answers:
        assert isinstance(answer, httpx.Response), answer
    return answers


def test_one_hash_makes_one_of_sixteen_people_a_member(
    bots: list[Bot], app: App, sandbox: Sandbox
) -> None:
    for number in range(RACES):
        sandbox.delay(0.1 * (number % 2))
        paid = sandbox.pay()
        answers = race(bots, *((n + 1, paid) for n in range(CLIENTS)))
        told = Counter((a.status_code, a.json().get("reason")) for a in answers)
        assert told == {(201, None): 1, (400, "already-used"): CLIENTS - 1}
        winner = next(a.json()["customer"] for a in answers if a.status_code == 201)
        bought = [p for p in ledger(app.db, paid) if p.status == "accepted"]
        assert [p.customer_id for p in bought] == [winner]
        assert {p.status for p in ledger(app.db, paid)} == {"accepted", "refused"}
    accepted = Counter(p.customer_id for p in ledger(app.db) if p.status == "accepted")
    assert sum(accepted.values()) == RACES
    for chat_id, times in accepted.items():
        own = [p for p in ledger(app.db) if (p.customer_id, p.status) == (chat_id, "accepted")]
        first = min(p.decided_at for p in own if p.decided_at)
        assert membership(app.db, chat_id).end_date == first + times * timedelta(days=30)


def test_one_person_who_asks_sixteen_times_pays_once(
    bots: list[Bot], app: App, sandbox: Sandbox
) -> None:
    for number in range(RACES):
        sandbox.delay(0.1 * (number % 2))
        paid, chat_id = sandbox.pay(), number + 1
        answers = race(bots, *((chat_id, paid) for _ in range(CLIENTS)))
        assert {a.status_code for a in answers} <= {201, 202}
        bodies = [a.json() for a in answers if a.status_code == 201]
        assert bodies
        assert all(body == bodies[0] for body in bodies)
        (bought,) = ledger(app.db, paid)
        assert (bought.status, bought.customer_id) == ("accepted", chat_id)
        assert bought.decided_at
        assert membership(app.db, chat_id).end_date == bought.decided_at + timedelta(days=30)
        assert queued(app.db, chat_id).count("welcome") == 1
        assert "renewal" not in queued(app.db, chat_id)


def test_sixteen_payments_of_one_person_at_once_add_up(
    bots: list[Bot], app: App, sandbox: Sandbox
) -> None:
    paid = [sandbox.pay() for _ in range(CLIENTS)]
    answers = race(bots, *((1, each) for each in paid))
    assert {a.status_code for a in answers} == {201}
    ends = sorted(moment(a.json()["end_date"]) for a in answers)
    steps = {later - earlier for earlier, later in zip(ends, ends[1:], strict=False)}
    assert steps == {timedelta(days=30)}
    bought = sorted(ledger(app.db), key=lambda p: str(p.period_end))
    assert bought[-1].period_end == membership(app.db, 1).end_date
    kinds = Counter(queued(app.db, 1))
    assert kinds == {"welcome": 1, "renewal": CLIENTS - 1}


def test_a_name_that_sixteen_people_take_at_once_is_one_persons(bots: list[Bot], app: App) -> None:
    for number in range(RACES):
        name = f"prize{number}"

        def take(n: int, name: str = name) -> int:
            spelling = name.upper() if n % 2 else name
            body = {"chat_id": n + 1, "telegram_username": spelling}
            return bots[n].post("/api/v1/users/", body).status_code

        # 409 would be an honest answer, but nobody is known to have got one
        assert set(in_parallel(CLIENTS, take)) <= {200, 409}
        holders = [
            chat_id
            for chat_id in range(1, CLIENTS + 1)
            if bots[0].get("/api/v1/subscriptions/", chat_id=chat_id).json()["message"]
            == "Subscription not found"
        ]
        assert len(holders) == CLIENTS
        found = bots[1].get("/api/v1/subscriptions/", telegram_username=name)
        assert found.json() == {"message": "Subscription not found"}
