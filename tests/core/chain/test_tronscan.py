"""Tronscan: every body it is known to send, through the real adapter over a real socket."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from helpers import FAKE_USDT, STRANGER, USDT
from loopback import DATA, Answer, Loopback, as_json, recorded

from buffettsbot.core.chain.judge import Expectation, Reason, judge
from buffettsbot.core.chain.sources import SourceUnavailable
from buffettsbot.core.chain.transaction import ChainTransaction, Transfer
from buffettsbot.core.chain.tron.service import Service
from buffettsbot.core.chain.tron.tronscan import Tronscan
from buffettsbot.core.wire import Wire

HASH = "e046c2bb63fa65a4a3d94228fd8fd87e1fb0c2ffa3780ef722846c532c326b0a"
FAILED = "ffea9302e47a7fc5511aee58f507a1bf7477f91f491ae66e39ec5505ba54dfe4"
PAYEE = "TKJZwhq98wdYxpqxySYaTbwZkNp2vMtVhW"
PAYER = "TNXoiAJ3dct8Fjg4M9fkLFh9S2v9TXc32G"
EXPECTED = Expectation(wallet=PAYEE, contract=USDT)

LookUp = Callable[..., ChainTransaction]


@pytest.fixture
def look_up(loopback: Loopback) -> Iterator[LookUp]:
    """Let the service answer with a file or an Answer, and look a hash up."""
    wire = Wire()
    source = Tronscan(Service(wire, loopback.url, ["key"]))

    def ask(answer: str | Answer, transaction_hash: str = HASH) -> ChainTransaction:
        loopback.answer = recorded(f"tronscan/{answer}") if isinstance(answer, str) else answer
        return source.look_up(transaction_hash, deadline=float("inf"))

    yield ask
    wire.close()


def success(**changes: Any) -> dict[str, Any]:
    """Return the recorded success with some of its fields changed."""
    body: dict[str, Any] = json.loads((DATA / "tron/tronscan/success.json").read_text())
    return body | changes


def item(**changes: Any) -> dict[str, Any]:
    """Return the recorded transfer with some of its fields changed."""
    entry: dict[str, Any] = success()["trc20TransferInfo"][0]
    return entry | changes


def without(body: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name not in names}


def reason(transaction: ChainTransaction) -> Reason:
    assert transaction.time is not None
    return judge(transaction, EXPECTED, transaction.time).reason


def test_the_recorded_success_is_read_in_full(look_up: LookUp, loopback: Loopback) -> None:
    assert look_up("success.json") == ChainTransaction(
        HASH,
        "tronscan",
        found=True,
        final=True,
        succeeded=True,
        block=61_393_765,
        time=datetime(2024, 5, 4, 12, 1, 39, tzinfo=UTC),
        transfers=(Transfer(USDT, PAYER, PAYEE, 12_000_000),),
    )
    (asked,) = loopback.asked
    assert (asked.method, asked.path, asked.query) == (
        "GET",
        "/api/transaction-info",
        {"hash": [HASH]},
    )


def test_the_form_of_2020_without_token_type_is_read(look_up: LookUp) -> None:
    transaction = look_up(
        "success-2020.json", "f6301aa72e56f09b054baf0aa2018d3d213cfce30171fb5bcf37b1493e3b8b28"
    )
    assert [t.amount for t in transaction.transfers] == [100_000]
    assert reason(transaction) is Reason.ACCEPTED


def test_fields_that_nobody_knows_change_nothing(look_up: LookUp) -> None:
    assert look_up("success-2024-08.json") == look_up("success.json")
    strange = success(riskTransaction=False, surprise={"deep": [1, None, {"x": "\ud800"}]})
    assert look_up(as_json(strange)) == look_up("success.json")


@pytest.mark.parametrize(
    "name",
    [
        "failed.json",
        "failed-empty-list.json",
        "failed-with-transfers.json",
        "failed-out-of-energy.json",
        "list-row-reverted.json",
    ],
)
def test_a_failed_transaction_is_final_and_did_not_succeed_whatever_else_it_says(
    look_up: LookUp, name: str
) -> None:
    transaction = look_up(name, FAILED)
    assert (transaction.found, transaction.final, transaction.succeeded) == (True, True, False)
    assert reason(transaction) is Reason.FAILED_TRANSACTION


@pytest.mark.parametrize(
    "result", ["REVERT", "OUT_OF_ENERGY", "DEFAULT", "UNKNOWN", "success", "SUCCESS ", "SUCESS", ""]
)
def test_only_the_word_success_is_success(look_up: LookUp, result: str) -> None:
    assert not look_up(as_json(success(contractRet=result))).succeeded


def test_unconfirmed_is_not_final_though_it_says_success(look_up: LookUp) -> None:
    transaction = look_up("unconfirmed.json")
    assert (transaction.found, transaction.final, transaction.succeeded) == (True, False, True)
    assert reason(transaction) is Reason.UNCONFIRMED


@pytest.mark.parametrize("value", ["true", 1, None, [], "yes"])
def test_only_true_itself_is_confirmed(look_up: LookUp, value: Any) -> None:
    with pytest.raises(SourceUnavailable, match="not in the known form"):
        look_up(as_json(success(confirmed=value)))


@pytest.mark.parametrize(
    "name", ["not-found.json", "not-found-risk-flag.json", "list-row-unconfirmed.json"]
)
def test_a_body_without_hash_means_not_found(look_up: LookUp, name: str) -> None:
    transaction = look_up(name)
    assert transaction == ChainTransaction(HASH, "tronscan", found=False)
    assert not transaction.definite


@pytest.mark.parametrize(
    "name",
    [
        "not-found-missing-parameters.json",
        "empty-string.json",
        "empty.txt",
        "error-suspended.json",
        "error-too-quickly.json",
        "error-forbidden.html",
        "error-parameters.json",
        "unconfirmed-synthetic.json",
    ],
)
def test_errors_and_rubbish_with_status_200_are_silence(look_up: LookUp, name: str) -> None:
    with pytest.raises(SourceUnavailable):
        look_up(name)


def test_an_answer_about_another_hash_is_silence(look_up: LookUp) -> None:
    with pytest.raises(SourceUnavailable, match="another transaction"):
        look_up("success.json", FAILED)


@pytest.mark.parametrize("name", ["trx.json", "trx-2020.json", "trc10-risky.json"])
def test_trx_and_trc10_move_no_usdt(look_up: LookUp, name: str) -> None:
    body = json.loads((DATA / "tron/tronscan" / name).read_text())
    transaction = look_up(name, body["hash"])
    assert transaction.transfers == ()
    assert transaction.risky is body["riskTransaction"]
    assert reason(transaction) is Reason.NO_USDT_TRANSFER


def test_a_token_that_calls_itself_usdt_keeps_its_own_contract(look_up: LookUp) -> None:
    transaction = look_up("fake-usdt.json")
    assert [t.contract for t in transaction.transfers] == [FAKE_USDT]
    assert reason(transaction) is Reason.NO_USDT_TRANSFER


def test_an_approval_is_no_transfer(look_up: LookUp) -> None:
    assert look_up("approval.json").transfers == ()


def test_of_several_transfers_each_one_is_kept_with_its_place(look_up: LookUp) -> None:
    transaction = look_up("several-transfers.json")
    assert [(t.index, t.contract, t.recipient, t.amount) for t in transaction.transfers] == [
        (0, FAKE_USDT, PAYEE, 900_000_000),
        (1, USDT, PAYEE, 5_000_000),
        (2, USDT, STRANGER, 40_000_000),
        (4, USDT, PAYEE, 7_000_000),
    ]
    verdict = judge(transaction, replace(EXPECTED, price=12_000_000), transaction.time or _never())
    assert (verdict.reason, verdict.amount) == (Reason.ACCEPTED, 12_000_000)


def _never() -> datetime:
    raise AssertionError("the transaction has a time")


def test_the_payer_is_the_events_not_the_owner_of_the_transaction(look_up: LookUp) -> None:
    assert [t.sender for t in look_up("transfer-from.json").transfers] == [PAYER]


def test_the_responses_decimals_and_symbol_are_not_believed(look_up: LookUp) -> None:
    assert [t.amount for t in look_up("forged-decimals.json").transfers] == [12_000_000]


def test_a_transfer_of_nothing_stays_nothing(look_up: LookUp) -> None:
    transaction = look_up("zero-value.json")
    assert [t.amount for t in transaction.transfers] == [0]
    assert reason(transaction) is Reason.NO_USDT_TRANSFER


def test_the_trigger_and_the_addresses_beside_the_events_are_not_believed(
    look_up: LookUp,
) -> None:
    claimed = without(success(), "trc20TransferInfo", "transfersAllList", "tokenTransferInfo")
    transaction = look_up(as_json(claimed | {"toAddress": PAYEE}))
    assert transaction.transfers == ()
    assert transaction == look_up(as_json(claimed | {"trc20TransferInfo": None}))


def test_addresses_in_hex_mean_the_same_as_in_base58(look_up: LookUp) -> None:
    in_hex = item(
        contract_address="41a614f803b6fd780986a42c78ec9c7f77e6ded13c",
        to_address="0x6662845825e0dff4b36b876f18f0eef8ee8c47b5",
        from_address="4189cbcb2372e1c2fbc00f24895a406a0c722c89f3",
    )
    assert look_up(as_json(success(trc20TransferInfo=[in_hex]))) == look_up("success.json")


@pytest.mark.parametrize(
    "amount",
    ["-5", "+5", "1e9", "0x10", "12.5", "", " 5", "5\n", "１２", "1_000", "9" * 79, 12, None, 1.5],
)
def test_an_amount_that_is_no_plain_number_is_silence(look_up: LookUp, amount: Any) -> None:
    body = success(trc20TransferInfo=[item(amount_str=amount)])
    with pytest.raises(SourceUnavailable, match="not in the known form"):
        look_up(as_json(body))


def test_the_largest_amount_of_all_is_read_exactly(look_up: LookUp) -> None:
    body = success(trc20TransferInfo=[item(amount_str=str(2**256 - 1))])
    assert look_up(as_json(body)).transfers[0].amount == 2**256 - 1


@pytest.mark.parametrize("name", ["contract_address", "from_address", "to_address"])
@pytest.mark.parametrize(
    "value", ["", "T", PAYEE.lower(), PAYEE[:-1], "\ud800", "0" * 42, None, 7, "T" * 1_000_000]
)
def test_a_broken_address_in_a_transfer_is_silence(look_up: LookUp, name: str, value: Any) -> None:
    with pytest.raises(SourceUnavailable, match="not in the known form"):
        look_up(as_json(success(trc20TransferInfo=[item(**{name: value})])))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hash", None),
        ("hash", 7),
        ("hash", [HASH]),
        ("contractRet", None),
        ("contractRet", True),
        ("timestamp", None),
        ("timestamp", "1714824099000"),
        ("timestamp", 1.5),
        ("timestamp", float("nan")),
        ("timestamp", float("inf")),
        ("timestamp", True),
        ("timestamp", 10**30),
        ("timestamp", {}),
        ("block", None),
        ("block", "61393765"),
        ("block", float("nan")),
        ("riskTransaction", "no"),
        ("riskTransaction", None),
        ("trc20TransferInfo", {}),
        ("trc20TransferInfo", ""),
        ("trc20TransferInfo", [None]),
        ("trc20TransferInfo", ["x"]),
        ("trc20TransferInfo", [[]]),
        ("trc20TransferInfo", [{}]),
    ],
)
def test_a_field_of_a_wrong_type_is_silence_never_a_crash(
    look_up: LookUp, name: str, value: Any
) -> None:
    with pytest.raises(SourceUnavailable):
        look_up(as_json(success(**{name: value})))


@pytest.mark.parametrize("name", ["confirmed", "contractRet", "timestamp", "block"])
def test_a_body_that_lacks_what_decides_is_silence(look_up: LookUp, name: str) -> None:
    with pytest.raises(SourceUnavailable, match="not in the known form"):
        look_up(as_json(without(success(), name)))


def test_a_risk_flag_that_is_missing_is_no_risk(look_up: LookUp) -> None:
    assert not look_up(as_json(without(success(), "riskTransaction"))).risky
    assert look_up(as_json(success(riskTransaction=True))).risky


def test_a_deep_nest_in_an_unknown_field_is_read_or_silence_never_a_crash(
    look_up: LookUp,
) -> None:
    text = json.dumps(success(surprise=0)).replace('"surprise": 0', '"surprise": ' + "[" * 900)
    look_up(Answer((text[:-1] + "]" * 900 + "}").encode()))
    text = text.replace("[" * 900, "[" * 100_000)
    with pytest.raises(SourceUnavailable):
        look_up(Answer((text[:-1] + "]" * 100_000 + "}").encode()))
