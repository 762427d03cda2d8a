"""The sandbox's failing services, through a real socket."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from buffettsbot.http.sandbox import running_sandbox

WALLET = "TLwLTBk5k9nVNM3FK6yP8bXWsu6aTczcag"
NODE = "/walletsolidity/gettransactioninfobyid"
SEND = "/bot7:token/sendMessage"
HELLO = {"chat_id": 42, "text": "hello"}


@pytest.fixture(scope="module")
def server() -> Iterator[httpx.Client]:
    with running_sandbox() as url, httpx.Client(base_url=url, timeout=10) as client:
        yield client


@pytest.fixture
def http(server: httpx.Client) -> httpx.Client:
    server.post("/_sandbox/reset").raise_for_status()
    return server


def pay(http: httpx.Client, **fields: Any) -> str:
    spec = {"kind": "good", "to": WALLET, "amount": "50", **fields}
    return str(http.post("/_sandbox/payments", json=spec).json()["transaction_hash"])


def fault(http: httpx.Client, service: str, name: str, **more: Any) -> None:
    answer = http.post("/_sandbox/faults", json={"service": service, "fault": name, **more})
    assert answer.status_code == 201, answer.text


def ask(http: httpx.Client, service: str, transaction_hash: str, **more: Any) -> httpx.Response:
    if service == "tronscan":
        params = {"hash": transaction_hash}
        return http.get("/api/transaction-info", params=params, **more)
    return http.post(NODE, json={"value": transaction_hash}, **more)


def sent(http: httpx.Client, **query: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = http.get("/_sandbox/telegram/sent", params=query).json()
    return found


ALLOWED = "request rate exceeded the allowed_rps(3), and the query server is suspended for"


@pytest.mark.parametrize(
    ("service", "name", "status", "said"),
    [
        ("tronscan", "429", 429, "Too Many"),
        ("tronscan", "429-in-band", 200, f'{{"Error": "{ALLOWED} 19 s."}}'),
        ("tronscan", "403-json", 403, '"request too quickly, please retry later."'),
        ("tronscan", "403-html", 403, "<center>nginx</center>"),
        ("trongrid", "429", 429, "The key exceeds the frequency limit(15), and"),
        ("trongrid", "429-in-band", 200, f'{{"Error": "{ALLOWED} 27 s."}}'),
        ("trongrid", "403-json", 403, '"StatusCode": 403'),
        ("trongrid", "403-key", 403, '{"Error":"ApiKey not exists"}'),
        ("trongrid", "403-daily", 403, "Exceed the user daily usage"),
        ("trongrid", "busy", 200, "lack of computing resources"),
        ("trongrid", "text", 200, "this node is a lite fullnode"),
        ("trongrid", "404", 404, "unavailable due to config"),
        ("trongrid", "400-empty", 400, ""),
        ("trongrid", "500", 500, ""),
        ("trongrid", "502-html", 502, "502 Bad Gateway"),
        ("trongrid", "empty", 200, ""),
        ("trongrid", "empty-string", 200, '""'),
        ("trongrid", "empty-object", 200, "{}"),
        ("trongrid", "null", 200, "null"),
        ("trongrid", "array", 200, "[]"),
        ("trongrid", "html", 200, "<html>"),
    ],
)
def test_a_canned_fault_answers_once_and_heals(
    http: httpx.Client, service: str, name: str, status: int, said: str
) -> None:
    made = pay(http)
    fault(http, service, name, times=1)
    answer = ask(http, service, made)
    assert answer.status_code == status
    assert said in answer.text
    assert bool(answer.text) == bool(said) or name == "500"
    assert made in ask(http, service, made).text


def test_only_tronscan_and_telegram_send_retry_after(http: httpx.Client) -> None:
    for service in ("tronscan", "trongrid", "telegram"):
        fault(http, service, "429", retry_after=7)
    assert ask(http, "tronscan", "0" * 64).headers["Retry-After"] == "7"
    answer = ask(http, "trongrid", "0" * 64)
    assert "Retry-After" not in answer.headers
    assert "suspended for 7 s" in answer.json()["Error"]
    answer = http.post(SEND, json=HELLO)
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "7")
    assert list(answer.json()) == ["ok", "error_code", "description", "parameters"]
    assert answer.json()["parameters"] == {"retry_after": 7}


def test_faults_last_until_cleared_and_one_at_a_time(http: httpx.Client) -> None:
    made = pay(http)
    fault(http, "tronscan", "500", times=1)
    fault(http, "tronscan", "502-html")
    codes = [ask(http, "tronscan", made).status_code for _ in range(4)]
    assert codes == [500, 502, 502, 502]
    assert ask(http, "trongrid", made).status_code == 200
    fault(http, "trongrid", "500")
    assert http.delete("/_sandbox/faults?service=tronscan").json() == {"cleared": 1}
    assert ask(http, "tronscan", made).status_code == 200
    assert ask(http, "trongrid", made).status_code == 500
    http.delete("/_sandbox/faults")
    assert ask(http, "trongrid", made).status_code == 200


def test_a_fault_can_be_meant_for_some_calls_only(http: httpx.Client) -> None:
    unlucky, lucky = pay(http), pay(http)
    fault(http, "tronscan", "500", hash=unlucky)
    fault(http, "trongrid", "429", key="tired")
    fault(http, "telegram", "500", methods=["sendphoto", "SendMessage"], chat_id=42)
    assert ask(http, "tronscan", unlucky).status_code == 500
    assert ask(http, "tronscan", lucky).status_code == 200
    for key, status in (("tired", 429), ("fresh", 200)):
        headers = {"TRON-PRO-API-KEY": key}
        assert ask(http, "trongrid", lucky, headers=headers).status_code == status
    assert http.post(SEND, json=HELLO).status_code == 500
    assert http.post(SEND, json={**HELLO, "chat_id": 43}).status_code == 200
    assert http.post("/bot7:token/getChat", json={"chat_id": 42}).status_code == 200


def test_a_hash_can_be_wrong_and_an_answer_can_be_stale(http: httpx.Client) -> None:
    made = pay(http, confirms_after=None)
    for service, key in (("tronscan", "hash"), ("trongrid", "id")):
        http.post(f"/_sandbox/payments/{made}", json={"confirms_after": 0})
        fault(http, service, "wrong-hash", times=1)
        told = ask(http, service, made).json()
        assert len(told[key]) == 64
        assert told[key] != made
    http.post(f"/_sandbox/payments/{made}", json={"confirms_after": None})
    fault(http, "tronscan", "old-cached")
    http.post(f"/_sandbox/payments/{made}", json={"confirms_after": 0})
    assert ask(http, "tronscan", made).json()["confirmed"] is False
    assert "hash" not in ask(http, "tronscan", pay(http)).json()
    assert ask(http, "trongrid", made).json()["id"] == made


def test_an_answer_can_be_held(http: httpx.Client) -> None:
    made = pay(http)
    fault(http, "tronscan", "timeout", seconds=30)
    with pytest.raises(httpx.ReadTimeout):
        ask(http, "tronscan", made, timeout=0.2)
    fault(http, "trongrid", "timeout", seconds=0.2)
    began = time.monotonic()
    assert ask(http, "trongrid", made).json()["id"] == made
    assert 0.2 <= time.monotonic() - began < 2


@pytest.mark.parametrize(("verb", "path"), [("DELETE", "faults"), ("POST", "reset")])
def test_clearing_lets_go_of_a_held_answer(http: httpx.Client, verb: str, path: str) -> None:
    fault(http, "tronscan", "timeout", seconds=30, times=1)
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(ask, http, "tronscan", "0" * 64)
        while not http.get("/_sandbox/requests").json()["tronscan"]:
            time.sleep(0.01)
        http.request(verb, f"/_sandbox/{path}").raise_for_status()
        assert held.result(5).json() == {}


def test_stopping_does_not_wait_for_a_held_answer() -> None:
    with running_sandbox() as url:
        spec = {"service": "tronscan", "fault": "timeout", "seconds": 30}
        httpx.post(f"{url}/_sandbox/faults", json=spec).raise_for_status()
        with pytest.raises(httpx.ReadTimeout):
            httpx.get(f"{url}/api/transaction-info?hash=1", timeout=0.2)
        began = time.monotonic()
    assert time.monotonic() - began < 3
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


def test_a_connection_can_be_reset_and_an_answer_can_drip(http: httpx.Client) -> None:
    made = pay(http)
    fault(http, "trongrid", "reset", times=1)
    with pytest.raises(httpx.TransportError):
        ask(http, "trongrid", made)
    fault(http, "trongrid", "drip", seconds=0.1, times=1)
    with http.stream("POST", NODE, json={"value": made}) as answer:
        began, drops = time.monotonic(), answer.iter_raw()
        assert [next(drops), next(drops), next(drops)] == [b"{", b'"', b"i"]
        assert time.monotonic() - began > 0.15
    fault(http, "trongrid", "truncated", times=1)
    half = ask(http, "trongrid", made).content
    assert ask(http, "trongrid", made).content.startswith(half)


def test_any_other_fault_can_be_written_down(http: httpx.Client) -> None:
    fault(http, "tronscan", "custom", status=418, body={"tea": True}, retry_after=3, times=1)
    answer = ask(http, "tronscan", "0" * 64)
    assert (answer.status_code, answer.json()) == (418, {"tea": True})
    assert answer.headers["Retry-After"] == "3"
    fault(http, "tronscan", "redirect", times=1)
    answer = ask(http, "tronscan", "0" * 64)
    assert answer.status_code == 302
    assert httpx.get(answer.headers["Location"]).json() == {}


def test_a_service_can_be_slow(http: httpx.Client) -> None:
    http.post("/_sandbox/latency", json={"service": "tronscan", "seconds": 30})
    with pytest.raises(httpx.ReadTimeout):
        ask(http, "tronscan", "0" * 64, timeout=0.2)
    assert ask(http, "trongrid", "0" * 64).json() == {}
    http.post("/_sandbox/latency", json={"service": "tronscan", "seconds": 0})
    assert ask(http, "tronscan", "0" * 64).json() == {}


def test_keys_are_refused_and_remembered(http: httpx.Client) -> None:
    for service, status in (("tronscan", 401), ("trongrid", 403)):
        spec = {"service": service, "accepted": ["good"]}
        http.post("/_sandbox/keys", json=spec).raise_for_status()
        for key, expected in (("bad", status), ("good", 200)):
            answer = ask(http, service, "1" * 64, headers={"TRON-PRO-API-KEY": key})
            assert answer.status_code == expected
        assert ask(http, service, "1" * 64).status_code == status
        log = http.get("/_sandbox/requests").json()[service]
        assert [entry["key"] for entry in log] == ["bad", "good", ""]
        assert {entry["hash"] for entry in log} == {"1" * 64}
        assert abs(log[0]["at"] - time.time()) < 10
        http.post("/_sandbox/keys", json={"service": service, "accepted": None})
        assert ask(http, service, "1" * 64).status_code == 200
    assert http.get("/_sandbox/requests?service=trongrid").json().keys() == {"trongrid"}
    http.delete("/_sandbox/requests")
    assert not any(http.get("/_sandbox/requests").json().values())


def test_a_lost_answer_may_have_been_a_sent_message(http: httpx.Client) -> None:
    fault(http, "telegram", "timeout", seconds=30, times=1)
    with pytest.raises(httpx.ReadTimeout):
        http.post(SEND, json=HELLO, timeout=0.2)
    assert [entry["ok"] for entry in sent(http)] == [True]
    fault(http, "telegram", "reset", times=1)
    with pytest.raises(httpx.TransportError):
        http.post(SEND, json=HELLO)
    fault(http, "telegram", "500", times=1)
    assert http.post(SEND, json=HELLO).json()["error_code"] == 500
    fault(http, "telegram", "502-html", times=1, performed=True)
    assert http.post(SEND, json=HELLO).status_code == 502
    log = sent(http)
    assert [entry["ok"] for entry in log] == [True, False, False, True]
    assert [entry.get("fault") for entry in log] == [None, "reset", "500", None]
    assert log[2]["error_code"] == 500
