"""POST /api/v1/users/, letter by letter, through a real socket, on both databases."""

from typing import Any

import pytest
from serving import Bot, Sandbox

ANN, BEN = 7_000_000_001, 7_000_000_002


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


def test_names_that_were_never_given_are_null(bot: Bot) -> None:
    bare = {"chat_id": ANN, "telegram_username": "ann"}
    unnamed = bare | {"first_name": None, "last_name": None}
    for status, given in (
        (201, bare),
        (200, bare),
        (200, unnamed),
    ):
        answer = bot.post("/api/v1/users/", given)
        assert (answer.status_code, answer.json()["data"]) == (status, unnamed)
    known = bot.post("/api/v1/users/", bare | {"last_name": "Lee"}).json()["data"]
    assert known == bare | {"first_name": None, "last_name": "Lee"}


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
