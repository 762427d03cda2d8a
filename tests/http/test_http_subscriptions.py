"""GET /api/v1/subscriptions/, letter by letter, through a real socket, on both databases."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from helpers import clean_env
from serving import Bot, Host, Sandbox, bot_of, hosting, moment

from buffettsbot.core.offers import plans

ZONE = ZoneInfo("Asia/Kolkata")
ANN = 7_000_000_001
REQUIRED = ["This field is required."]


def here(text: str) -> datetime:
    return moment(text, ZONE)


def is_about(text: str, expected: datetime) -> bool:
    return abs(here(text) - expected) < timedelta(seconds=20)


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
