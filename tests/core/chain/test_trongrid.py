"""TronGrid and any full node: every body they are known to send, over a real socket."""

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from helpers import FAKE_USDT, USDT
from loopback import DATA, Answer, Asked, Loopback, as_json, recorded

from buffettsbot.core.chain.judge import Expectation, Reason, judge
from buffettsbot.core.chain.sources import SourceUnavailable
from buffettsbot.core.chain.transaction import ChainTransaction, Transfer
from buffettsbot.core.chain.tron.service import Service
from buffettsbot.core.chain.tron.trongrid import TRANSFER_TOPIC, Trongrid
from buffettsbot.core.wire import Wire

HASH = "b69c51db8f9d974e6a38c76852c8ce1adcb682dbacb25ad8ad4f6876121fe9dc"
PAYER = "TJoaVSdktrnndU4dmKm33SWMKoXt4LLFbU"
PAYEE = "TUikLT3nTTjTkXPAuC4xUGj84vfSERCWRn"
EXPECTED = Expectation(wallet=PAYEE, contract=USDT)
UNKNOWN = recorded("trongrid/unknown.json")

LookUp = Callable[..., ChainTransaction]


@pytest.fixture
def look_up(loopback: Loopback) -> Iterator[LookUp]:
    """Let the solidity node (and the full node) answer with a file or an Answer; look a hash up."""
    wire = Wire()
    source = Trongrid(Service(wire, loopback.url, ["key"]))

    def ask(
        solid: str | Answer, transaction_hash: str = HASH, *, full: str | Answer = UNKNOWN
    ) -> ChainTransaction:
        said = {"/walletsolidity": _answer(solid), "/wallet": _answer(full)}
        loopback.answer = lambda asked: said[asked.path.rpartition("/")[0]]
        return source.look_up(transaction_hash, deadline=float("inf"))

    yield ask
    wire.close()


def _answer(said: str | Answer) -> Answer:
    return recorded(f"trongrid/{said}") if isinstance(said, str) else said


def success(**changes: Any) -> dict[str, Any]:
    """Return the recorded success with some of its fields changed."""
    body: dict[str, Any] = json.loads((DATA / "tron/trongrid/success.json").read_text())
    return body | changes


def log(**changes: Any) -> dict[str, Any]:
    """Return the recorded event with some of its fields changed."""
    event: dict[str, Any] = success()["log"][0]
    return event | changes


def reason(transaction: ChainTransaction) -> Reason:
    assert transaction.time is not None
    return judge(transaction, EXPECTED, transaction.time).reason


def test_the_recorded_success_is_read_in_full(look_up: LookUp, loopback: Loopback) -> None:
    assert look_up("success.json") == ChainTransaction(
        HASH,
        "trongrid",
        found=True,
        final=True,
        succeeded=True,
        block=66_861_993,
        time=datetime(2024, 11, 10, 10, 45, 54, tzinfo=UTC),
        transfers=(Transfer(USDT, PAYER, PAYEE, 3_500_000),),
    )
    (asked,) = loopback.asked
    assert (asked.method, asked.path) == ("POST", "/walletsolidity/gettransactioninfobyid")
    assert json.loads(asked.body) == {"value": HASH}
    assert asked.headers["tron-pro-api-key"] == "key"


@pytest.mark.parametrize("name", ["success-visible.json", "success-padded-41.json"])
def test_base58_and_41_in_padded_words_mean_the_same_as_plain_hex(
    look_up: LookUp, name: str
) -> None:
    assert look_up(name) == look_up("success.json")


def test_what_only_the_full_node_knows_is_not_final(look_up: LookUp, loopback: Loopback) -> None:
    transaction = look_up("unknown.json", full="success.json")
    assert (transaction.found, transaction.final, transaction.succeeded) == (True, False, True)
    assert reason(transaction) is Reason.UNCONFIRMED
    assert [asked.path.split("/")[1] for asked in loopback.asked] == ["walletsolidity", "wallet"]


def test_a_transient_revert_before_finality_is_undecided_not_refused(look_up: LookUp) -> None:
    reverted = as_json(success(receipt={"result": "REVERT"}, result="FAILED"))
    assert reason(look_up("unknown.json", full=reverted)) is Reason.UNCONFIRMED


def test_unknown_to_both_nodes_is_not_found(look_up: LookUp) -> None:
    assert look_up("unknown.json") == ChainTransaction(HASH, "trongrid", found=False)


@pytest.mark.parametrize("name", ["out-of-energy.json", "revert.json", "revert-visible.json"])
def test_a_recorded_failure_is_final_and_did_not_succeed(look_up: LookUp, name: str) -> None:
    body = json.loads((DATA / "tron/trongrid" / name).read_text())
    transaction = look_up(name, body["id"])
    assert (transaction.final, transaction.succeeded, transaction.transfers) == (True, False, ())
    assert reason(transaction) is Reason.FAILED_TRANSACTION


@pytest.mark.parametrize(
    "changes",
    [
        {"receipt": {"result": "REVERT"}},
        {"receipt": {"result": "OUT_OF_ENERGY"}},
        {"receipt": {"result": "success"}},
        {"receipt": {"result": "SUCESS"}},
        {"receipt": {"result": ""}},
        {"receipt": {}},
        {"receipt": {"result": None}},
        {"result": "FAILED"},
    ],
)
def test_an_event_log_does_not_make_a_success(look_up: LookUp, changes: dict[str, Any]) -> None:
    transaction = look_up(as_json(success(**changes)))
    assert not transaction.succeeded
    assert reason(transaction) is Reason.FAILED_TRANSACTION


def test_a_trx_transfer_succeeded_but_moved_no_usdt(look_up: LookUp) -> None:
    transaction = look_up("trx.json", "2389719608ed" + "0" * 52)
    assert (transaction.succeeded, transaction.transfers) == (True, ())
    assert reason(transaction) is Reason.NO_USDT_TRANSFER


def test_an_nft_with_a_fourth_topic_is_passed_over(look_up: LookUp) -> None:
    transaction = look_up("nft-beside-usdt.json")
    assert [(t.index, t.amount) for t in transaction.transfers] == [(1, 3_500_000)]
    assert reason(transaction) is Reason.ACCEPTED


def test_other_events_and_anonymous_ones_are_passed_over(look_up: LookUp) -> None:
    transaction = look_up("several-events.json")
    assert [t.index for t in transaction.transfers] == [0, 3]
    assert sum(t.amount for t in transaction.transfers) == 7_000_000


def test_another_contracts_transfer_keeps_its_contract(look_up: LookUp) -> None:
    assert [t.contract for t in look_up("fake-usdt.json").transfers] == [FAKE_USDT]


def test_the_largest_amount_of_all_is_read_exactly(look_up: LookUp) -> None:
    assert look_up("largest-amount.json").transfers[0].amount == 2**256 - 1


def test_usdts_empty_contract_result_is_not_read_as_false(look_up: LookUp) -> None:
    assert look_up(as_json(success(contractResult=["00"]))).succeeded


@pytest.mark.parametrize(
    "name",
    [
        "error-parse.json",
        "error-json.json",
        "error-resources.json",
        "error-lite-node.txt",
        "error-too-large.html",
        "error-key-frequency.json",
        "error-suspended.json",
        "error-suspended-no-blank.json",
        "error-bad-key.json",
        "error-daily-usage.txt",
        "error-unavailable.json",
        "gettransactionbyid.json",
        "getnowblock.json",
        "list.json",
        "list-empty.json",
        "list-meta.json",
        "events.json",
    ],
)
@pytest.mark.parametrize("solid", [True, False], ids=["solidity", "full"])
def test_errors_with_status_200_and_answers_to_other_calls_are_silence(
    look_up: LookUp, name: str, solid: bool
) -> None:
    with pytest.raises(SourceUnavailable):
        if solid:
            look_up(name, full="success.json")
        else:
            look_up("unknown.json", full=name)


def test_a_silent_full_node_does_not_make_an_unsolidified_transaction_not_found(
    look_up: LookUp,
) -> None:
    with pytest.raises(SourceUnavailable):
        look_up("unknown.json", full=Answer(reset=True))


def test_an_answer_about_another_hash_is_silence(look_up: LookUp) -> None:
    with pytest.raises(SourceUnavailable, match="another transaction"):
        look_up("success.json", "0" * 64)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("id", 7),
        ("id", None),
        ("blockNumber", "66861993"),
        ("blockNumber", float("nan")),
        ("blockTimeStamp", None),
        ("blockTimeStamp", 1e300),
        ("blockTimeStamp", 10**30),
        ("blockTimeStamp", float("nan")),
        ("receipt", None),
        ("receipt", []),
        ("receipt", {"result": True}),
        ("result", 1),
        ("log", None),
        ("log", {}),
        ("log", [None]),
        ("log", [{}]),
        ("contract_address", 7),
    ],
)
def test_a_field_of_a_wrong_type_is_silence_never_a_crash(
    look_up: LookUp, name: str, value: Any
) -> None:
    with pytest.raises(SourceUnavailable):
        look_up(as_json(success(**{name: value})))


@pytest.mark.parametrize("name", ["id", "blockNumber", "blockTimeStamp", "receipt"])
def test_a_body_that_lacks_what_decides_is_silence(look_up: LookUp, name: str) -> None:
    body = success()
    del body[name]
    with pytest.raises(SourceUnavailable, match="not in the known form"):
        look_up(as_json(body))


@pytest.mark.parametrize(
    "changes",
    [
        {"address": ""},
        {"address": "xyz"},
        {"address": "T" * 1_000_000},
        {"address": "42a614f803b6fd780986a42c78ec9c7f77e6ded13c"},
        {"data": ""},
        {"data": "35"},
        {"data": "zz" * 32},
        {"data": "0" * 63},
        {"data": "0" * 128},
        {"topics": [TRANSFER_TOPIC, "", "0" * 64]},
        {"topics": [TRANSFER_TOPIC, "0" * 64, "not hex"]},
        {"topics": [TRANSFER_TOPIC, "0" * 38, "0" * 64]},
        {"topics": [None, None, None]},
    ],
)
def test_a_broken_event_is_silence_never_a_crash(look_up: LookUp, changes: dict[str, Any]) -> None:
    with pytest.raises(SourceUnavailable, match="not in the known form"):
        look_up(as_json(success(log=[log(**changes)])))


def test_the_whole_look_up_ends_by_its_deadline(loopback: Loopback) -> None:
    def drip(asked: Asked) -> Answer:
        return Answer(_slowly(5))

    loopback.answer = drip
    wire = Wire()
    source = Trongrid(Service(wire, loopback.url, []))
    started = time.monotonic()
    with pytest.raises(SourceUnavailable):
        source.look_up(HASH, deadline=started + 0.3)
    assert time.monotonic() - started < 2
    wire.close()


def _slowly(seconds: float) -> Iterator[bytes]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield b" "
        time.sleep(0.05)
