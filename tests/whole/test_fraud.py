"""One test for each row of the project's table of how hash-based payment goes wrong (facts/fraud).

Rows about Telegram alone (invite links, admin rights, mass removal) are tested where they live.
The claims here go the whole way: from the bytes a service sends to the row in the ledger.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from helpers import (
    DAY,
    EXPECTATION,
    FAKE_USDT,
    MINUTE,
    NOW,
    SENDER,
    STRANGER,
    USDT,
    WALLET,
    buy,
    hash_of,
    ledger,
    membership,
    person,
    queued,
    rows,
    shop,
    staff,
)
from loopback import DATA, Answer, Asked, Loopback, as_json, recorded

from buffettsbot.core.chain.judge import Expectation, Reason
from buffettsbot.core.chain.sources import Chain
from buffettsbot.core.chain.tron.service import Service
from buffettsbot.core.chain.tron.trongrid import TRANSFER_TOPIC, Trongrid
from buffettsbot.core.chain.tron.tronscan import Tronscan
from buffettsbot.core.ledger.claims import claim
from buffettsbot.core.ledger.outcome import Outcome
from buffettsbot.core.ledger.payments import show_payment
from buffettsbot.core.ledger.settle import settle
from buffettsbot.core.members.users import register
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import Subscription
from buffettsbot.core.wire import Wire

pytestmark = pytest.mark.slow

HASH = hash_of(0xFEE)


@pytest.fixture(autouse=True)
def _ann_and_a_month(db: Database) -> None:
    person(db)
    person(db, 8, "bob")
    shop(db)


@pytest.fixture
def tronscan(loopback: Loopback) -> Iterator[Chain]:
    """A chain whose only source is Tronscan, as `loopback` plays it."""
    wire = Wire()
    yield Chain([Tronscan(Service(wire, loopback.url, []))], ask_seconds=2)
    wire.close()


@pytest.fixture
def both(loopback: Loopback) -> Iterator[Chain]:
    """A chain of Tronscan and TronGrid, as `loopback` plays them."""
    wire = Wire()
    services = [Service(wire, loopback.url, []) for _ in range(2)]
    yield Chain([Tronscan(services[0]), Trongrid(services[1])], ask_seconds=2)
    wire.close()


def transfer(usdt: float = 50, **changes: Any) -> dict[str, Any]:
    """Return an entry of Tronscan's transfer list that pays the wallet, unless changed."""
    body = json.loads((DATA / "tron/tronscan/success.json").read_text())
    entry: dict[str, Any] = body["trc20TransferInfo"][0]
    paying = {"to_address": WALLET, "from_address": SENDER, "amount_str": str(int(usdt * 1e6))}
    return entry | paying | changes


def tronscan_body(*transfers: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return Tronscan's body of a transaction with these transfers (one good one, unless given)."""
    body: dict[str, Any] = json.loads((DATA / "tron/tronscan/success.json").read_text())
    moved = list(transfers) or [transfer()]
    return (
        body
        | {
            "hash": HASH,
            "timestamp": int((NOW - MINUTE).timestamp() * 1000),
            "trc20TransferInfo": moved,
            "transfersAllList": moved,
            "tokenTransferInfo": moved[0],
        }
        | changes
    )


def trongrid_body(usdt: float = 50, **changes: Any) -> dict[str, Any]:
    """Return a full node's info of a transaction that pays the wallet."""
    word = "0" * 24
    topics = [
        TRANSFER_TOPIC,
        word + "89cbcb2372e1c2fbc00f24895a406a0c722c89f3",
        word + "f5fbe5e8725957174014dca1dc4fed54e970a2f8",
    ]
    return {
        "id": HASH,
        "blockNumber": 1,
        "blockTimeStamp": int((NOW - MINUTE).timestamp() * 1000),
        "contract_address": "41a614f803b6fd780986a42c78ec9c7f77e6ded13c",
        "receipt": {"result": "SUCCESS"},
        "log": [
            {
                "address": "a614f803b6fd780986a42c78ec9c7f77e6ded13c",
                "topics": topics,
                "data": f"{int(usdt * 1e6):064x}",
            }
        ],
    } | changes


def claimed(
    db: Database,
    chain: Chain,
    text: str = HASH,
    *,
    who: str | int = 7,
    now: datetime = NOW,
    expectation: Expectation = EXPECTATION,
) -> Outcome:
    return claim(
        db, chain, expectation, person=who, period="1 month", transaction_hash=text, now=now
    )


def reason(outcome: Outcome) -> Reason:
    return outcome.verdict.reason


def test_a_stranger_claims_someone_elses_public_hash(
    db: Database, tronscan: Chain, loopback: Loopback
) -> None:
    """The first valid claim wins, and the ledger shows sender and claimant."""
    staff(db, 1)
    loopback.answer = as_json(tronscan_body())
    assert reason(claimed(db, tronscan, who=7)) is Reason.ACCEPTED
    assert reason(claimed(db, tronscan, who=8)) is Reason.ALREADY_USED
    shown = [(e["customer_id"], e["status"], e["sender"]) for e in show_payment(db, HASH)]
    assert shown == [(7, "accepted", SENDER), (8, "refused", None)]
    assert len(loopback.asked) == 1


def test_replay(db: Database, tronscan: Chain, loopback: Loopback) -> None:
    """Folded case and 0x, one canonical hash, a ledger that never forgets."""
    loopback.answer = as_json(tronscan_body())
    claimed(db, tronscan)
    buy(db, hash_of(2), now=NOW + DAY)
    for spelling in (HASH, HASH.upper(), "0x" + HASH, f"https://tronscan.org/#/transaction/{HASH}"):
        assert reason(claimed(db, tronscan, spelling, who=8, now=NOW + 99 * DAY)) is (
            Reason.ALREADY_USED
        )
        claimed(db, tronscan, spelling, now=NOW + 99 * DAY)
    assert membership(db).end_date == NOW + 60 * DAY


def test_fake_usdt(db: Database, tronscan: Chain, loopback: Loopback) -> None:
    """The contract is pinned; symbol, name, logo and `vip` are not believed."""
    loopback.answer = as_json(tronscan_body(transfer(contract_address=FAKE_USDT)))
    assert reason(claimed(db, tronscan)) is Reason.NO_USDT_TRANSFER


@pytest.mark.parametrize("decimals", [0, 2, 18, -6, "6", None])
def test_forged_decimals(db: Database, tronscan: Chain, loopback: Loopback, decimals: Any) -> None:
    """Six decimals, whatever the answer says."""
    loopback.answer = as_json(tronscan_body(transfer(0.5, decimals=decimals)))
    assert reason(claimed(db, tronscan)) is Reason.UNDERPAID
    assert ledger(db)[0].amount == 500_000


@pytest.mark.parametrize("result", ["OUT_OF_ENERGY", "REVERT"])
def test_failed_transaction(db: Database, tronscan: Chain, loopback: Loopback, result: str) -> None:
    """`confirmed: true, revert: false` with the payee and the full amount everywhere."""
    parameter = {"_to": WALLET, "_value": "50000000"}
    loopback.answer = as_json(
        tronscan_body(contractRet=result, revert=False, trigger_info={"parameter": parameter})
    )
    assert reason(claimed(db, tronscan)) is Reason.FAILED_TRANSACTION


def test_transient_false_revert(db: Database, both: Chain, loopback: Loopback) -> None:
    """Before finality a REVERT is pending; it became a success, and is sold."""
    reverted = tronscan_body(contractRet="REVERT", confirmed=False)
    on_the_node = trongrid_body(receipt={"result": "REVERT"})
    loopback.answer = _by_path(reverted, solid={}, full=on_the_node)
    assert reason(claimed(db, both)) is Reason.UNCONFIRMED
    loopback.answer = _by_path(tronscan_body())
    settle(db, both, EXPECTATION, now=NOW + MINUTE)
    assert ledger(db)[0].status == "accepted"


def _by_path(scan: Any, solid: Any = None, full: Any = None) -> Any:
    def answer(asked: Asked) -> Answer:
        if asked.path.startswith("/api/"):
            return scan if isinstance(scan, Answer) else as_json(scan)
        said = solid if asked.path.startswith("/walletsolidity") else full
        return said if isinstance(said, Answer) else as_json(said or {})

    return answer


def test_unconfirmed_reorganised(db: Database, both: Chain, loopback: Loopback) -> None:
    """SUCCESS before it is final is pending; a transaction that vanishes is never sold."""
    open_scan = tronscan_body(confirmed=False)
    loopback.answer = _by_path(open_scan, solid={}, full=trongrid_body())
    assert reason(claimed(db, both)) is Reason.UNCONFIRMED
    loopback.answer = _by_path({})
    settle(db, both, EXPECTATION, now=NOW + MINUTE)
    assert (ledger(db)[0].status, ledger(db)[0].reason) == ("pending", "not-found")
    settle(db, both, EXPECTATION, now=NOW + 2 * DAY)
    assert (ledger(db)[0].status, ledger(db)[0].reason) == ("refused", "never-found")
    assert rows(db, Subscription) == []


def test_zero_value_transfer_from_address_poisoning(
    db: Database, tronscan: Chain, loopback: Loopback
) -> None:
    """Nothing moved, whoever is named; the look-alike address gets a warning in words."""
    loopback.answer = as_json(tronscan_body(transfer(0)))
    assert reason(claimed(db, tronscan)) is Reason.NO_USDT_TRANSFER
    loopback.answer = as_json(tronscan_body(transfer(50, to_address=STRANGER)))
    outcome = claimed(db, tronscan, now=NOW + MINUTE)
    assert reason(outcome) is Reason.WRONG_RECIPIENT
    assert "never copy it from the history" in outcome.verdict.detail


@pytest.mark.parametrize("order", [1, -1])
def test_several_transfers_in_one_transaction(
    db: Database, tronscan: Chain, loopback: Loopback, order: int
) -> None:
    """A batch withdrawal: only what reached the wallet counts, in any order."""
    batch = [
        transfer(900, to_address=STRANGER),
        transfer(20),
        transfer(700, contract_address=FAKE_USDT),
        transfer(600, type="Approval"),
        transfer(30),
    ]
    loopback.answer = as_json(tronscan_body(*batch[::order]))
    assert reason(claimed(db, tronscan)) is Reason.ACCEPTED
    assert ledger(db)[0].amount == 50_000_000


def test_payer_is_not_the_transactions_owner(
    db: Database, tronscan: Chain, loopback: Loopback
) -> None:
    """A relayer sends it, `toAddress` is a contract: the event says who paid whom."""
    loopback.answer = as_json(
        tronscan_body(ownerAddress=STRANGER, toAddress=USDT, contract_type="trc10", trigger_info={})
    )
    assert reason(claimed(db, tronscan)) is Reason.ACCEPTED
    assert ledger(db)[0].sender == SENDER


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (recorded("tronscan/not-found.json"), Reason.NOT_FOUND),
        (recorded("tronscan/not-found-risk-flag.json"), Reason.NOT_FOUND),
        (recorded("tronscan/success.json"), Reason.SOURCE_UNAVAILABLE),
        (recorded("tronscan/empty.txt"), Reason.SOURCE_UNAVAILABLE),
        (recorded("tronscan/error-suspended.json"), Reason.SOURCE_UNAVAILABLE),
        (recorded("tronscan/error-forbidden.html", 403), Reason.SOURCE_UNAVAILABLE),
        (Answer(reset=True), Reason.SOURCE_UNAVAILABLE),
    ],
    ids=["empty-object", "risk-flag", "another-hash", "nothing", "limit", "html", "reset"],
)
def test_hostile_stale_or_empty_api(
    db: Database, tronscan: Chain, loopback: Loopback, answer: Answer, why: Reason
) -> None:
    """The returned hash is compared, and "not found" is undecided."""
    loopback.answer = answer
    outcome = claimed(db, tronscan)
    assert (reason(outcome), outcome.verdict.verdict) == (why, "pending")
    assert [entry.status for entry in ledger(db)] == ["pending"]


def test_hostile_api_is_outvoted_by_the_second_source(
    db: Database, both: Chain, loopback: Loopback
) -> None:
    """With a quorum, a source that invents a payment sells nothing."""
    both.quorum = 2
    loopback.answer = _by_path(tronscan_body(), solid=trongrid_body(usdt=1))
    assert reason(claimed(db, both)) is Reason.SOURCES_DISAGREE
    loopback.answer = _by_path(tronscan_body(), solid=trongrid_body())
    assert reason(claimed(db, both, now=NOW + MINUTE)) is Reason.ACCEPTED


def test_tainted_funds(db: Database, tronscan: Chain, loopback: Loopback) -> None:
    """Held for review where the owner asks for it; sold where not."""
    loopback.answer = as_json(tronscan_body(riskTransaction=True))
    holding = replace(EXPECTATION, hold_risky=True)
    assert reason(claimed(db, tronscan, expectation=holding)) is Reason.HELD_FOR_REVIEW
    assert rows(db, Subscription) == []
    loopback.answer = as_json(tronscan_body(riskTransaction=True, hash=hash_of(2)))
    assert reason(claimed(db, tronscan, hash_of(2))) is Reason.ACCEPTED


def test_username_takeover(db: Database, tronscan: Chain, loopback: Loopback) -> None:
    """A membership belongs to the numeric id: who takes the name takes nothing else."""
    loopback.answer = as_json(tronscan_body())
    claimed(db, tronscan, who="ann")
    register(db, chat_id=8, telegram_username="ann", now=NOW)
    assert reason(claimed(db, tronscan, who="ann")) is Reason.ALREADY_USED
    assert [s.customer_id for s in rows(db, Subscription)] == [7]


# What users of other systems ask for most.


def test_paid_but_undetected_while_the_api_throttled(
    db: Database, both: Chain, loopback: Loopback
) -> None:
    limit = recorded("tronscan/error-suspended.json")
    loopback.answer = _by_path(limit, solid=limit, full=limit)
    assert reason(claimed(db, both)) is Reason.SOURCE_UNAVAILABLE
    loopback.answer = _by_path(limit, solid=trongrid_body())
    fresh = Wire()
    chain = Chain([Trongrid(Service(fresh, loopback.url, []))])
    settle(db, chain, EXPECTATION, now=NOW + 3 * DAY)
    fresh.close()
    assert ledger(db)[0].status == "accepted"
    assert queued(db, 7) == ["payment-pending", "welcome"]


def test_several_rotating_api_keys(db: Database, loopback: Loopback) -> None:
    def answer(asked: Asked) -> Answer:
        if asked.headers["tron-pro-api-key"] == "good":
            return as_json(tronscan_body())
        return recorded("tronscan/error-too-quickly.json", 403)

    loopback.answer = answer
    wire = Wire()
    chain = Chain([Tronscan(Service(wire, loopback.url, ["tired", "spent", "good"]))])
    assert reason(claimed(db, chain)) is Reason.ACCEPTED
    wire.close()


def test_exchange_fee_leaves_the_payment_short(
    db: Database, tronscan: Chain, loopback: Loopback
) -> None:
    loopback.answer = as_json(tronscan_body(transfer(49)))
    assert reason(claimed(db, tronscan)) is Reason.UNDERPAID
    forgiving = replace(EXPECTATION, tolerance=1_000_000)
    again = claimed(db, tronscan, now=NOW + MINUTE, expectation=forgiving)
    assert reason(again) is Reason.ACCEPTED


def test_early_renewal_loses_days(db: Database) -> None:
    buy(db, hash_of(1))
    buy(db, hash_of(2), now=NOW + timedelta(days=10))
    assert membership(db).end_date == NOW + timedelta(days=60)


def test_paid_twice(db: Database) -> None:
    """Two payments buy two periods; nothing is swallowed."""
    buy(db, hash_of(1))
    buy(db, hash_of(2))
    assert membership(db).end_date == NOW + timedelta(days=60)
    assert [entry.status for entry in ledger(db)] == ["accepted", "accepted"]


def test_one_failure_must_not_stop_the_batch(
    db: Database, tronscan: Chain, loopback: Loopback
) -> None:
    for number, who in ((1, 7), (2, 8)):
        claim(
            db,
            None,
            EXPECTATION,
            person=who,
            period="1 month",
            transaction_hash=hash_of(number),
            now=NOW,
        )

    def answer(asked: Asked) -> Answer:
        if asked.query["hash"] == [hash_of(1)]:
            return Answer(b"<html>")
        return as_json(tronscan_body(hash=hash_of(2)))

    loopback.answer = answer
    report = settle(db, tronscan, EXPECTATION, now=NOW + MINUTE)
    assert (report.due, report.done, report.skipped) == (2, 1, 1)
    assert [entry.status for entry in ledger(db)] == ["pending", "accepted"]
