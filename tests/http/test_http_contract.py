"""The HTTP API letter by letter, through a real socket, on both databases.

Every answer that a `Bot` gets is held against openapi.json as well; see `serving.py`.
"""

import contextlib
import hmac
import os
import stat
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import bottle
import httpx
import psycopg
import pytest
from helpers import clean_env, ledger
from jsonschema import Draft202012Validator
from pytest_mock import MockerFixture
from serving import (
    Bot,
    Host,
    Sandbox,
    bot_of,
    described,
    hosting,
    launch,
    moment,
    resolved,
    sandboxed,
    serving,
    validator,
)
from sqlalchemy import make_url

from buffettsbot import __version__
from buffettsbot.core.offers import plans
from buffettsbot.http import api as api_module

ZONE = ZoneInfo("Asia/Kolkata")
ANN, BEN = 7_000_000_001, 7_000_000_002
TOKEN = "a token of our own"


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


def here(text: str) -> datetime:
    return moment(text, ZONE)


def is_about(text: str, expected: datetime) -> bool:
    return abs(here(text) - expected) < timedelta(seconds=20)


# POST /api/v1/users/


@pytest.mark.parametrize("path", ["/api/v1/users/", "/api/v1/users"])
def test_a_person_is_registered(bot: Bot, path: str) -> None:
    body = {"chat_id": ANN, "telegram_username": "ann", "first_name": "Ann", "last_name": "Lee"}
    answer = bot.post(path, body)
    assert (answer.status_code, answer.json()) == (201, {"status": 201, "data": body})


def test_the_same_person_again_is_200_with_the_profile_updated(bot: Bot) -> None:
    bot.post("/api/v1/users/", {"chat_id": ANN, "telegram_username": "ann", "last_name": "Lee"})
    body = {"chat_id": ANN, "telegram_username": "Anna", "first_name": "Ännä 🐦"}
    answer = bot.post("/api/v1/users/", body)
    expected = body | {"last_name": "Lee"}
    assert (answer.status_code, answer.json()) == (200, {"status": 200, "data": expected})


def test_names_that_are_not_given_stay_and_empty_ones_are_cleared(bot: Bot) -> None:
    full = {"chat_id": ANN, "telegram_username": "ann", "first_name": "Ann", "last_name": "Lee"}
    bot.post("/api/v1/users/", full)
    given = {"chat_id": ANN, "telegram_username": "ann", "first_name": None, "last_name": ""}
    assert bot.post("/api/v1/users/", given).json()["data"] == full | {"last_name": ""}


def test_a_username_is_bare_and_keeps_its_case(bot: Bot) -> None:
    for written in ("@Ann", '"Ann"', '"@Ann"', " Ann "):
        answer = bot.post("/api/v1/users/", {"chat_id": ANN, "telegram_username": written})
        assert answer.json()["data"]["telegram_username"] == "Ann", written


def test_a_chat_id_may_be_its_digits(bot: Bot) -> None:
    for status in (201, 200):
        answer = bot.post("/api/v1/users/", {"chat_id": str(ANN), "telegram_username": "ann"})
        assert (answer.status_code, answer.json()["data"]["chat_id"]) == (status, ANN)


def test_a_person_may_have_no_username(bot: Bot) -> None:
    for chat_id in (ANN, BEN):
        answer = bot.post("/api/v1/users/", {"chat_id": chat_id, "telegram_username": None})
        assert answer.status_code == 201
        assert answer.json()["data"]["telegram_username"] is None


def test_a_username_moves_to_whom_telegram_gives_it(shop: Bot, sandbox: Sandbox) -> None:
    assert shop.claim(ANN, sandbox.pay()).status_code == 201
    moved = shop.post("/api/v1/users/", {"chat_id": BEN, "telegram_username": "ANN"})
    assert moved.json()["data"]["telegram_username"] == "ANN"
    by_name = shop.get("/api/v1/subscriptions/", telegram_username="ann")
    assert by_name.json() == {"message": "Subscription not found"}
    assert shop.get("/api/v1/subscriptions/", telegram_username="ben").json() == {
        "message": "User not found"
    }
    by_id = shop.get("/api/v1/subscriptions/", chat_id=ANN)
    assert (by_id.status_code, by_id.json()["customer"]) == (200, str(ANN))


REQUIRED = ["This field is required."]


WRONG_FIELDS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"chat_id": REQUIRED, "telegram_username": REQUIRED}),
    ({"chat_id": ANN}, {"telegram_username": REQUIRED}),
    ({"telegram_username": "ann"}, {"chat_id": REQUIRED}),
    (
        {"chat_id": None, "telegram_username": "ann"},
        {"chat_id": ["This field may not be null."]},
    ),
    (
        {"chat_id": "seven", "telegram_username": "ann"},
        {"chat_id": ["A valid integer is required."]},
    ),
    (
        {"chat_id": ANN, "telegram_username": 7},
        {"telegram_username": ["Not a valid string."]},
    ),
]


def test_wrong_fields_are_named(bot: Bot) -> None:
    for body, errors in WRONG_FIELDS:
        answer = bot.post("/api/v1/users/", body)
        assert (answer.status_code, answer.json()) == (400, errors)


def test_a_blank_username_is_refused(bot: Bot) -> None:
    answer = bot.post("/api/v1/users/", {"chat_id": ANN, "telegram_username": " "})
    assert answer.status_code == 400
    assert "This field may not be blank." in answer.json()["telegram_username"]


def test_fields_that_nobody_knows_are_ignored(bot: Bot) -> None:
    body = {"chat_id": ANN, "telegram_username": "ann", "is_staff": True, "x": {"y": [1]}}
    answer = bot.post("/api/v1/users/", body)
    assert answer.status_code == 201
    assert "is_staff" not in answer.json()["data"]


# GET /api/v1/subscriptions/


@pytest.mark.parametrize("path", ["/api/v1/subscriptions/", "/api/v1/subscriptions"])
def test_a_membership_is_shown(shop: Bot, sandbox: Sandbox, path: str) -> None:
    paid = sandbox.pay()
    now = datetime.now(UTC)
    assert shop.claim("ann", paid).status_code == 201
    answer = shop.get(path, telegram_username="ann")
    shown = answer.json()
    assert answer.status_code == 200
    assert list(shown) == [
        "customer",
        "plan",
        "price",
        "transaction_hash",
        "start_date",
        "end_date",
    ]
    assert shown["customer"] == "ann"
    assert (shown["plan"], shown["price"], shown["transaction_hash"]) == ("1 month", 50, paid)
    assert is_about(shown["start_date"], now)
    assert here(shown["end_date"]) - here(shown["start_date"]) == timedelta(days=30)


def test_dates_are_those_of_the_configured_time_zone(database_url: str, sandbox: Sandbox) -> None:
    shown = {}
    for zone in ("UTC", "Asia/Kolkata"):
        env = clean_env(database_url, timezone=zone, **sandbox.settings)
        with hosting(env, sandbox.wire) as host, bot_of(host.url) as bot:
            if zone == "UTC":
                plans.create_plan(host.app.db, period="1 month", price=50)
                bot.register(ANN)
                bot.claim(ANN, sandbox.pay())
            shown[zone] = bot.get("/api/v1/subscriptions/", chat_id=ANN).json()
    for date in ("start_date", "end_date"):
        utc, kolkata = (here(shown[zone][date]) for zone in ("UTC", "Asia/Kolkata"))
        assert kolkata - utc == timedelta(hours=5, minutes=30)


def test_a_name_is_understood_in_every_spelling(shop: Bot, sandbox: Sandbox) -> None:
    for name in ("ann", "@ann", "ANN", '"ann"', '"@Ann"', " ann "):
        assert shop.claim(name, sandbox.pay()).json()["customer"] == ANN, name
        shown = shop.get("/api/v1/subscriptions/", telegram_username=name).json()
        assert shown["customer"] == "ann", name


def test_a_person_is_found_by_chat_id_which_counts_before_the_name(
    shop: Bot, sandbox: Sandbox
) -> None:
    shop.claim(ANN, sandbox.pay())
    assert shop.get("/api/v1/subscriptions/", chat_id=ANN).json()["customer"] == "ann"
    both = shop.get("/api/v1/subscriptions/", chat_id=ANN, telegram_username="ben")
    assert both.json()["customer"] == "ann"


def test_a_person_without_a_username_is_called_by_their_id(shop: Bot, sandbox: Sandbox) -> None:
    shop.register(ANN, None)
    shop.claim(ANN, sandbox.pay())
    assert shop.get("/api/v1/subscriptions/", chat_id=ANN).json()["customer"] == str(ANN)


NOBODY: list[dict[str, object]] = [
    {"telegram_username": "nobody"},
    {"telegram_username": '""'},
    {"telegram_username": "'; DROP TABLE plan; --"},
    {"telegram_username": "a\0b"},
    {"telegram_username": "%"},
    {"chat_id": "1"},
    {"chat_id": "-7"},
    {"chat_id": "9" * 5000},
    {"chat_id": "٧"},
]


def test_a_person_nobody_registered_is_not_found(shop: Bot) -> None:
    for who in NOBODY:
        answer = shop.get("/api/v1/subscriptions/", **who)
        assert (answer.status_code, answer.json()) == (404, {"message": "User not found"}), who


def test_a_person_without_a_membership_is_told_apart(shop: Bot) -> None:
    answer = shop.get("/api/v1/subscriptions/", telegram_username="ann")
    assert (answer.status_code, answer.json()) == (404, {"message": "Subscription not found"})


def test_a_membership_that_has_expired_is_not_found(
    shop: Bot, host: Host, sandbox: Sandbox
) -> None:
    shop.claim(ANN, sandbox.pay())
    host.clock.ahead = timedelta(days=30, seconds=-60)
    assert shop.get("/api/v1/subscriptions/", chat_id=ANN).status_code == 200
    host.clock.ahead = timedelta(days=30, seconds=60)
    answer = shop.get("/api/v1/subscriptions/", chat_id=ANN)
    assert (answer.status_code, answer.json()) == (404, {"message": "Subscription not found"})


def test_somebody_has_to_be_named(bot: Bot) -> None:
    for query in ("", "?telegram_username=", "?chat_id=", "?chat_id=%20", "?x=1"):
        answer = bot.send("GET", f"/api/v1/subscriptions/{query}")
        assert (answer.status_code, answer.json()) == (400, {"telegram_username": REQUIRED})


# POST /api/v1/subscriptions/


@pytest.mark.parametrize("path", ["/api/v1/subscriptions/", "/api/v1/subscriptions"])
def test_a_good_payment_buys(shop: Bot, host: Host, sandbox: Sandbox, path: str) -> None:
    paid, now = sandbox.pay(), datetime.now(UTC)
    body = {"telegram_username": "ann", "plan": "1 month", "transaction_hash": paid}
    answer = shop.post(path, body)
    assert answer.status_code == 201
    bought = answer.json()
    plan = {plan.period: plan.id for plan in plans.list_plans(host.app.db)}["1 month"]
    assert list(bought) == ["customer", "plan", "transaction_hash", "start_date", "end_date"]
    assert (bought["customer"], bought["plan"], bought["transaction_hash"]) == (ANN, plan, paid)
    assert is_about(bought["start_date"], now)
    assert here(bought["end_date"]) - here(bought["start_date"]) == timedelta(days=30)


def spellings(transaction_hash: str) -> list[str]:
    """Every way in which people hand in one hash."""
    return [
        transaction_hash,
        transaction_hash.upper(),
        f"0x{transaction_hash}",
        f"0X{transaction_hash.upper()}",
        f"  {transaction_hash}\n",
        f"https://tronscan.org/#/transaction/{transaction_hash}",
        f"https://tronscan.org/#/transaction/{transaction_hash.upper()}?lang=ru",
        f"http://www.tronscan.io/#/transaction/{transaction_hash}/",
    ]


def test_the_same_claim_again_is_answered_the_same_in_every_spelling(
    shop: Bot, host: Host, sandbox: Sandbox
) -> None:
    paid = sandbox.pay()
    bought = shop.claim(ANN, paid)
    assert shop.claim(ANN, sandbox.pay()).status_code == 201  # a renewal in between
    host.clock.ahead = timedelta(days=3)
    for spelling in spellings(paid):
        for who in (ANN, "@ANN"):
            again = shop.claim(who, spelling)
            assert (again.status_code, again.json()) == (201, bought.json())
    assert len(ledger(host.app.db)) == 2


def test_a_chat_id_may_be_its_digits_in_a_claim_and_counts_before_the_name(
    shop: Bot, sandbox: Sandbox
) -> None:
    body = {
        "chat_id": str(ANN),
        "telegram_username": "ben",
        "plan": "1 month",
        "transaction_hash": sandbox.pay(),
    }
    assert shop.post("/api/v1/subscriptions/", body).json()["customer"] == ANN


def test_a_renewal_adds_to_the_end(shop: Bot, sandbox: Sandbox) -> None:
    first = shop.claim(ANN, sandbox.pay()).json()
    second = shop.claim(ANN, sandbox.pay(amount=500), "1 year").json()
    assert here(second["end_date"]) - here(first["end_date"]) == timedelta(days=365)
    shown = shop.get("/api/v1/subscriptions/", chat_id=ANN).json()
    assert (shown["plan"], shown["price"]) == ("1 year", 500)
    assert shown["transaction_hash"] == second["transaction_hash"]
    assert shown["end_date"] == second["end_date"]


def test_a_period_is_understood_as_people_write_it(shop: Bot, sandbox: Sandbox) -> None:
    for period in ("1 Month", "1month", " 1 months "):
        assert shop.claim(ANN, sandbox.pay(), period).status_code == 201


def is_pending(answer: httpx.Response, reason: str) -> None:
    """Assert a 202 with everything the contract gives it."""
    said = answer.json()
    assert answer.status_code == 202
    assert set(said) == {"status", "success", "message", "reason", "retry_after"}
    assert (said["status"], said["success"], said["reason"]) == (202, False, reason)
    assert said["message"]
    if said["retry_after"] is None:
        assert "retry-after" not in answer.headers
    else:
        assert answer.headers["retry-after"] == str(said["retry_after"])
        assert 1 <= said["retry_after"] <= 60


def test_a_hash_that_is_not_found_is_pending(shop: Bot) -> None:
    is_pending(shop.claim(ANN, "ab" * 32), "not-found")


def test_a_payment_that_is_not_final_is_pending_and_settles(
    shop: Bot, host: Host, sandbox: Sandbox
) -> None:
    paid = sandbox.pay("unconfirmed")
    is_pending(shop.claim(ANN, paid), "unconfirmed")
    assert shop.get("/api/v1/subscriptions/", chat_id=ANN).status_code == 404
    sandbox.confirm(paid)
    host.clock.ahead = timedelta(seconds=40)
    assert shop.claim(ANN, paid).status_code == 201


@pytest.mark.parametrize("fault", ["500", "html", "429-in-band"])
def test_an_outage_is_pending(shop: Bot, host: Host, sandbox: Sandbox, fault: str) -> None:
    paid = sandbox.pay()
    sandbox.fail(fault)
    is_pending(shop.claim(ANN, paid), "source-unavailable")
    assert [p.status for p in ledger(host.app.db, paid)] == ["pending"]


def test_sources_that_disagree_are_pending(database_url: str, sandbox: Sandbox) -> None:
    env = clean_env(database_url, chain_quorum=2, **sandbox.settings)
    with hosting(env, sandbox.wire) as host, bot_of(host.url) as bot:
        plans.create_plan(host.app.db, period="1 month", price=50)
        bot.register(ANN)
        paid = sandbox.pay(lie={"trongrid": {"amount": 5000}})
        is_pending(bot.claim(ANN, paid), "sources-disagree")


def test_tainted_money_is_held_for_review(database_url: str, sandbox: Sandbox) -> None:
    env = clean_env(database_url, hold_risky="true", **sandbox.settings)
    with hosting(env, sandbox.wire) as host, bot_of(host.url) as bot:
        plans.create_plan(host.app.db, period="1 month", price=50)
        bot.register(ANN)
        answer = bot.claim(ANN, sandbox.pay("risky"))
        is_pending(answer, "held-for-review")
        assert answer.json()["retry_after"] is None


def is_refused(answer: httpx.Response, reason: str) -> str:
    """Assert a 400 with everything the contract gives it; return its detail."""
    said = answer.json()
    detail = said.pop("detail")
    message = (
        "Transaction hash already used for subscription."
        if reason == "already-used"
        else "Transaction is not valid"
    )
    expected = {"status": 400, "success": False, "message": message, "reason": reason}
    assert (answer.status_code, said) == (400, expected)
    assert isinstance(detail, str)
    assert detail
    return detail


BAD_PAYMENTS = [
    ("failed", "failed-transaction"),
    ("out-of-energy", "failed-transaction"),
    ("fake-token", "no-usdt-transfer"),
    ("trx", "no-usdt-transfer"),
    ("trc10", "no-usdt-transfer"),
    ("zero-value", "no-usdt-transfer"),
    ("wrong-recipient", "wrong-recipient"),
    ("underpaid", "underpaid"),
    ("old", "too-old"),
]


def test_a_bad_payment_is_refused_with_its_reason(shop: Bot, host: Host, sandbox: Sandbox) -> None:
    for kind, reason in BAD_PAYMENTS:
        paid = sandbox.pay(kind)
        detail = is_refused(shop.claim(ANN, paid), reason)
        if reason == "underpaid":
            assert "49 USDT arrived, the plan costs 50 USDT" in detail
        (entry,) = ledger(host.app.db, paid)
        assert (entry.status, entry.reason) == ("refused", reason)
    assert shop.get("/api/v1/subscriptions/", chat_id=ANN).status_code == 404


def test_a_malformed_hash_is_refused_and_not_written_down(shop: Bot, host: Host) -> None:
    for written in ("x", "0x", "f" * 63, "g" * 64, "f" * 65):
        is_refused(shop.claim(ANN, written), "malformed-hash")
    assert ledger(host.app.db) == []


def test_a_hash_that_never_appears_is_refused_in_the_end(shop: Bot, host: Host) -> None:
    is_pending(shop.claim(ANN, "ab" * 32), "not-found")
    host.clock.ahead = timedelta(hours=23)
    is_pending(shop.claim(ANN, "ab" * 32), "not-found")
    host.clock.ahead = timedelta(hours=25)
    is_refused(shop.claim(ANN, "ab" * 32), "never-found")


def test_a_used_hash_is_already_used_in_every_spelling(
    shop: Bot, host: Host, sandbox: Sandbox
) -> None:
    paid = sandbox.pay(amount=500)
    assert shop.claim(ANN, paid, "1 year").status_code == 201
    for spelling in spellings(paid):
        is_refused(shop.claim(BEN, spelling), "already-used")
        is_refused(shop.claim(ANN, spelling, "1 month"), "already-used")
    host.clock.ahead = timedelta(days=400)  # long after it has expired
    is_refused(shop.claim(BEN, paid), "already-used")
    assert shop.get("/api/v1/subscriptions/", chat_id=BEN).status_code == 404


def test_a_pending_hash_is_already_used_for_anyone_else(
    shop: Bot, host: Host, sandbox: Sandbox
) -> None:
    paid = sandbox.pay("unconfirmed")
    is_pending(shop.claim(ANN, paid), "unconfirmed")
    is_refused(shop.claim(BEN, paid), "already-used")
    is_pending(shop.claim(ANN, paid), "unconfirmed")


def test_claims_name_people_and_plans_that_exist(shop: Bot, host: Host, sandbox: Sandbox) -> None:
    paid = sandbox.pay(amount=5000)
    for who in ("nobody", 1, "a b", "\ud800"):
        answer = shop.claim(who, paid)
        assert (answer.status_code, answer.json()) == (404, {"message": "User not found"})
    plans.retire_plan(host.app.db, period="1 year")
    for period in ("3 months", "1 year", "2 months", "for ever", "\0", "1 month; --"):
        answer = shop.claim(ANN, paid, period)
        assert (answer.status_code, answer.json()) == (404, {"message": "Plan not found"})
    assert ledger(host.app.db) == []
    assert sandbox.asked() == []


def test_a_claim_needs_its_fields(shop: Bot) -> None:
    for missing in ("plan", "transaction_hash"):
        body = {"chat_id": ANN, "plan": "1 month", "transaction_hash": "ab" * 32}
        del body[missing]
        answer = shop.post("/api/v1/subscriptions/", body)
        assert (answer.status_code, answer.json()) == (400, {missing: REQUIRED})


def test_a_claim_needs_a_person(shop: Bot) -> None:
    answer = shop.post("/api/v1/subscriptions/", {"plan": "1 month", "transaction_hash": "x"})
    assert (answer.status_code, answer.json()) == (400, {"telegram_username": REQUIRED})


def test_a_claim_beyond_the_slots_is_written_down_and_pending(
    env: dict[str, str], sandbox: Sandbox
) -> None:
    with hosting(env, sandbox.wire, chain_slots=1) as host, bot_of(host.url) as bot:
        plans.create_plan(host.app.db, period="1 month", price=50)
        bot.register(ANN)
        first, second = sandbox.pay(), sandbox.pay()
        sandbox.fail("timeout", "tronscan", seconds=60, hash=first)
        with contextlib.ExitStack() as stack:
            answers: list[httpx.Response] = []
            waiting = threading.Thread(target=lambda: answers.append(bot.claim(ANN, first)))
            waiting.start()
            stack.callback(waiting.join)
            stack.callback(sandbox.state.release)
            while first not in sandbox.asked():
                pass
            is_pending(bot.claim(ANN, second), "source-unavailable")
            assert second not in sandbox.asked()
        assert answers[0].status_code == 201
        assert bot.claim(ANN, second).status_code == 201


# GET /api/v1/plans/, the description, health, metrics


@pytest.mark.parametrize("path", ["/api/v1/plans/", "/api/v1/plans"])
def test_plans_on_sale_are_listed_the_shortest_first(bot: Bot, host: Host, path: str) -> None:
    assert bot.get(path).json() == []
    ids = {}
    for period, price in (("1 year", 500), ("3 months", 140), ("1 month", 50)):
        ids[period] = plans.create_plan(host.app.db, period=period, price=price).id
    plans.retire_plan(host.app.db, period="3 months")
    answer = bot.get(path)
    assert (answer.status_code, answer.json()) == (
        200,
        [
            {"id": ids["1 month"], "period": "1 month", "price": 50},
            {"id": ids["1 year"], "period": "1 year", "price": 500},
        ],
    )


def test_the_description_is_served_with_the_real_version(bot: Bot) -> None:
    expected = described()
    expected["info"]["version"] = __version__
    for path in ("/api/v1/openapi.json", "/api/v1/openapi.json/"):
        assert bot.get(path).json() == expected


def test_health_is_ok_while_the_database_answers(bot: Bot) -> None:
    for path in ("/healthz", "/healthz/"):
        answer, ok = bot.get(path), {"status": "ok", "version": __version__}
        assert (answer.status_code, answer.json()) == (200, ok)


@contextlib.contextmanager
def database_away(database_url: str, host: Host, server: str) -> Iterator[None]:
    """Take the database away from a running service: no connection, or no data in the file."""
    url = make_url(database_url)
    if url.get_backend_name() == "sqlite":
        host.app.db.close()
        path = Path(str(url.database))
        for name in (f"{path}-wal", f"{path}-shm"):
            Path(name).unlink(missing_ok=True)
        kept = path.read_bytes()
        path.write_bytes(b"this is no database " * 1000)
        yield
        path.write_bytes(kept)
        return
    plain = make_url(server).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain, autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {url.database} ALLOW_CONNECTIONS false".encode())
        sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
        admin.execute(sql, (url.database,))
        yield
        admin.execute(f"ALTER DATABASE {url.database} ALLOW_CONNECTIONS true".encode())


def test_everything_says_503_while_the_database_is_away_and_recovers(
    shop: Bot, host: Host, sandbox: Sandbox, database_url: str, request: pytest.FixtureRequest
) -> None:
    paid = sandbox.pay()
    shop.get("/api/v1/plans/")
    sqlite = database_url.startswith("sqlite")
    server = "" if sqlite else request.getfixturevalue("postgres_url")
    with database_away(database_url, host, server):
        answer = shop.get("/healthz")
        expected = {"status": "unavailable", "version": __version__}
        assert (answer.status_code, answer.json()) == (503, expected)
        for answer in (
            shop.get("/api/v1/plans/"),
            shop.get("/api/v1/subscriptions/", chat_id=ANN),
            shop.post("/api/v1/users/", {"chat_id": 1, "telegram_username": "x"}),
            shop.claim(ANN, paid),
        ):
            assert answer.status_code == 503
            assert answer.headers["retry-after"] == "5"
            assert "database" in answer.json()["message"]
        metrics = shop.get("/metrics")
        assert metrics.status_code == 200
        assert "buffettsbot_payments_open" not in metrics.text
    assert shop.get("/healthz").status_code == 200
    assert shop.claim(ANN, paid).status_code == 201


def test_metrics_are_prometheus_text(bot: Bot) -> None:
    for path in ("/metrics", "/metrics/"):
        answer = bot.get(path)
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert "# TYPE buffettsbot_claims_total counter" in answer.text


# The token

ROUTES = [
    ("POST", "/api/v1/users/"),
    ("GET", "/api/v1/subscriptions/"),
    ("POST", "/api/v1/subscriptions/"),
    ("GET", "/api/v1/plans/"),
    ("POST", "/api/v1/join-requests/"),
    ("GET", "/api/v1/openapi.json"),
    ("GET", "/metrics"),
]


@pytest.fixture
def guarded(database_url: str, sandbox: Sandbox) -> Iterator[str]:
    with hosting(clean_env(database_url, api_token=TOKEN), sandbox.wire) as host:
        yield host.url


WRONG_AUTHORIZATIONS: list[str | bytes | None] = [
    None,
    "",
    "Bearer",
    "Bearer wrong",
    f"Bearer {TOKEN}x",
    f"Bearer {TOKEN[:-1]}",
    f"Bearer {TOKEN.upper()}",
    f"Basic {TOKEN}",
    TOKEN,
    f"Bearer Bearer {TOKEN}",
    f"Bearer {TOKEN}, Bearer {TOKEN}",
    b"Bearer \xff\xfe",
]


def test_without_the_right_token_everything_but_health_is_401(guarded: str) -> None:
    with bot_of(guarded) as bot:
        for wrong in WRONG_AUTHORIZATIONS:
            headers = {} if wrong is None else {"Authorization": wrong}
            for method, path in [*ROUTES, ("GET", "/nowhere"), ("DELETE", "/api/v1/plans/")]:
                for spelling in {path, path.rstrip("/")}:
                    answer = bot.send(method, spelling, headers=headers)
                    assert answer.status_code == 401, (method, spelling, wrong)
                    assert answer.headers["www-authenticate"] == "Bearer"
                    assert TOKEN not in answer.text
            assert bot.send("GET", "/healthz", headers=headers).status_code == 200


def test_with_the_right_token_everything_answers(guarded: str) -> None:
    with bot_of(guarded) as bot:
        for scheme in ("Bearer", "bearer", "BEARER"):
            for method, path in ROUTES:
                answer = bot.send(method, path, headers={"Authorization": f"{scheme} {TOKEN}"})
                assert answer.status_code in (200, 400, 415), (method, path)


def test_a_token_may_be_of_any_letters(sqlite_url: str) -> None:
    with hosting(clean_env(sqlite_url, api_token="ключ-é")) as host, bot_of(host.url) as bot:
        for given, status in (("ключ-é", 200), ("ключ-e", 401), ("????-é", 401)):
            headers = {"Authorization": f"Bearer {given}".encode()}
            assert bot.send("GET", "/api/v1/plans/", headers=headers).status_code == status


def test_the_token_is_compared_in_constant_time(guarded: str, mocker: MockerFixture) -> None:
    compared = mocker.spy(hmac, "compare_digest")
    with bot_of(guarded, "wrong") as bot:
        assert bot.get("/api/v1/plans/").status_code == 401
    compared.assert_called_once_with(b"wrong", TOKEN.encode())


# Where it listens: real processes


def test_a_real_process_serves_and_stops(env: dict[str, str]) -> None:
    with serving(env | {"BUFFETTSBOT_API_TOKEN": TOKEN}) as service:
        with bot_of(service.url, TOKEN) as bot:
            bot.register(ANN, "ann")
            assert bot.get("/api/v1/plans/").json() == []
        with bot_of(service.url) as stranger:
            assert stranger.get("/api/v1/plans/").status_code == 401
        assert service.stop() == 0
    assert not any("No BUFFETTSBOT_API_TOKEN" in line for line in service.said)


@pytest.mark.parametrize("bind", ["0.0.0.0:0", "[::]:0", "192.0.2.1:8000", "example.org:8000"])
def test_without_a_token_it_serves_only_this_host(sqlite_url: str, bind: str) -> None:
    service = launch(clean_env(sqlite_url), bind=bind)
    assert service.ended() == 4
    assert len(service.said) == 1
    assert service.said[0].startswith("error: Without BUFFETTSBOT_API_TOKEN")


def test_the_place_may_come_from_the_settings_and_is_judged_alike(sqlite_url: str) -> None:
    service = launch(clean_env(sqlite_url, bind="0.0.0.0:8000"), bind=None)
    assert service.ended() == 4
    assert "not on 0.0.0.0:8000" in service.text


def test_with_a_token_it_serves_the_world(sqlite_url: str) -> None:
    with serving(clean_env(sqlite_url, api_token=TOKEN), bind="0.0.0.0:0") as service:
        url = service.url.replace("0.0.0.0", "127.0.0.1")
        with bot_of(url, TOKEN) as bot:
            assert bot.get("/api/v1/plans/").status_code == 200


def test_without_a_token_it_says_so(sqlite_url: str) -> None:
    with serving(clean_env(sqlite_url, bind="127.0.0.1:0"), bind=None) as service:
        assert service.said[0] == (
            "No BUFFETTSBOT_API_TOKEN is set: everyone on this host may use the API."
        )


def test_it_serves_on_a_unix_socket(sqlite_url: str, tmp_path: Path) -> None:
    place = tmp_path / "http.sock"
    with serving(clean_env(sqlite_url), bind=f"unix:{place}") as service:
        assert service.url == f"unix:{place}"
        assert stat.S_IMODE(place.stat().st_mode) == 0o660
        with bot_of(service.url) as bot:
            bot.register(ANN, "ann")
            assert bot.get("/api/v1/subscriptions/", chat_id=ANN).status_code == 404
        second = launch(clean_env(sqlite_url), bind=f"unix:{place}")
        assert second.ended() == 5
        assert second.said == [
            f"error: unix:{place} is taken by another program. Stop that one, or choose another "
            "place with --bind or BUFFETTSBOT_BIND."
        ]
        with bot_of(service.url) as bot:
            assert bot.get("/healthz").status_code == 200
        service.kill()
    assert place.exists()
    with serving(clean_env(sqlite_url), bind=f"unix:{place}") as heir, bot_of(heir.url) as bot:
        assert bot.get("/healthz").status_code == 200


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="no IPv6 here")
def test_its_ipv6_address_is_a_url(sqlite_url: str) -> None:
    with serving(clean_env(sqlite_url), bind="[::1]:0") as service:
        assert service.url.startswith("http://[::1]:")
        with bot_of(service.url) as bot:
            assert bot.get("/healthz").status_code == 200


def test_a_missing_wallet_is_named_at_the_start(sqlite_url: str) -> None:
    service = launch(clean_env(sqlite_url, wallet=None))
    assert service.ended() == 4
    assert "BUFFETTSBOT_WALLET is not set" in service.text


# The description itself


def test_the_routes_served_are_the_routes_described(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []

    class Kept(bottle.Bottle):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

    monkeypatch.setattr(api_module, "Bottle", Kept)
    with hosting(clean_env(sqlite_url)):
        served = {(route.method, route.rule) for route in made[0].routes}
    wanted = {
        (method.upper(), path.rstrip("/") + slash)
        for path, operations in described()["paths"].items()
        for method in operations
        for slash in ("", "/")
    }
    assert served == wanted


def test_every_described_route_is_in_the_test_of_tokens() -> None:
    listed = {
        (method.upper(), path)
        for path, operations in described()["paths"].items()
        for method in operations
    }
    assert listed == {*ROUTES, ("GET", "/healthz")}


def _nodes(node: Any, *at: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield at, node
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _nodes(value, *at, key)
    elif isinstance(node, list):
        for value in node:
            yield from _nodes(value, *at)


def test_the_description_is_sound() -> None:
    document = described()
    assert document["openapi"].startswith("3.1.")
    for at, node in _nodes(document):
        if isinstance(node, dict) and "$ref" in node:
            assert resolved(node), at
        if at and at[-1] == "schema":
            Draft202012Validator.check_schema(node)
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    operations = [o for path in document["paths"].values() for o in path.values()]
    ids = [operation["operationId"] for operation in operations]
    assert len(set(ids)) == len(ids)
    tags = {tag["name"] for tag in document["tags"]}
    for operation in operations:
        assert set(operation["tags"]) <= tags
        assert operation["summary"]
        for response in operation["responses"].values():
            assert resolved(response)["description"]
        open_to_all = operation["operationId"] == "health"
        assert ("401" in operation["responses"]) is not open_to_all
        assert (operation.get("security") == []) is open_to_all


def test_every_example_of_the_description_is_true_to_its_schema() -> None:
    checked = 0
    for at, node in _nodes(described()):
        if isinstance(node, dict) and "schema" in node and "examples" in node:
            for example in node["examples"].values():
                validator(*at, "schema").validate(example["value"])
                checked += 1
    assert checked >= 15


def test_every_schema_is_used() -> None:
    used = {
        node["$ref"] for _, node in _nodes(described()) if isinstance(node, dict) and "$ref" in node
    }
    kept = {"#/components/schemas/Refusal"}  # what the text names
    for kind in ("schemas", "responses"):
        for name in described()["components"][kind]:
            assert f"#/components/{kind}/{name}" in used | kept


def test_the_reasons_described_are_those_there_are() -> None:
    from buffettsbot.core.chain.judge import PENDING_REASONS, Reason

    schemas = described()["components"]["schemas"]
    pending = set(schemas["PendingReason"]["enum"])
    refused = set(schemas["RefusedReason"]["enum"])
    assert pending == {str(reason) for reason in PENDING_REASONS}
    assert pending | refused | {"accepted"} == {str(reason) for reason in Reason}
    for reason in refused | pending:
        text = schemas["PendingReason"]["description"] + schemas["RefusedReason"]["description"]
        assert f"`{reason}`" in text


def test_no_secret_is_in_the_environment_of_these_tests() -> None:
    assert not [name for name in clean_env("sqlite://") if "KEY" in name or "TOKEN" in name]
    assert os.environ.get("BUFFETTSBOT_API_TOKEN") is None
