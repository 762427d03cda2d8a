"""Where `serve` listens, and what it says at its start: real processes."""

import stat
from pathlib import Path

import pytest
from helpers import clean_env
from serving import bot_of, launch, serving

ANN = 7_000_000_001
TOKEN = "a token of our own"


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
