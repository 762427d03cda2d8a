"""The sandbox's chain, through a real socket: it answers as the recorded services did."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from buffettsbot.http.sandbox import running_sandbox
from buffettsbot.http.sandbox.state import SandboxState

WALLET = "TLwLTBk5k9nVNM3FK6yP8bXWsu6aTczcag"
USDT = "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t"
SOLID = "/walletsolidity/gettransactioninfobyid"
HEAD = "/wallet/gettransactioninfobyid"
TRANSFER_KEYS = {"trc20TransferInfo", "transfersAllList", "tokenTransferInfo"}


@pytest.fixture(scope="module")
def server() -> Iterator[httpx.Client]:
    with running_sandbox() as url, httpx.Client(base_url=url, timeout=10) as client:
        yield client


@pytest.fixture
def http(server: httpx.Client) -> httpx.Client:
    server.post("/_sandbox/reset").raise_for_status()
    return server


def pay(http: httpx.Client, kind: str = "good", **fields: Any) -> str:
    spec = {"kind": kind, "to": WALLET, "amount": "50", **fields}
    answer = http.post("/_sandbox/payments", json=spec)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["transaction_hash"])


def tronscan(http: httpx.Client, transaction_hash: str) -> Any:
    return http.get("/api/transaction-info", params={"hash": transaction_hash}).json()


def node(http: httpx.Client, path: str, transaction_hash: str, **more: Any) -> Any:
    return http.post(path, json={"value": transaction_hash, **more}).json()


def moved(log: list[dict[str, Any]]) -> list[tuple[str, int]]:
    """Given a node's event log, return (recipient as 20 bytes of hex, amount) of each transfer."""
    return [(entry["topics"][2][24:], int(entry["data"], 16)) for entry in log]


def test_tronscan_tells_a_recorded_payment_as_it_was_recorded(http: httpx.Client) -> None:
    sender, to = "TNXoiAJ3dct8Fjg4M9fkLFh9S2v9TXc32G", "TKJZwhq98wdYxpqxySYaTbwZkNp2vMtVhW"
    recorded = "e046c2bb63fa65a4a3d94228fd8fd87e1fb0c2ffa3780ef722846c532c326b0a"
    moment = datetime.fromtimestamp(1_714_824_099, UTC).isoformat()
    pay(http, to=to, amount=12, hash=recorded, time=moment, **{"from": sender})
    body = tronscan(http, recorded)
    assert " ".join(body) == (
        "contract_map contractRet data contractInfo contractType event_count project toAddress "
        "confirmed trc20TransferInfo transfersAllList block triggerContractType riskTransaction "
        "timestamp info normalAddressInfo cost addressTag revert confirmations fee_limit "
        "tokenTransferInfo contract_type trigger_info signature_addresses ownerAddress "
        "srConfirmList hash contractData internal_transactions"
    )
    assert (body["block"], body["timestamp"]) == (61_393_765, 1_714_824_099_000)
    assert (body["contractRet"], body["confirmed"], body["revert"]) == ("SUCCESS", True, False)
    assert body["toAddress"] == USDT
    assert body["tokenTransferInfo"] == body["transfersAllList"][0] == body["trc20TransferInfo"][0]
    assert body["tokenTransferInfo"] == {
        "icon_url": "https://static.tronscan.org/production/logo/usdtlogo.png",
        "symbol": "USDT",
        "level": "2",
        "to_address": to,
        "contract_address": USDT,
        "type": "Transfer",
        "decimals": 6,
        "name": "Tether USD",
        "vip": True,
        "tokenType": "trc20",
        "from_address": sender,
        "amount_str": "12000000",
        "status": 0,
    }
    assert body["contractData"]["data"] == (
        "a9059cbb0000000000000000000000006662845825e0dff4b36b876f18f0eef8ee8c47b5"
        "0000000000000000000000000000000000000000000000000000000000b71b00"
    )
    assert len(body["srConfirmList"]) == 19
    assert body["srConfirmList"][0]["block"] == body["block"]


def test_a_node_tells_a_recorded_payment_as_it_was_recorded(http: httpx.Client) -> None:
    sender, to = "TJoaVSdktrnndU4dmKm33SWMKoXt4LLFbU", "TUikLT3nTTjTkXPAuC4xUGj84vfSERCWRn"
    recorded = "b69c51db8f9d974e6a38c76852c8ce1adcb682dbacb25ad8ad4f6876121fe9dc"
    moment = datetime.fromtimestamp(1_731_235_554, UTC).isoformat()
    pay(http, to=to, amount="3.5", hash=recorded, time=moment, **{"from": sender})
    body = node(http, SOLID, recorded)
    assert body == {
        "id": recorded,
        "fee": 345_000,
        "blockNumber": body["blockNumber"],
        "blockTimeStamp": 1_731_235_554_000,
        "contractResult": ["0" * 64],
        "contract_address": "41a614f803b6fd780986a42c78ec9c7f77e6ded13c",
        "receipt": {
            "energy_usage": 64_285,
            "energy_usage_total": 64_285,
            "net_fee": 345_000,
            "result": "SUCCESS",
            "energy_penalty_total": 49_635,
        },
        "log": [
            {
                "address": "a614f803b6fd780986a42c78ec9c7f77e6ded13c",
                "topics": [
                    "ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef",
                    "00000000000000000000000060e6e92e57d61a9d68b5d95275cc9667d9e6c7c9",
                    "000000000000000000000000cdae4e9a6287333a3f7df432b050af7b17e79e63",
                ],
                "data": f"{3_500_000:064x}",
            }
        ],
    }
    assert node(http, HEAD, recorded) == body
    assert http.get(SOLID, params={"value": recorded}).json() == body
    visible = node(http, SOLID, recorded, visible=True)
    assert visible["contract_address"] == visible["log"][0]["address"] == USDT
    call = node(http, "/wallet/gettransactionbyid", recorded)
    assert (call["txID"], call["ret"]) == (recorded, [{"contractRet": "SUCCESS"}])
    contract = call["raw_data"]["contract"][0]
    assert contract["type"] == "TriggerSmartContract"
    assert contract["parameter"]["value"]["contract_address"] == body["contract_address"]


def test_a_body_of_2020_has_fewer_keys_and_its_padding_holds_41(http: httpx.Client) -> None:
    to = "TYPrKF2sevXuE86Xo3Y2mhFnjseiUcybny"
    body = tronscan(http, pay(http, to=to, amount=10, old_format=True))
    assert not {"level", "vip", "tokenType", "status"} & body["trc20TransferInfo"][0].keys()
    assert body["contractData"]["data"] == (
        "a9059cbb000000000000000000000041f5fbe5e8725957174014dca1dc4fed54e970a2f8"
        "0000000000000000000000000000000000000000000000000000000000989680"
    )


@pytest.mark.parametrize(
    ("kind", "result"), [("failed", "REVERT"), ("out-of-energy", "OUT_OF_ENERGY")]
)
def test_a_failed_payment_looks_confirmed_and_names_the_amount(
    http: httpx.Client, kind: str, result: str
) -> None:
    failed = pay(http, kind)
    body = tronscan(http, failed)
    assert (body["contractRet"], body["confirmed"], body["revert"]) == (result, True, False)
    assert body["trigger_info"]["parameter"] == {"_value": "50000000", "_to": WALLET}
    assert not TRANSFER_KEYS & body.keys()
    receipt = node(http, SOLID, failed)
    assert (receipt["result"], receipt["receipt"]["result"]) == ("FAILED", result)
    assert "log" not in receipt
    assert tronscan(http, pay(http, kind, transfer_keys="empty"))["trc20TransferInfo"] == []
    assert not TRANSFER_KEYS & tronscan(http, pay(http, transfer_keys="absent")).keys()
    present = tronscan(http, pay(http, kind, transfer_keys="present"))
    assert present["tokenTransferInfo"]["amount_str"] == "50000000"


def test_each_kind_is_what_its_name_says_in_both_services(http: httpx.Client) -> None:
    ours = "784ec5627ac5c3f8de4117175db192c1b9e809c1"
    seen = {}
    for kind in http.get("/_sandbox/").json()["kinds"]:
        made = pay(http, kind)
        rows = tronscan(http, made).get("trc20TransferInfo", [])
        log = node(http, HEAD, made).get("log", [])
        assert [int(row["amount_str"]) for row in rows] == [n for _, n in moved(log)], kind
        seen[kind] = (rows, log, [n for to, n in moved(log) if to == ours])
    assert {kind: amounts for kind, (_, _, amounts) in seen.items()} == {
        **dict.fromkeys(("good", "old", "risky", "transfer-from", "unconfirmed"), [50_000_000]),
        **dict.fromkeys(("failed", "out-of-energy", "trx", "trc10", "not-found"), []),
        "fake-token": [50_000_000],
        "approval": [50_000_000],
        "underpaid": [49_000_000],
        "zero-value": [0],
        "multi": [25_000_000, 25_000_000],
        "wrong-recipient": [],
    }
    row = seen["fake-token"][0][0]
    assert (row["symbol"], row["decimals"], row["tokenType"]) == ("USDT", 6, "trc20")
    assert row["contract_address"] != USDT
    assert seen["approval"][0][0]["type"] == "Approval"
    assert seen["approval"][1][0]["topics"][0].startswith("8c5be1e5")
    assert len(seen["multi"][0]) == 4
    batch = tronscan(http, pay(http, "multi"))
    tokens = {address: info["isToken"] for address, info in batch["contractInfo"].items()}
    assert tokens == {batch["toAddress"]: False, USDT: True}
    assert tronscan(http, pay(http, "trx"))["contractType"] == 1
    assert tronscan(http, pay(http, "trc10"))["riskTransaction"] is True
    relayed = tronscan(http, pay(http, "transfer-from"))
    assert relayed["ownerAddress"] != relayed["trc20TransferInfo"][0]["from_address"]
    age = time.time() - tronscan(http, pay(http, "old"))["timestamp"] / 1000
    assert age > 2 * 86_400


def test_an_unusual_transaction_can_be_written_down(http: httpx.Client) -> None:
    other = "TTRmEA73gpoxK2KRmhL7GtcYLh88VefYss"
    rows = [
        {"from": other, "to": WALLET, "amount": "0.000001"},
        {"from": WALLET, "to": other, "amount": 7, "contract": other},
        {"from": other, "to": WALLET, "amount": 9, "type": "Approval"},
    ]
    body = tronscan(http, pay(http, transfers=rows))
    told = [(r["to_address"], r["amount_str"], r["type"]) for r in body["trc20TransferInfo"]]
    assert told == [
        (WALLET, "1", "Transfer"),
        (other, "7000000", "Transfer"),
        (WALLET, "9000000", "Approval"),
    ]
    assert body["trc20TransferInfo"][1]["contract_address"] == other


def test_unknown_hashes_are_not_errors(http: httpx.Client) -> None:
    assert tronscan(http, "0" * 64) == {}
    assert tronscan(http, pay(http, "not-found")) == {"riskTransaction": False}
    assert tronscan(http, "") == {"message": "some parameters are missing"}
    assert tronscan(http, pay(http).upper()) == {}
    for path in (HEAD, SOLID, "/wallet/gettransactionbyid", "/walletsolidity/gettransactionbyid"):
        answer = http.post(path, json={"value": "0" * 64})
        assert (answer.status_code, answer.json()) == (200, {})
        assert http.post(path).json() == {}
    assert "Error" in http.post(HEAD, content=b"{").json()
    assert "Error" in http.get("/wallet/nothing").json()


def test_a_payment_confirms_when_told_and_the_heights_agree(http: httpx.Client) -> None:
    made = pay(http, "unconfirmed")
    body = tronscan(http, made)
    assert (body["contractRet"], body["confirmed"]) == ("SUCCESS", False)
    assert 0 <= body["confirmations"] <= 18
    assert len(body["srConfirmList"]) == body["confirmations"] + 1
    assert node(http, HEAD, made)["receipt"]["result"] == "SUCCESS"
    assert node(http, SOLID, made) == {}
    assert node(http, "/walletsolidity/gettransactionbyid", made) == {}
    solid = http.get("/walletsolidity/getnowblock").json()["block_header"]["raw_data"]["number"]
    head = http.post("/wallet/getnowblock").json()
    assert int(head["blockID"][:16], 16) == head["block_header"]["raw_data"]["number"]
    assert solid < body["block"] <= head["block_header"]["raw_data"]["number"] + 1
    http.post(f"/_sandbox/payments/{made}", json={"confirms_after": 0}).raise_for_status()
    body = tronscan(http, made)
    assert body["confirmed"]
    assert body["confirmations"] >= 19
    solid = http.get("/walletsolidity/getnowblock").json()["block_header"]["raw_data"]["number"]
    assert node(http, SOLID, made)["blockNumber"] == body["block"] <= solid


def test_a_payment_appears_confirms_and_vanishes_in_its_time() -> None:
    now = [1_800_000_000.0]
    with (
        running_sandbox(SandboxState(clock=lambda: now[0])) as url,
        httpx.Client(base_url=url) as http,
    ):
        made = pay(http, appears_after=10, confirms_after=67, vanishes_after=100)
        seen = []
        for at in (9.9, 10, 66.9, 67, 99.9, 100):
            now[0] = 1_800_000_000.0 + at
            told = tronscan(http, made).get("confirmed"), node(http, HEAD, made).get("id")
            seen.append((*told, node(http, SOLID, made).get("id")))
        unknown, included, solid = (None, None, None), (False, made, None), (True, made, made)
        assert seen == [unknown, included, included, solid, solid, unknown]


def test_a_payment_can_lose_its_block_and_find_another() -> None:
    now = [1_800_000_000.0]
    with (
        running_sandbox(SandboxState(clock=lambda: now[0])) as url,
        httpx.Client(base_url=url) as http,
    ):
        made = pay(http)
        first = tronscan(http, made)["block"]
        change = f"/_sandbox/payments/{made}"
        assert http.post(change, json={"confirms_after": None}).json() == {"changed": 2}
        assert tronscan(http, made)["confirmed"] is False
        now[0] += 60
        http.post(change, json={"confirms_after": 0}).raise_for_status()
        second = tronscan(http, made)["block"]
        assert second == node(http, SOLID, made)["blockNumber"] == first + 20


def test_a_reorganisation_takes_a_payment_away(http: httpx.Client) -> None:
    gone, kept = pay(http), pay(http)
    assert http.delete(f"/_sandbox/payments/{gone}").json() == {"vanished": 1}
    assert tronscan(http, gone) == node(http, HEAD, gone) == {}
    assert http.delete(f"/_sandbox/payments/{gone}").status_code == 404
    assert tronscan(http, kept)["hash"] == kept
    assert http.delete("/_sandbox/payments").json() == {"vanished": 1}
    assert tronscan(http, kept) == {}


def test_services_can_know_different_things(http: httpx.Client) -> None:
    made = pay(http, only="trongrid")
    assert tronscan(http, made) == {}
    assert node(http, SOLID, made)["id"] == made
    made = pay(http, lie={"tronscan": {"amount": 500, "decimals": 2}})
    assert tronscan(http, made)["trc20TransferInfo"][0]["amount_str"] == "500000000"
    assert tronscan(http, made)["trc20TransferInfo"][0]["decimals"] == 2
    assert moved(node(http, SOLID, made)["log"])[0][1] == 50_000_000


def test_many_payments_are_made_at_once(http: httpx.Client) -> None:
    spec = {"count": 2_000, "to": WALLET, "amount": 50, "network": "nile"}
    answer = http.post("/_sandbox/payments", json=spec)
    hashes = answer.json()["transaction_hashes"]
    assert (answer.status_code, len(set(hashes))) == (201, 2_000)
    row = tronscan(http, hashes[-1])["trc20TransferInfo"][0]
    assert row["contract_address"] == "TXYZopYRdj2D9XRtbG411XZZ3kM5VkAeBf"


@pytest.mark.parametrize(
    ("path", "spec", "said"),
    [
        ("payments", {"kind": "bad"}, "kind is one of"),
        ("payments", {"kind": "good", "amount": 1}, "to"),
        ("payments", {"to": WALLET}, "amount"),
        ("payments", {"to": WALLET.lower(), "amount": 1}, "not a TRON address"),
        ("payments", {"to": WALLET, "amount": "1.0000001"}, "six decimals"),
        ("payments", {"to": WALLET, "amount": 1, "time": "2026-01-01T00:00:00"}, "time looks"),
        ("payments", {"to": WALLET, "amount": 1, "hash": "AB" * 32}, "lower-case"),
        ("payments", {"to": WALLET, "amount": 1, "confirm_after": 1}, "no field 'confirm_after'"),
        ("payments", {"to": WALLET, "amount": 1, "only": "etherscan"}, "source"),
        ("payments", {"to": WALLET, "amount": 1, "count": 0}, "count"),
        ("faults", {"service": "tronscan", "fault": "gremlins"}, "fault is one of"),
        ("faults", {"service": "bitcoin", "fault": "500"}, "service is one of"),
        ("faults", {"service": "tronscan", "fault": "500", "times": 0}, "times"),
        ("latency", {"service": "tronscan", "seconds": -1}, "seconds"),
        ("keys", {"service": "telegram", "accepted": []}, "service"),
        ("telegram", {"blocked": 1}, "blocked is a list"),
        ("telegram", {"group": {"members": {}}}, "needs its id"),
        ("telegram", {"limits": {"per_day": 1}}, "no field 'per_day'"),
        ("payments", [], "JSON object"),
    ],
)
def test_mistakes_get_a_sentence(http: httpx.Client, path: str, spec: object, said: str) -> None:
    answer = http.post(f"/_sandbox/{path}", json=spec)
    assert answer.status_code == 400
    assert said in answer.json()["error"]


def test_what_is_not_json_and_what_has_no_route_gets_json(http: httpx.Client) -> None:
    assert "not JSON" in http.post("/_sandbox/reset", content=b"{").json()["error"]
    assert http.get("/_sandbox/nothing").status_code == 404
    assert "Error" in http.get("/_sandbox/nothing").json()
    assert http.put("/_sandbox/payments").status_code == 405
    routes = http.get("/_sandbox").json()["routes"]
    assert "POST /_sandbox/faults" in routes
    assert all(routes.values())
