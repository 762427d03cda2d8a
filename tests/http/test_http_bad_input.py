"""Whatever is sent: a 4xx in JSON, nothing changed, no traceback anywhere, and it serves on."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote_from_bytes

import httpx
import pytest
from helpers import clean_env, fake_chain, hash_of, person, shop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving import Bot, Clock, Host, app_of, bot_of, check_answer, hosting, raw
from sqlalchemy import text

from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import METADATA
from buffettsbot.core.wire import Wire
from buffettsbot.http.api import Api

ANN = 7_000_000_001
USERS, CLAIMS = "/api/v1/users/", "/api/v1/subscriptions/"
JOINS = "/api/v1/join-requests/"
JSON = {"Content-Type": "application/json"}
KIB = 1024


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    wire = Wire()
    yield wire
    wire.close()


@pytest.fixture
def host(database_url: str, wire: Wire) -> Iterator[Host]:
    """A service that knows Ann and sells a month; its chain services are away."""
    nowhere = "http://127.0.0.1:9"
    env = clean_env(database_url, tronscan_url=nowhere, trongrid_url=nowhere)
    with hosting(env, wire) as host:
        shop(host.app.db)
        person(host.app.db, ANN, "ann", first_name="Ann")
        yield host


@pytest.fixture
def bot(host: Host) -> Iterator[Bot]:
    with bot_of(host.url) as bot:
        yield bot


def everything(db: Database) -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of every table."""
    with db.engine.connect() as connection:
        return {
            name: sorted(
                (tuple(row) for row in connection.execute(text(f"SELECT * FROM {name}"))), key=repr
            )
            for name in METADATA.tables
        }


@pytest.fixture
def untouched(
    host: Host, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> Iterator[None]:
    """The database stays as it is, the log stays quiet, and the service goes on."""
    before = everything(host.app.db)
    yield
    assert everything(host.app.db) == before
    with bot_of(host.url) as bot:
        assert bot.get("/healthz").status_code == 200
    assert "Traceback" not in capfd.readouterr().err
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING] == []


def is_json_refusal(answer: httpx.Response, *statuses: int) -> None:
    assert answer.status_code in statuses, answer.text
    assert answer.headers["content-type"] == "application/json"
    for trace in ("Traceback", 'File "', "sqlalchemy", "bottle", "<html", "<!DOCTYPE"):
        assert trace not in answer.text


def send(bot: Bot, path: str, body: bytes, headers: dict[str, str] | None = None) -> httpx.Response:
    return bot.send("POST", path, content=body, headers=JSON if headers is None else headers)


# Hashes

GOOD = "ab" * 32
BAD_HASHES = [
    "a" * 63,
    "a" * 65,
    f"0x{'a' * 63}",
    f"{GOOD} {'cd' * 32}",
    f"{GOOD}{GOOD}",
    f"{GOOD[:32]} {GOOD[32:]}",
    f"{GOOD[:32]}\n{GOOD[32:]}",
    f"{GOOD[:-1]}\0",
    "\0" * 64,
    "g" * 64,
    "а" * 64,  # Cyrillic
    "１" * 64,  # full width
    "٧" * 64,
    "é" * 64,
    "🦆" * 64,
    "\ud800" * 64,
    f"{GOOD[:-1]}\udfff",
    "' OR '1'='1",
    "'; DELETE FROM payment; --",
    "../../../etc/passwd",
    "<script>alert(1)</script>",
    "null",
    "%s" * 32,
    "Off-chain transfer 230000000001",
    "a" * (60 * KIB),
]


@pytest.mark.usefixtures("untouched")
def test_a_malformed_hash_of_any_kind_is_refused(bot: Bot) -> None:
    for bad in BAD_HASHES:
        answer = bot.claim(ANN, bad)
        is_json_refusal(answer, 400)
        assert answer.json()["reason"] == "malformed-hash", bad[:70]


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("blank", ["", " ", "\n\t", "\u2003"])
def test_a_blank_hash_is_a_missing_one(bot: Bot, blank: str) -> None:
    answer = bot.claim(ANN, blank)
    assert answer.json() == {"transaction_hash": ["This field may not be blank."]}


@pytest.mark.usefixtures("untouched")
def test_a_hash_of_ten_megabytes_is_too_large(bot: Bot, host: Host) -> None:
    is_json_refusal(bot.claim(ANN, "a" * 10_000_000), 413)


# Bodies

BAD_BODIES = {
    "nothing": b"",
    "spaces": b"   ",
    "prose": b"hello",
    "half": b'{"chat_id": 7',
    "more after it": b'{"chat_id": 7} x',
    "single quotes": b"{'chat_id': 7}",
    "a comment": b'{"chat_id": 7 /* seven */}',
    "a trailing comma": b'{"chat_id": 7,}',
    "NaN": b'{"chat_id": NaN}',
    "Infinity": b'{"x": Infinity}',
    "-Infinity": b'{"x": [-Infinity]}',
    "a field twice": b'{"chat_id": 7, "chat_id": 8}',
    "a field twice, inside": b'{"x": {"y": 1, "y": 2}}',
    "a field twice, escaped": b'{"chat_id": 7, "chat\\u005fid": 8}',
    "null": b"null",
    "a number": b"7",
    "a string": b'"chat_id"',
    "a list": b'[{"chat_id": 7}]',
    "true": b"true",
    "no UTF-8": b'{"chat_id": 7, "telegram_username": "\xff\xfe"}',
    "half a letter": b'{"telegram_username": "\xc3"}',
    "a surrogate in UTF-8": b'{"telegram_username": "\xed\xa0\x80"}',
    "UTF-16": '{"chat_id": 7}'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + b'{"chat_id": 7}',
    "NULs": b"\0" * 100,
    "a NUL in it": b'{"chat_id": 7}\0',
    "a raw control letter": b'{"telegram_username": "a\x01b"}',
    "an unknown escape": b'{"telegram_username": "\\x41"}',
    "5,000 digits": b'{"chat_id": %s}' % (b"9" * 5000),
    "deep lists": b"[" * 60_000,
    "deep lists, closed": b"[" * 30_000 + b"]" * 30_000,
    "deep objects": b'{"a":' * 12_000,
    "deep objects, closed": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "a pickle": b"\x80\x04\x95\x00",
    "a form": b"chat_id=7&telegram_username=ann",
}


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("path", [USERS, CLAIMS, JOINS])
def test_what_is_no_json_object_is_refused(bot: Bot, path: str) -> None:
    for name, body in BAD_BODIES.items():
        answer = send(bot, path, body)
        is_json_refusal(answer, 400)
        assert answer.json().keys() == {"status", "success", "message"}, name


WRONG_TYPES: list[Any] = [True, False, 1.5, [], {}, ["ann"], {"ann": 1}, 1e300]


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    ("path", "good"),
    [
        (USERS, {"chat_id": 8, "telegram_username": "ben", "first_name": "B", "last_name": "B"}),
        (CLAIMS, {"chat_id": ANN, "plan": "1 month", "transaction_hash": GOOD}),
        (CLAIMS, {"telegram_username": "ann", "plan": "1 month", "transaction_hash": GOOD}),
        (JOINS, {"chat_id": ANN}),
    ],
)
def test_a_field_of_the_wrong_type_is_named(bot: Bot, path: str, good: dict[str, Any]) -> None:
    for field in good:
        for wrong in [*WRONG_TYPES, *([7] if field != "chat_id" else ["seven"])]:
            answer = bot.post(path, good | {field: wrong})
            is_json_refusal(answer, 400)
            assert field in answer.json(), (field, wrong)


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("field", ["plan", "transaction_hash"])
def test_a_field_of_a_claim_may_not_be_null(bot: Bot, field: str) -> None:
    body = {"chat_id": ANN, "plan": "1 month", "transaction_hash": GOOD, field: None}
    assert bot.post(CLAIMS, body).json() == {field: ["This field may not be null."]}


# Chat ids

BAD_CHAT_IDS: list[Any] = [
    0, -1, -ANN, 2**52, 2**53, 2**63, 2**64, 10**400, -(10**400), 1.0, 1e3,
    "0", "-1", str(2**53), "9" * 18, "9" * 19, "9" * 5000, "9" * 60_000,
    "1.0", "1e3", "0x7", "+7", "", " ", "7 8", "1_000", "٧", "７", "²", "seven", "\0", "7\0",
    "\ud800",
]  # fmt: skip


@pytest.mark.usefixtures("untouched")
def test_a_chat_id_that_is_none_is_refused(bot: Bot) -> None:
    for bad in BAD_CHAT_IDS:
        answer = bot.post(USERS, {"chat_id": bad, "telegram_username": "ben"})
        is_json_refusal(answer, 400)
        assert answer.json().keys() == {"chat_id"}, bad
        claimed = bot.post(CLAIMS, {"chat_id": bad, "plan": "1 month", "transaction_hash": GOOD})
        is_json_refusal(claimed, 400, 404)
        asked = bot.post(JOINS, {"chat_id": bad})
        is_json_refusal(asked, 400)
        assert asked.json().keys() == {"chat_id"}, bad
        looked_up = bot.get(CLAIMS, chat_id=str(bad).replace("\ud800", "?"))
        is_json_refusal(looked_up, 400, 404)


def test_the_largest_chat_id_there_can_be_is_taken(bot: Bot) -> None:
    largest = 2**52 - 1
    answer = bot.post(USERS, {"chat_id": largest, "telegram_username": "ben"})
    assert answer.json()["data"]["chat_id"] == largest
    assert bot.get(CLAIMS, chat_id=largest).json() == {"message": "Subscription not found"}


# Names

BAD_USERNAMES = [
    "", " ", "@", "@@ann", "a b", "a-b", "a.b", "1ann", "_ann", "a" * 33, "a" * 60_000, "änn",
    "анна", "ann\0", "\0", "a\nb", "ann\ud800", "\udfff", "🦆", "'; DROP TABLE plan; --", "ann%",
    "<b>", "aﬁ",
]  # fmt: skip


@pytest.mark.usefixtures("untouched")
def test_a_username_that_telegram_would_not_give_is_refused(bot: Bot) -> None:
    for bad in BAD_USERNAMES:
        answer = bot.post(USERS, {"chat_id": 8, "telegram_username": bad})
        is_json_refusal(answer, 400)
        assert answer.json().keys() == {"telegram_username"}, bad
        claimed = bot.claim(bad, GOOD)
        is_json_refusal(claimed, 400, 404)


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("field", ["first_name", "last_name"])
def test_a_name_that_no_database_holds_is_refused(bot: Bot, field: str) -> None:
    for bad in ("a" * 65, "🦆" * 65, "a" * 60_000, "\ud800", "Ann\udfff", "\udc00\ud800"):
        answer = bot.post(USERS, {"chat_id": 8, "telegram_username": "ben", field: bad})
        is_json_refusal(answer, 400)
        assert answer.json().keys() == {field}, bad


GOOD_NAMES = [
    ("a" * 64, "a" * 64),
    ("🦆" * 64, "🦆" * 64),
    ("A\0nn", "Ann"),
    ("\0", ""),
    ("Robert'); DROP TABLE plan;--", "Robert'); DROP TABLE plan;--"),
    ("\U0001f468\u200d\U0001f467", "\U0001f468\u200d\U0001f467"),
    ("\u202egnirts", "\u202egnirts"),
    ("😀", "😀"),
    ('"\\/\b\n\x7f', '"\\/\b\n\x7f'),
]


def test_a_name_may_be_almost_anything(bot: Bot) -> None:
    for given_name, kept in GOOD_NAMES:
        names = {"first_name": given_name, "last_name": given_name}
        data = bot.post(USERS, {"chat_id": ANN, "telegram_username": "ann"} | names).json()["data"]
        assert (data["first_name"], data["last_name"]) == (kept, kept)


@pytest.mark.usefixtures("untouched")
def test_a_period_may_be_anything_and_is_not_found(bot: Bot) -> None:
    for bad in (
        "\0",
        "\ud800",
        "1 month\0",
        "9" * 60_000,
        "1 month' --",
        "１ month",
        "-1 month",
        "x",
    ):
        assert bot.claim(ANN, GOOD, bad).json() == {"message": "Plan not found"}


# What a body is said to be, and how large it is


def padded(size: int, **fields: Any) -> bytes:
    body = json.dumps({"telegram_username": "ben", **fields}).encode()
    return body[:-1] + b" " * (size - len(body)) + b"}"


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("path", [USERS, CLAIMS])
def test_what_is_not_called_json_is_refused(bot: Bot, path: str) -> None:
    body = padded(100, chat_id=8, plan="1 month", transaction_hash=GOOD)
    for kind in (
        None, "", "text/plain", "text/json", "application/x-www-form-urlencodedx",
        "application/jsonx", "multipart/mixed; boundary=x", "application/xml", "json",
        "application/json, text/plain", "\xff", "*/*",
    ):  # fmt: skip
        headers = {} if kind is None else {"Content-Type": kind.encode("latin-1")}
        answer = bot.send("POST", path, content=body, headers=headers)
        is_json_refusal(answer, 415)


@pytest.mark.parametrize(
    "kind", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/vnd.api+json"]
)
def test_json_has_several_names(bot: Bot, kind: str) -> None:
    answer = send(bot, USERS, padded(100, chat_id=8), {"Content-Type": kind})
    assert answer.status_code == 201


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("size", [64 * KIB + 1, 200 * KIB, 1024 * KIB, 3 * 1024 * KIB])
def test_a_body_over_64_kib_is_too_large(bot: Bot, size: int) -> None:
    body = padded(size, chat_id=8)
    is_json_refusal(send(bot, USERS, body), 413)

    def pieces() -> Iterator[bytes]:  # httpx sends these chunked, without a length
        for at in range(0, size, 16 * KIB):
            yield body[at : at + 16 * KIB]

    is_json_refusal(bot.send("POST", USERS, content=pieces(), headers=JSON), 413)


def test_a_body_of_just_64_kib_is_taken_also_in_chunks(bot: Bot) -> None:
    body = padded(64 * KIB, chat_id=8)
    assert send(bot, USERS, body).status_code == 201
    chunked = bot.send("POST", USERS, content=iter([body[:99], body[99:]]), headers=JSON)
    assert chunked.status_code == 200


# Routes and methods


NO_ROUTES = [
    "/", "/api", "/api/v1", "/api/v1/", "/api/v1/users/7", "/api/v2/users/", "/api/v1/users//",
    "//api/v1/users/", "/API/V1/USERS/", "/api/v1/join-requests/x", "/admin/",
    "/favicon.ico", "/robots.txt", "/.env", "/api/v1/../../etc/passwd", "/%00", "/%ff%fe",
    "/%2e%2e/%2e%2e/etc/passwd", "/a%0d%0ab", "/healthz/x", "/<script>", "/" + "a" * 8000,
]  # fmt: skip


@pytest.mark.usefixtures("untouched")
def test_a_route_that_does_not_exist_is_404_in_json(bot: Bot) -> None:
    for path in NO_ROUTES:
        for method in ("GET", "POST", "DELETE"):
            is_json_refusal(bot.http.request(method, path), 404)
        head = bot.http.request("HEAD", path)
        assert (head.status_code, head.content) == (404, b"")


@pytest.mark.usefixtures("untouched")
def test_a_method_a_route_does_not_know_is_405_in_json(bot: Bot) -> None:
    for path in (USERS, CLAIMS, "/api/v1/plans/", "/healthz", "/metrics"):
        for method in ("PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "FOO", "X" * 500):
            answer = bot.send(method, path)
            is_json_refusal(answer, 405)
            assert set(answer.headers["allow"].split(",")) <= {"GET", "POST"}
    assert bot.send("GET", USERS).status_code == 405
    assert bot.send("POST", "/healthz").status_code == 405


@pytest.mark.usefixtures("untouched")
def test_head_answers_as_get_does_without_the_body(bot: Bot) -> None:
    for path in ("/healthz", "/api/v1/plans/", "/api/v1/openapi.json", f"{CLAIMS}?chat_id=1"):
        got, head = bot.send("GET", path), bot.send("HEAD", path)
        assert (head.status_code, head.content) == (got.status_code, b"")
        assert head.headers["content-length"] == got.headers["content-length"]
    assert bot.send("HEAD", USERS).status_code == 405


# HTTP itself


def parsed(received: bytes) -> tuple[int, dict[str, str], bytes]:
    """Take the first answer on a connection apart."""
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines)}
    return int(first.split(" ")[1]), headers, body[: int(headers["content-length"])]


MALFORMED = {
    "another protocol": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    "prose": (b"hello there, how are you\r\n\r\n", 400),
    "no target": (b"GET\r\n\r\n", 400),
    "an empty target": (b"GET  HTTP/1.1\r\n\r\n", 400),
    "a small method": (b"get /healthz HTTP/1.1\r\n\r\n", 400),
    "a strange method": (b"G\xffT /healthz HTTP/1.1\r\n\r\n", 400),
    "a broken target": (b"GET http://[/ HTTP/1.1\r\n\r\n", 400),
    "a target of raw bytes": (b"GET /healthz?\xff HTTP/1.1\r\n\r\n", 400),
    "a space in the target": (b"GET /health z HTTP/1.1\r\n\r\n", 400),
    "no such version": (b"GET /healthz HTTP/x.y\r\n\r\n", 400),
    "a header without a colon": (b"GET /healthz HTTP/1.1\r\nHost\r\n\r\n", 400),
    "a header without a name": (b"GET /healthz HTTP/1.1\r\n: x\r\n\r\n", 400),
    "a space before the colon": (b"GET /healthz HTTP/1.1\r\nHost : x\r\n\r\n", 400),
    "a bare line feed": (b"GET /healthz HTTP/1.1\r\nX: a\nb: c\r\n\r\n", 400),
    "a NUL in a header": (b"GET /healthz HTTP/1.1\r\nX: a\0b\r\n\r\n", 400),
    "a negative length": (b"POST /api/v1/users HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
    "two lengths": (
        b"POST /api/v1/users HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
        400,
    ),
    "a length in words": (b"POST /api/v1/users HTTP/1.1\r\nContent-Length: two\r\n\r\n{}", 400),
    "a length of 5,000 digits": (
        b"POST /api/v1/users HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n{}",
        400,
    ),
    "a giant length": (b"POST /api/v1/users HTTP/1.1\r\nContent-Length: 9999999999\r\n\r\n{}", 413),
    "broken chunks": (
        b"POST /api/v1/users HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
        400,
    ),
    "a negative chunk": (
        b"POST /api/v1/users HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n{}\r\n",
        400,
    ),
    "an unknown encoding": (
        b"POST /api/v1/users HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n{}",
        501,
    ),
    "a header of 300 KB": (b"GET / HTTP/1.1\r\nX: " + b"a" * 300_000 + b"\r\n\r\n", 431),
    "20,000 headers": (b"GET / HTTP/1.1\r\n" + b"Xx: aaaaaaaaaaaa\r\n" * 20_000 + b"\r\n", 431),
    "a target of 300 KB": (b"GET /" + b"a" * 300_000 + b" HTTP/1.1\r\n\r\n", 431),
}


@pytest.mark.usefixtures("untouched")
def test_malformed_http_is_answered_in_json_and_closed(host: Host) -> None:
    for name, (request, expected) in MALFORMED.items():
        status, headers, body = parsed(raw(host.url, request))
        assert status == expected, (name, body)
        assert headers["content-type"] == "application/json", name
        assert headers["connection"] == "close", name
        said = json.loads(body)
        assert said.keys() == {"status", "success", "message"}, name
        assert said["status"] == expected


ODD = {
    "HTTP/0.9": b"GET /healthz\r\n\r\n",
    "HTTP/1.0": b"GET /healthz HTTP/1.0\r\n\r\n",
    "no Host": b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n",
    "a whole URL": b"GET http://x/healthz HTTP/1.1\r\nConnection: close\r\n\r\n",
    "a fragment": b"GET /healthz#x HTTP/1.1\r\nConnection: close\r\n\r\n",
    "empty lines first": b"\r\n\r\nGET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n",
    "raw bytes in a header": b"GET /healthz HTTP/1.1\r\nConnection: close\r\nX: \xff\xfe\r\n\r\n",
    "2,000 headers": b"GET /healthz HTTP/1.0\r\n" + b"Xx: aaaaaaaa\r\n" * 2_000 + b"\r\n",
    "nothing to continue": b"GET /healthz HTTP/1.1\r\nConnection: close\r\n"
    b"Expect: 100-continue\r\n\r\n",
    "a body": b"GET /healthz HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello",
    "forwarded": b"GET /healthz HTTP/1.0\r\nX-Forwarded-For: 1.2.3.4\r\nForwarded: for=x\r\n\r\n",
}


@pytest.mark.usefixtures("untouched")
def test_odd_http_is_served_all_the_same(host: Host) -> None:
    for name, request in ODD.items():
        status, _, body = parsed(raw(host.url, request))
        assert (status, json.loads(body)["status"]) == (200, "ok"), name


def test_a_client_that_waits_for_a_continue_gets_one(host: Host) -> None:
    body = b'{"chat_id": 8, "telegram_username": "ben"}'
    head = b"POST /api/v1/users HTTP/1.1\r\nConnection: close\r\nContent-Type: application/json\r\n"
    request = head + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body)
    received = raw(host.url, request + body)
    assert received.startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert parsed(received.partition(b"\r\n\r\n")[2])[0] == 201


@pytest.mark.usefixtures("untouched")
def test_a_client_that_hangs_up_in_the_middle_changes_nothing(host: Host) -> None:
    body = b'{"chat_id": 8, "telegram_username": "ben"}'
    head = b"POST /api/v1/users HTTP/1.1\r\nContent-Type: application/json\r\n"
    request = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    for end in (1, len(head), len(request) - len(body), len(request) - 1):
        assert raw(host.url, request[:end]) == b""


# Anything at all

LETTERS = st.characters(exclude_categories=())  # surrogates too
TEXTS = st.text(LETTERS, max_size=80)
PIECES = st.sampled_from(
    ["ann", "@ann", "1 month", GOOD, str(ANN), "0", "-1", "\0", "\ud800", "", "9" * 5000]
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**40), 10**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
    | PIECES
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4)
)
FIELDS = st.sampled_from(
    ["chat_id", "telegram_username", "first_name", "last_name", "plan", "transaction_hash"]
)
OBJECTS = st.dictionaries(FIELDS, VALUES, max_size=6) | st.fixed_dictionaries(
    {
        "chat_id": st.just(ANN) | VALUES,
        "telegram_username": st.just("ann") | VALUES,
        "plan": st.just("1 month") | VALUES,
        "transaction_hash": st.just(GOOD) | st.just(hash_of(5)) | VALUES,
    },
    optional={"first_name": VALUES, "last_name": VALUES},
)
BODIES = OBJECTS.map(lambda body: json.dumps(body).encode()) | st.binary(max_size=200)

any_number = settings(
    max_examples=150,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture
def client(database_url: str) -> Iterator[httpx.Client]:
    """The application without a socket; exceptions that leave it reach the test."""
    app = app_of(clean_env(database_url), Clock())
    shop(app.db)
    person(app.db, ANN, "ann")
    api = Api(app, fake_chain({}), chain_slots=1)
    transport = httpx.WSGITransport(api.wsgi())
    with httpx.Client(transport=transport, base_url="http://localhost") as client:
        yield client
    app.db.close()


def test_a_body_of_unknown_length_is_limited_too(client: httpx.Client) -> None:
    body = padded(64 * KIB + 1, chat_id=8)
    is_json_refusal(client.post(USERS, content=iter([body]), headers=JSON), 413)
    just = client.post(USERS, content=iter([padded(64 * KIB, chat_id=8)]), headers=JSON)
    assert just.status_code == 201


@any_number
@given(path=st.sampled_from([USERS, CLAIMS]), body=BODIES)
def test_no_body_is_answered_with_a_bug(client: httpx.Client, path: str, body: bytes) -> None:
    answer = client.post(path, content=body, headers=JSON)
    assert answer.status_code < 500, answer.text
    check_answer(answer)


@any_number
@given(field=st.sampled_from(["chat_id", "telegram_username", "x"]), value=st.binary(max_size=60))
def test_no_query_is_answered_with_a_bug(client: httpx.Client, field: str, value: bytes) -> None:
    answer = client.get(f"{CLAIMS}?{field}={quote_from_bytes(value)}")
    assert answer.status_code < 500, answer.text
    check_answer(answer)


@any_number
@given(
    header=st.sampled_from(
        ["Authorization", "Content-Type", "Accept", "Cookie", "X-Forwarded-For"]
    ),
    value=st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=60),
)
def test_no_header_is_answered_with_a_bug(sqlite_app: Any, header: str, value: str) -> None:
    status, body = sqlite_app(header, value)
    assert status in (200, 201, 400, 401, 415)
    json.loads(body)


@pytest.fixture
def sqlite_app(sqlite_url: str) -> Iterator[Any]:
    """The guarded application, called as a WSGI server calls it: with raw header values."""
    app = app_of(clean_env(sqlite_url, api_token="secret"), Clock())
    wsgi = Api(app, fake_chain({}), chain_slots=1).wsgi()
    errors = io.StringIO()

    def call(header: str, value: str) -> tuple[int, bytes]:
        name = header.upper().replace("-", "_")
        body = b'{"chat_id": 8, "telegram_username": "ben"}'
        environ = {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": "/api/v1/users/",
            "QUERY_STRING": "",
            "CONTENT_LENGTH": str(len(body)),
            "CONTENT_TYPE": "application/json",
            "HTTP_AUTHORIZATION": "Bearer secret",
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": errors,
            name if name == "CONTENT_TYPE" else f"HTTP_{name}": value,
        }
        said: list[str] = []
        pieces = wsgi(environ, lambda line, *_: said.append(line))
        return int(said[0][:3]), b"".join(pieces)

    yield call
    app.db.close()
    assert errors.getvalue() == ""
