"""Several sources as one: their order, the fallback, the quorum, and asking again in time."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path

import pytest
from helpers import (
    SENDER,
    USDT,
    WALLET,
    FakeSource,
    Said,
    from_evidence,
    hash_of,
    not_found,
    paid,
    silence,
)
from hypothesis import given
from hypothesis import strategies as st
from loopback import Loopback, recorded

from buffettsbot.core.app import open_chain
from buffettsbot.core.chain import sources as chain_module
from buffettsbot.core.chain.sources import Chain, SourceUnavailable
from buffettsbot.core.chain.transaction import (
    Answer,
    ChainTransaction,
    Silence,
    Transfer,
    to_evidence,
)
from buffettsbot.core.errors import BadSettings
from buffettsbot.core.settings.settings import Settings, load_settings
from buffettsbot.core.wire import Wire

HASH = hash_of(1)


@dataclass
class Clock:
    """Stands for `time` in the chain: sleeping only moves it on."""

    now: float = 100.0
    slept: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    stopped = Clock()
    monkeypatch.setattr(chain_module, "time", stopped)
    return stopped


def source(said: Said, name: str = "tronscan") -> FakeSource:
    return FakeSource({HASH: said}, name=name)


def busy(seconds: float) -> Callable[[str], ChainTransaction]:
    def refuse(_: str) -> ChainTransaction:
        raise SourceUnavailable("busy", seconds)

    return refuse


def test_the_first_definite_answer_counts_and_nobody_else_is_asked(clock: Clock) -> None:
    first, second = source(paid(HASH)), source(paid(HASH), "trongrid")
    assert Chain([first, second]).look_up(HASH) == (paid(HASH),)
    assert (first.asked, second.asked) == ([HASH], [])


def test_a_failed_transaction_that_is_final_is_definite_too(clock: Clock) -> None:
    second = source(paid(HASH), "trongrid")
    failed = paid(HASH, succeeded=False)
    assert Chain([source(failed), second]).look_up(HASH) == (failed,)
    assert second.asked == []


@pytest.mark.parametrize(
    "said", [not_found(HASH), paid(HASH, final=False), silence()], ids=["not-found", "open", "away"]
)
def test_what_is_not_definite_is_asked_of_the_next_source(
    clock: Clock, said: ChainTransaction | Silence
) -> None:
    good = paid(HASH, source="trongrid")
    chain = Chain([source(said), source(good, "trongrid")])
    assert chain.look_up(HASH) == (said, good)


def test_the_sources_are_asked_in_the_given_order(clock: Clock) -> None:
    names = ["trongrid", "tronscan", "third"]
    chain = Chain([source(not_found(HASH, name), name) for name in names])
    assert [answer.source for answer in chain.look_up(HASH)] == names


def test_with_a_quorum_of_two_both_are_asked(clock: Clock) -> None:
    answers = (paid(HASH), paid(HASH, source="trongrid"))
    third = source(paid(HASH), "third")
    chain = Chain([source(answers[0]), source(answers[1], "trongrid"), third], quorum=2)
    assert chain.look_up(HASH) == answers
    assert third.asked == []


def test_a_silent_source_is_asked_again_three_times_in_all(clock: Clock) -> None:
    away = source(silence())
    assert Chain([away]).look_up(HASH) == (silence(),)
    assert away.asked == [HASH] * 3
    assert 0.6 <= sum(clock.slept) <= 0.9 * 1.5


def test_an_answer_on_asking_again_counts(clock: Clock) -> None:
    recovering = source([silence(), silence(), paid(HASH)])
    assert Chain([recovering]).look_up(HASH) == (paid(HASH),)


def test_not_found_is_an_answer_and_is_not_asked_again_at_once(clock: Clock) -> None:
    unaware = source(not_found(HASH))
    assert Chain([unaware]).look_up(HASH) == (not_found(HASH),)
    assert unaware.asked == [HASH]


def test_only_the_silent_source_is_asked_again(clock: Clock) -> None:
    unaware, away = source(not_found(HASH)), source(silence("trongrid"), "trongrid")
    assert Chain([unaware, away]).look_up(HASH) == (not_found(HASH), silence("trongrid"))
    assert (len(unaware.asked), len(away.asked)) == (1, 3)


def test_the_pause_a_source_wants_is_kept(clock: Clock) -> None:
    throttled = source([busy(3), paid(HASH)])
    assert Chain([throttled]).look_up(HASH) == (paid(HASH),)
    assert len(clock.slept) == 1
    assert clock.slept[0] >= 3


def test_a_pause_that_ends_after_the_deadline_is_not_waited_for(clock: Clock) -> None:
    throttled = source(busy(30))
    assert Chain([throttled], ask_seconds=14).look_up(HASH) == (Silence("tronscan", "busy"),)
    assert (throttled.asked, clock.slept) == ([HASH], [])


def test_a_long_pause_is_not_waited_for_while_somebody_waits_for_the_answer(clock: Clock) -> None:
    throttled = source([busy(chain_module.LONGEST_WAIT + 1), paid(HASH)])
    assert Chain([throttled]).look_up(HASH) == (Silence("tronscan", "busy"),)
    assert clock.slept == []


def test_a_source_that_wants_a_long_pause_is_left_alone_while_another_is_asked_again(
    clock: Clock,
) -> None:
    throttled, away = source(busy(30)), source(silence("trongrid"), "trongrid")
    Chain([throttled, away]).look_up(HASH)
    assert (len(throttled.asked), len(away.asked)) == (1, 3)


@pytest.mark.parametrize(
    ("takes", "wants"), [(4, 0), (4, 1), (4, 2.9), (8, 1.5), (9.5, 0.4), (9.9, 0), (11, 0)]
)
def test_no_question_begins_after_the_deadline(
    clock: Clock, takes: float, wants: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("buffettsbot.core.chain.sources.random.uniform", lambda _, longest: longest)
    begun = clock.now
    asked_at: list[float] = []

    def slow(_: str) -> ChainTransaction:
        asked_at.append(clock.now)
        clock.now += takes
        raise SourceUnavailable("slow", wants)

    chain = Chain([source(slow)], ask_seconds=10)
    chain.look_up(HASH)
    assert all(moment < begun + 10 for moment in asked_at)
    assert sum(clock.slept) < 10


def test_every_source_is_told_the_deadline_of_the_whole(clock: Clock) -> None:
    told: list[float] = []

    class Told(FakeSource):
        def look_up(self, transaction_hash: str, *, deadline: float) -> ChainTransaction:
            told.append(deadline)
            clock.now += 2
            return super().look_up(transaction_hash, deadline=deadline)

    Chain([Told(name="tronscan"), Told(name="trongrid")], ask_seconds=10).look_up(HASH)
    assert told == [110.0, 110.0]


def test_somebody_may_watch_every_question(clock: Clock) -> None:
    seen: list[tuple[str, str]] = []
    away = source([silence(), paid(HASH)])
    unaware = source(not_found(HASH, "trongrid"), "trongrid")
    chain = Chain([away, unaware], observe=lambda name, outcome, _: seen.append((name, outcome)))
    chain.look_up(HASH)
    assert seen == [("tronscan", "silent"), ("trongrid", "answered"), ("tronscan", "answered")]


amounts = st.integers(min_value=-(2**255), max_value=2**256)
transfers = st.builds(
    Transfer,
    st.sampled_from([USDT, WALLET]),
    st.just(SENDER),
    st.sampled_from([WALLET, SENDER]),
    amounts,
    st.integers(0, 1000),
)
transactions = st.builds(
    ChainTransaction,
    st.just(HASH),
    st.sampled_from(["tronscan", "trongrid"]),
    found=st.booleans(),
    final=st.booleans(),
    succeeded=st.booleans(),
    block=st.none() | st.integers(),
    time=st.none() | st.datetimes(timezones=st.just(UTC)),
    transfers=st.lists(transfers, max_size=4).map(tuple),
    risky=st.booleans(),
)
answers = st.lists(transactions | st.builds(Silence, st.just("tronscan"), st.text()), max_size=3)


@given(answers)
def test_evidence_is_plain_json_and_gives_the_same_answers_back(
    given_answers: list[Answer],
) -> None:
    written = json.dumps(to_evidence(given_answers))
    assert from_evidence(json.loads(written)) == tuple(given_answers)


def _settings(monkeypatch: pytest.MonkeyPatch, **values: str) -> Settings:
    for name, value in values.items():
        monkeypatch.setenv("BUFFETTSBOT_" + name.upper(), value)
    return load_settings()


def test_the_settings_order_of_sources_and_their_quorum_are_kept(
    settings_env: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = open_chain(_settings(monkeypatch))
    assert ([s.name for s in chain.sources], chain.quorum) == (["tronscan", "trongrid"], 1)
    chain = open_chain(_settings(monkeypatch, chain_sources="trongrid, tronscan", chain_quorum="2"))
    assert ([s.name for s in chain.sources], chain.quorum) == (["trongrid", "tronscan"], 2)


def test_a_quorum_that_the_sources_cannot_give_is_refused_at_once(
    settings_env: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = _settings(monkeypatch, chain_sources="tronscan", chain_quorum="2")
    with pytest.raises(BadSettings, match="BUFFETTSBOT_CHAIN_QUORUM is 2"):
        open_chain(settings)


def test_the_settings_urls_and_keys_reach_the_services(
    settings_env: Path, monkeypatch: pytest.MonkeyPatch, loopback: Loopback
) -> None:
    wire = Wire()
    loopback.answer = recorded("trongrid/unknown.json")
    settings = _settings(
        monkeypatch,
        tronscan_url=loopback.url + "/api/transaction-info?hash",
        tronscan_api_key="scan-key",
        trongrid_url=loopback.url + "/grid",
        trongrid_api_key="grid-key",
    )
    found = open_chain(settings, wire).look_up(HASH)
    wire.close()
    assert found == (not_found(HASH), not_found(HASH, "trongrid"))
    assert [(a.path, a.headers["tron-pro-api-key"]) for a in loopback.asked] == [
        ("/api/transaction-info", "scan-key"),
        ("/grid/walletsolidity/gettransactioninfobyid", "grid-key"),
        ("/grid/wallet/gettransactioninfobyid", "grid-key"),
    ]
