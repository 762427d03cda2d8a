"""What is wrong with a body, byte by byte: every field at once, each by its own sentences."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from helpers import clean_env, person, shop
from serving import Bot, bot_of, hosting

ANN = 7_000_000_001
USERS, CLAIMS, JOINS = "/api/v1/users/", "/api/v1/subscriptions/", "/api/v1/join-requests/"
GOOD = "ab" * 32

REQUIRED = "This field is required."
NULL = "This field may not be null."
BLANK = "This field may not be blank."
NO_STRING = "Not a valid string."
NO_INTEGER = "A valid integer is required."
TOO_LARGE = "This number is too large."
NO_CHAT_ID = "A chat id is a whole number above 0, as Telegram gives it."
NO_USERNAME = (
    "A Telegram username has up to 32 letters, digits and underscores, and begins with a letter."
)
NO_NAME = "A name has at most 64 characters."

BUYS = {"plan": "1 month", "transaction_hash": GOOD}

WRONG: list[tuple[str, dict[str, Any], dict[str, list[str]]]] = [
    (USERS, {}, {"chat_id": [REQUIRED], "telegram_username": [REQUIRED]}),
    (USERS, {"chat_id": None, "telegram_username": "ann"}, {"chat_id": [NULL]}),
    (USERS, {"chat_id": ANN, "telegram_username": ""}, {"telegram_username": [BLANK, NO_USERNAME]}),
    (USERS, {"chat_id": 0, "telegram_username": "ann"}, {"chat_id": [NO_CHAT_ID]}),
    (USERS, {"chat_id": "9" * 18, "telegram_username": "ann"}, {"chat_id": [NO_CHAT_ID]}),
    (USERS, {"chat_id": "9" * 19, "telegram_username": "ann"}, {"chat_id": [TOO_LARGE]}),
    (USERS, {"chat_id": 10**18, "telegram_username": "ann"}, {"chat_id": [TOO_LARGE]}),
    (USERS, {"chat_id": -1, "telegram_username": "ann"}, {"chat_id": [NO_INTEGER]}),
    (USERS, {"chat_id": True, "telegram_username": "ann"}, {"chat_id": [NO_INTEGER]}),
    (
        USERS,
        {"chat_id": " 7", "telegram_username": '"a b"', "first_name": "a" * 65, "last_name": 7},
        {
            "chat_id": [NO_INTEGER],
            "last_name": [NO_STRING],
            "telegram_username": [NO_USERNAME],
            "first_name": [NO_NAME],
        },
    ),
    (JOINS, {}, {"chat_id": [REQUIRED]}),
    (JOINS, {"chat_id": None}, {"chat_id": [NULL]}),
    (JOINS, {"chat_id": 2**52}, {"chat_id": [NO_CHAT_ID]}),
    (JOINS, {"chat_id": "9" * 60_000}, {"chat_id": [TOO_LARGE]}),
    (
        CLAIMS,
        {"transaction_hash": None, "plan": " "},
        {"telegram_username": [REQUIRED], "plan": [BLANK], "transaction_hash": [NULL]},
    ),
    (CLAIMS, BUYS | {"chat_id": None}, {"telegram_username": [REQUIRED]}),
    (CLAIMS, BUYS | {"telegram_username": None}, {"telegram_username": [NULL]}),
    (CLAIMS, BUYS | {"telegram_username": "\u2003"}, {"telegram_username": [BLANK]}),
    (CLAIMS, BUYS | {"telegram_username": 7}, {"telegram_username": [NO_STRING]}),
    (CLAIMS, BUYS | {"chat_id": ANN, "telegram_username": 7}, {"telegram_username": [NO_STRING]}),
    (
        CLAIMS,
        BUYS | {"chat_id": "seven"},
        {"chat_id": [NO_INTEGER], "telegram_username": [REQUIRED]},
    ),
    (CLAIMS, BUYS | {"chat_id": -7, "telegram_username": "ann"}, {"chat_id": [NO_INTEGER]}),
]

# What is no field's fault: the claim is made, for the person that is named.
UNDERSTOOD: list[dict[str, Any]] = [
    {"chat_id": ANN, "telegram_username": None},
    {"chat_id": ANN, "telegram_username": " "},
    {"chat_id": ANN, "telegram_username": "not a name"},
    {"chat_id": f"00{ANN}"},
    {"chat_id": None, "telegram_username": "ann"},
]


@pytest.fixture
def bot(sqlite_url: str) -> Iterator[Bot]:
    """A client of a service that knows Ann and sells a month; its chain services are away."""
    nowhere = "http://127.0.0.1:9"
    with hosting(clean_env(sqlite_url, tronscan_url=nowhere, trongrid_url=nowhere)) as host:
        shop(host.app.db)
        person(host.app.db, ANN, "ann")
        with bot_of(host.url) as bot:
            yield bot


def test_everything_wrong_is_named_at_once_first_the_types_then_the_values(bot: Bot) -> None:
    for path, body, errors in WRONG:
        answer = bot.post(path, body)
        assert (answer.status_code, answer.text) == (400, json.dumps(errors)), body


def test_a_person_is_understood_by_either_field(bot: Bot) -> None:
    for who in UNDERSTOOD:
        answer = bot.post(CLAIMS, BUYS | who)
        assert (answer.status_code, answer.json()["reason"]) == (202, "source-unavailable"), who


def test_a_chat_id_of_a_claim_that_nobody_can_have_is_an_unknown_person(bot: Bot) -> None:
    for nobody in (0, "0", 2**52, "9" * 18):
        answer = bot.post(CLAIMS, BUYS | {"chat_id": nobody})
        assert (answer.status_code, answer.text) == (404, '{"message": "User not found"}')


def test_a_refusal_of_the_body_says_what_to_send(bot: Bot) -> None:
    json_type = {"Content-Type": "application/json"}
    for body, headers, status, message in (
        (b"{", json_type, 400, "The body is not valid JSON."),
        (b'{"x": 7, "x": 8}', json_type, 400, "A field stands twice in the JSON object."),
        (b"[]", json_type, 400, "The body must be a JSON object."),
        (b"x=7", {}, 415, "Send JSON, with the header Content-Type: application/json."),
        (b"[" + b" " * 64 * 1024 + b"]", json_type, 413, "The body is larger than 64 KiB."),
    ):
        answer = bot.send("POST", USERS, content=body, headers=headers)
        refusal = {"status": status, "success": False, "message": message}
        assert (answer.status_code, answer.text) == (status, json.dumps(refusal))


def test_an_answer_is_utf_8_as_it_stands(bot: Bot) -> None:
    name = "Ännä 🐦"
    answer = bot.post(USERS, {"chat_id": ANN, "telegram_username": "ann", "first_name": name})
    data = {"chat_id": ANN, "telegram_username": "ann", "first_name": name, "last_name": None}
    assert answer.text == json.dumps({"status": 200, "data": data}, ensure_ascii=False)
