"""Bodies that are forms, url-encoded and multipart, as the original's framework took them."""

from typing import Any

import pytest
from serving import Bot, Sandbox

CEM = 7_000_000_003
USERS, CLAIMS, JOINS = "/api/v1/users/", "/api/v1/subscriptions/", "/api/v1/join-requests/"
URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=frontier"


def form(kind: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Return what makes httpx send these fields as a form."""
    if kind == "urlencoded":
        return {"data": fields}
    return {"files": {name: (None, str(value)) for name, value in fields.items()}}


@pytest.mark.parametrize("kind", ["urlencoded", "multipart"])
def test_a_form_is_understood_as_the_same_json(shop: Bot, sandbox: Sandbox, kind: str) -> None:
    person = {"chat_id": CEM, "telegram_username": "@cem", "first_name": "Джем & Ännä=🐦"}
    answer = shop.send("POST", USERS, **form(kind, person))
    data = person | {"telegram_username": "cem", "last_name": None}
    assert (answer.status_code, answer.json()["data"]) == (201, data)
    claim = {"telegram_username": "cem", "plan": "1 month", "transaction_hash": sandbox.pay()}
    sold = shop.send("POST", CLAIMS, **form(kind, claim))
    assert sold.status_code == 201
    assert shop.post(CLAIMS, claim).text == sold.text


@pytest.mark.parametrize("kind", ["urlencoded", "multipart"])
def test_wrong_fields_of_a_form_are_named_in_the_same_words(bot: Bot, kind: str) -> None:
    for path, fields in (
        (USERS, {"chat_id": "seven"}),
        (USERS, {"chat_id": "9" * 20, "telegram_username": "not a name"}),
        (USERS, {"telegram_username": "ann", "x": "1"}),
        (CLAIMS, {"chat_id": "1", "plan": "", "transaction_hash": " "}),
        (JOINS, {"chat_id": "-1"}),
    ):
        answer = bot.send("POST", path, **form(kind, fields))
        assert answer.status_code == 400
        assert answer.text == bot.post(path, fields).text


def part(name: str, value: str, more: str = "") -> str:
    """Return one part of a multipart body."""
    heading = f'Content-Disposition: form-data; name="{name}"{more}'
    return f"--frontier\r\n{heading}\r\n\r\n{value}\r\n"


NAME = part("telegram_username", "ann")
WRONG: list[tuple[str, bytes, int, str]] = [
    (URLENCODED, b"chat_id=7&chat_id=8&telegram_username=ann", 400, "twice"),
    (MULTIPART, f"{NAME}{part('chat_id', '7') * 2}--frontier--".encode(), 400, "twice"),
    (URLENCODED, b"chat_id=7&telegram_username=%ff", 400, "not a valid form"),
    (URLENCODED, b"chat_id=7&telegram_username=\xff", 400, "not a valid form"),
    (MULTIPART, f"{NAME}{part('chat_id', '7')}".encode(), 400, "not a valid form"),
    (MULTIPART, NAME.encode("utf-16"), 400, "not a valid form"),
    (MULTIPART, b"", 400, "not a valid form"),
    ("multipart/form-data", b"x", 400, "not a valid form"),
    (f"{MULTIPART}; charset=no-such", f"{NAME}--frontier--".encode(), 400, "not a valid form"),
    (URLENCODED, b"chat_id=7&x=" + b"x" * 64 * 1024, 413, "64 KiB"),
    (MULTIPART, part("x", "x" * 64 * 1024).encode(), 413, "64 KiB"),
]


@pytest.mark.parametrize(("kind", "body", "status", "words"), WRONG)
def test_a_form_that_cannot_be_read_is_refused(
    bot: Bot, kind: str, body: bytes, status: int, words: str
) -> None:
    answer = bot.send("POST", USERS, content=body, headers={"Content-Type": kind})
    assert (answer.status_code, answer.json()["success"]) == (status, False)
    assert words in answer.json()["message"]
    assert bot.get(CLAIMS, telegram_username="ann").json() == {"message": "User not found"}


def test_a_file_is_no_value(bot: Bot) -> None:
    body = f"{part('chat_id', '7')}{part('telegram_username', 'ann', '; filename=x')}--frontier--"
    answer = bot.send("POST", USERS, content=body.encode(), headers={"Content-Type": MULTIPART})
    assert answer.json() == {"telegram_username": ["Not a valid string."]}


def test_a_form_in_chunks_is_read(bot: Bot) -> None:
    for kind, chunks in (
        (URLENCODED, [b"chat_id=7&telegram_", b"username=ann"]),
        (MULTIPART, [part("chat_id", "7").encode(), NAME.encode(), b"--frontier--\r\n"]),
    ):
        answer = bot.send("POST", USERS, content=iter(chunks), headers={"Content-Type": kind})
        assert answer.json()["data"]["telegram_username"] == "ann"
