"""What both services share: keys in turn, limits honoured, errors that hide in HTTP 200."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from loopback import Answer, Asked, Loopback, as_json, recorded

from buffettsbot.core.chain.sources import SourceUnavailable
from buffettsbot.core.chain.tron import service as service_module
from buffettsbot.core.chain.tron.service import KeyRing, Service, utc_from_milliseconds
from buffettsbot.core.wire import Wire

NEVER = float("inf")
GOOD = as_json({"id": "1"})


class Clock:
    """Stands for `time.monotonic` in the service, so that no test waits for a suspension."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    stopped = Clock()
    monkeypatch.setattr(service_module, "time", stopped)
    return stopped


@pytest.fixture
def make(loopback: Loopback) -> Iterator[Callable[..., Service]]:
    wire = Wire()
    yield lambda *keys: Service(wire, loopback.url + "/", keys)
    wire.close()


def ask(service: Service) -> dict[str, Any]:
    return service.ask("GET", "/x", deadline=NEVER)


def refusal(service: Service) -> SourceUnavailable:
    with pytest.raises(SourceUnavailable) as caught:
        ask(service)
    return caught.value


def keys_used(loopback: Loopback) -> list[str | None]:
    return [asked.headers.get("tron-pro-api-key") for asked in loopback.asked]


def by_key(answers: dict[str | None, Answer]) -> Callable[[Asked], Answer]:
    return lambda asked: answers.get(asked.headers.get("tron-pro-api-key"), GOOD)


def test_without_a_key_no_key_header_is_sent(
    make: Callable[..., Service], loopback: Loopback
) -> None:
    loopback.answer = GOOD
    assert ask(make()) == {"id": "1"}
    assert keys_used(loopback) == [None]
    assert loopback.asked[0].path == "/x"


def test_several_keys_are_used_in_turn(make: Callable[..., Service], loopback: Loopback) -> None:
    loopback.answer = GOOD
    service = make("a", "b", "c")
    for _ in range(4):
        ask(service)
    assert keys_used(loopback) == ["a", "b", "c", "a"]


def test_a_throttled_key_hands_the_question_to_the_next_one(
    make: Callable[..., Service], loopback: Loopback, clock: Clock
) -> None:
    loopback.answer = by_key({"a": recorded("tronscan/error-suspended.json")})
    assert ask(make("a", "b")) == {"id": "1"}
    assert keys_used(loopback) == ["a", "b"]


def test_a_suspended_key_is_passed_over_until_its_time_has_come(
    make: Callable[..., Service], loopback: Loopback, clock: Clock
) -> None:
    loopback.answer = by_key({"a": recorded("tronscan/error-suspended.json")})
    service = make("a", "b")
    ask(service)
    clock.now += 18.9
    ask(service)
    ask(service)
    assert keys_used(loopback) == ["a", "b", "b", "b"]
    clock.now += 0.2
    ask(service)
    assert keys_used(loopback)[-2:] == ["a", "b"]


def test_when_every_key_is_suspended_nobody_is_asked_and_the_wait_is_named(
    make: Callable[..., Service], loopback: Loopback, clock: Clock
) -> None:
    loopback.answer = recorded("trongrid/error-key-frequency.json", 429)
    service = make("a", "b")
    assert refusal(service).retry_after == 27
    assert keys_used(loopback) == ["a", "b"]
    clock.now += 20
    assert refusal(service).retry_after == pytest.approx(7)
    assert len(loopback.asked) == 2


def test_the_same_key_twice_is_one_key(make: Callable[..., Service], loopback: Loopback) -> None:
    loopback.answer = recorded("trongrid/error-key-frequency.json", 429)
    refusal(make("a", "a"))
    assert keys_used(loopback) == ["a"]


@pytest.mark.parametrize("status", [200, 403, 429])
@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        ("tronscan/error-suspended.json", 19),
        ("trongrid/error-key-frequency.json", 27),
        ("trongrid/error-suspended.json", 1),
        ("trongrid/error-suspended-no-blank.json", 30),
    ],
)
def test_a_suspension_in_prose_is_honoured_with_any_status(
    make: Callable[..., Service], loopback: Loopback, name: str, seconds: int, status: int
) -> None:
    loopback.answer = recorded(name, status)
    trouble = refusal(make("a"))
    assert trouble.retry_after == seconds
    assert "too often" in trouble.why


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("17", 17), ("0", 0), ("soon", 5), ("-3", 5), ("1e9", 5), ("9" * 12, 600), ("１７", 5)],
)
def test_a_429_waits_as_its_retry_after_says_and_five_seconds_without_a_sensible_one(
    make: Callable[..., Service], loopback: Loopback, header: str, seconds: int
) -> None:
    loopback.answer = Answer(b"", 429, {"retry-after": header.encode().decode("latin-1")})
    assert refusal(make("a")).retry_after == seconds


def test_a_403_that_means_too_often_waits_as_its_retry_after_says(
    make: Callable[..., Service], loopback: Loopback
) -> None:
    loopback.answer = recorded("tronscan/error-too-quickly.json", 403, retry_after="9")
    assert refusal(make("a")).retry_after == 9


def test_a_429_without_retry_after_waits_five_seconds(
    make: Callable[..., Service], loopback: Loopback
) -> None:
    loopback.answer = Answer(b"", 429)
    assert refusal(make("a")).retry_after == 5


def test_a_suspension_of_days_is_not_believed_for_more_than_ten_minutes(
    make: Callable[..., Service], loopback: Loopback
) -> None:
    loopback.answer = as_json({"Error": "the query server is suspended for 99999999 s"})
    assert refusal(make("a")).retry_after == 600


@pytest.mark.parametrize(
    ("name", "status", "seconds"),
    [
        ("tronscan/error-too-quickly.json", 403, 5),
        ("trongrid/error-daily-usage.txt", 403, 5),
        ("trongrid/error-resources.json", 200, 5),
        ("trongrid/error-bad-key.json", 403, 60),
        ("tronscan/error-forbidden.html", 403, 60),
        ("tronscan/error-forbidden.html", 401, 60),
    ],
)
def test_a_key_that_is_refused_rests_and_the_next_one_answers(
    make: Callable[..., Service],
    loopback: Loopback,
    clock: Clock,
    name: str,
    status: int,
    seconds: int,
) -> None:
    loopback.answer = by_key({"a": recorded(name, status)})
    service = make("a", "b")
    assert ask(service) == {"id": "1"}
    loopback.asked.clear()
    clock.now += seconds - 0.1
    ask(service)
    assert keys_used(loopback) == ["b"]
    assert refusal(make("a")).retry_after == seconds


def test_a_refused_key_is_said_so_without_telling_the_key(
    make: Callable[..., Service], loopback: Loopback
) -> None:
    loopback.answer = recorded("trongrid/error-bad-key.json", 403)
    trouble = refusal(make("SECRET"))
    assert "check its API key" in trouble.why
    assert "SECRET" not in trouble.why


@pytest.mark.parametrize(
    "answer",
    [
        recorded("tronscan/empty.txt"),
        recorded("tronscan/empty-string.json"),
        recorded("tronscan/error-forbidden.html"),
        recorded("tronscan/not-found-missing-parameters.json"),
        recorded("trongrid/error-parse.json"),
        recorded("trongrid/error-json.json"),
        recorded("trongrid/error-lite-node.txt"),
        recorded("trongrid/error-unavailable.json", 404),
        recorded("trongrid/error-too-large.html", 413),
        recorded("tronscan/error-parameters.json", 400),
        recorded("tronscan/success.json", 500),
        recorded("tronscan/success.json", 302),
        as_json([]),
        as_json(None),
        as_json(7),
        Answer(b'{"id": "1"'),
        Answer(b'{"id": "\xff"}'),
        Answer(b'{"id": ' + b"9" * 5000 + b"}"),
        Answer(b"[" * 500_000),
        Answer(b'{"a":' * 200_000),
        Answer(b"\xef\xbb\xbf"),
        Answer(b"\0" * 100),
    ],
    ids=lambda answer: f"{answer.status}-{bytes(answer.body[:24])!r}",
)
def test_everything_that_is_no_answer_is_silence_never_a_crash(
    make: Callable[..., Service], loopback: Loopback, answer: Answer
) -> None:
    loopback.answer = answer
    service = make("a", "b")
    assert refusal(service).retry_after == 0
    assert keys_used(loopback) == ["a"], "another key would be told the same"


def test_a_connection_that_breaks_is_silence_and_suspends_no_key(
    make: Callable[..., Service], loopback: Loopback
) -> None:
    loopback.answer = Answer(reset=True)
    service = make("a")
    assert refusal(service).retry_after == 0
    loopback.answer = GOOD
    assert ask(service) == {"id": "1"}


def test_a_port_that_is_closed_is_silence(make: Callable[..., Service], loopback: Loopback) -> None:
    service = make("a", "b")
    loopback.close()
    trouble = refusal(service)
    assert (trouble.why, trouble.retry_after) == ("no connection", 0)


def test_an_answer_that_never_ends_is_silence(
    make: Callable[..., Service], loopback: Loopback
) -> None:
    loopback.answer = lambda _: Answer(b"x" * 1_000_000 for _ in range(64))
    assert "larger than 2 MiB" in refusal(make("a")).why


def test_a_genuine_answer_whose_token_is_named_like_a_limit_suspends_no_key(
    make: Callable[..., Service], loopback: Loopback
) -> None:
    loopback.answer = recorded("tronscan/hostile-name.json")
    service = make("a")
    for _ in range(3):
        assert "hash" in ask(service)
    assert keys_used(loopback) == ["a", "a", "a"]


def test_a_genuine_answer_may_hold_a_message_beside_its_hash(
    make: Callable[..., Service], loopback: Loopback
) -> None:
    loopback.answer = as_json({"hash": "1", "message": "thanks, suspended for 9 s"})
    assert ask(make("a"))["hash"] == "1"


def test_one_ring_of_keys_is_shared_evenly_by_threads() -> None:
    ring = KeyRing(["a", "b", "c", "d"])
    taken: list[str | None] = []
    threads = [
        threading.Thread(target=lambda: taken.extend(ring.take() for _ in range(100)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {key: taken.count(key) for key in "abcd"} == dict.fromkeys("abcd", 100)


def test_a_ring_without_keys_can_be_suspended_too() -> None:
    ring = KeyRing([])
    assert ring.take() is None
    ring.suspend(None, 30)
    with pytest.raises(SourceUnavailable) as caught:
        ring.take()
    assert 29 < caught.value.retry_after <= 30


def test_the_deadline_reaches_the_wire(make: Callable[..., Service], loopback: Loopback) -> None:
    loopback.answer = GOOD
    with pytest.raises(SourceUnavailable):
        make("a").ask("GET", "/x", deadline=time.monotonic() - 1)
    assert loopback.asked == []


def test_unix_milliseconds_become_aware_utc_time() -> None:
    when = utc_from_milliseconds(1_714_824_099_000)
    assert when.isoformat() == "2024-05-04T12:01:39+00:00"


@pytest.mark.parametrize("milliseconds", [10**30, 10**400, -(10**18), 253_402_300_800_000])
def test_an_impossible_time_is_silence(milliseconds: int) -> None:
    with pytest.raises(SourceUnavailable, match="impossible time"):
        utc_from_milliseconds(milliseconds)
