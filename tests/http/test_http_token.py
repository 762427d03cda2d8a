"""Who may call: without the right token only /healthz answers."""

import hmac
import os
from collections.abc import Iterator

import pytest
from helpers import clean_env
from pytest_mock import MockerFixture
from serving import Sandbox, bot_of, described, hosting

TOKEN = "a token of our own"
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
            for spelling in ("/healthz", "/healthz/"):
                assert bot.send("GET", spelling, headers=headers).status_code == 200


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


def test_every_described_route_is_in_the_test_of_tokens() -> None:
    listed = {
        (method.upper(), path)
        for path, operations in described()["paths"].items()
        for method in operations
    }
    assert listed == {*ROUTES, ("GET", "/healthz")}


def test_no_secret_is_in_the_environment_of_these_tests() -> None:
    assert not [name for name in clean_env("sqlite://") if "KEY" in name or "TOKEN" in name]
    assert os.environ.get("BUFFETTSBOT_API_TOKEN") is None
