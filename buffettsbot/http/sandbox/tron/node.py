"""A stored payment as a full node tells it."""

import hashlib
from collections.abc import Callable
from typing import Any

from buffettsbot.http.sandbox.replies import dump
from buffettsbot.http.sandbox.tron.chain import Payment, Transfer, time_of, to_hex

Body = dict[str, Any]
# A payment, the time (s since 1970), and whether addresses are shown in base58: a body.
Tell = Callable[[Payment, float, bool], bytes]

TOPICS = {
    "Transfer": "ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef",
    "Approval": "8c5be1e5ebec7d5bd14f71427d1e84f3dd0314c0f7b2291e5b200ac8c7c3b925",
}
# method: (selector, signature, the arguments' names and where they come from)
METHODS: dict[str, tuple[str, str, dict[str, str]]] = {
    "transfer": (
        "a9059cbb",
        "transfer(address _to,uint256 _value)",
        {"_to": "recipient", "_value": "amount"},
    ),
    "transferFrom": (
        "23b872dd",
        "transferFrom(address _from,address _to,uint256 _value)",
        {"_from": "sender", "_to": "recipient", "_value": "amount"},
    ),
    "approve": (
        "095ea7b3",
        "approve(address _spender,uint256 _value)",
        {"_spender": "recipient", "_value": "amount"},
    ),
    "multiTransfer": ("ad718d2a", "multiTransfer(address[] _to,uint256[] _value)", {}),
}
# USDT's transfer returns nothing, so a success looks like a no; a revert is Error(string).
RESULTS = {"SUCCESS": "0" * 64, "REVERT": f"08c379a0{32:064x}{0:064x}"}
FAILURES = {
    "REVERT": "REVERT opcode executed",
    "OUT_OF_ENERGY": "Not enough energy for 'SSTORE' operation executing: "
    "curInvokeEnergyLimit[78572], curOpEnergy[20000], penaltyEnergy[68000], usedEnergy[33567]",
}


SPENT = {"energy_usage": 64_285, "energy_usage_total": 64_285, "net_fee": 345_000}
SPENT_IN_VAIN = {"energy_fee": 554_120, "energy_usage_total": 1_979, "net_usage": 345}


def calldata(payment: Payment) -> str:
    """Return what the signer called; in 2020 the padding of an address still held its 41."""
    selector, _, arguments = METHODS[payment.method]
    words = []
    for source in arguments.values():
        value = getattr(payment.call, source)
        raw = f"{value:x}" if isinstance(value, int) else to_hex(value)
        words.append((raw if payment.old_format or source == "amount" else raw[2:]).zfill(64))
    return selector + "".join(words)


def contract_data(payment: Payment) -> Body:
    """Return what was signed, with addresses in base58."""
    call = payment.call
    if payment.asset == "trx":
        return {"amount": call.amount, "owner_address": call.sender, "to_address": call.recipient}
    if payment.asset == "trc10":
        return {
            "amount": call.amount,
            "asset_name": "1005002",
            "owner_address": call.sender,
            "to_address": call.recipient,
        }
    return {
        "data": calldata(payment),
        "owner_address": payment.owner,
        "contract_address": payment.target,
    }


def failure(payment: Payment) -> str:
    """Return why the call had no effect, in the node's words."""
    return FAILURES.get(payment.result, payment.result)


def _address(address: str, visible: bool) -> str:
    return address if visible else to_hex(address)


def transaction(payment: Payment, now: float, visible: bool) -> bytes:
    """Given a payment, return what `gettransactionbyid` says of it."""
    kinds = {"trx": "TransferContract", "trc10": "TransferAssetContract"}
    kind = kinds.get(payment.asset, "TriggerSmartContract")
    signed = {
        key: _address(value, visible) if key.endswith("_address") else value
        for key, value in contract_data(payment).items()
    }
    contract = {
        "parameter": {"value": signed, "type_url": f"type.googleapis.com/protocol.{kind}"},
        "type": kind,
    }
    raw = {
        "contract": [contract],
        "ref_block_bytes": payment.hash[:4],
        "ref_block_hash": payment.hash[4:20],
        "expiration": payment.milliseconds + 57_000,
        **({"fee_limit": 30_000_000} if payment.is_call else {}),
        "timestamp": payment.milliseconds - 3_000,
    }
    body = {
        **({"visible": True} if visible else {}),
        "ret": [{"contractRet": payment.result}],
        "signature": [payment.hash * 2 + "00"],
        "txID": payment.hash,
        "raw_data": raw,
        "raw_data_hex": "0a02" + payment.hash,
    }
    return dump(body)


def receipt(payment: Payment, now: float, visible: bool) -> bytes:
    """Given a payment, return what `gettransactioninfobyid` says of it."""
    block = {"blockNumber": payment.block(now), "blockTimeStamp": payment.milliseconds}
    if not payment.is_call:
        native = {"contractResult": [""], "receipt": {"net_usage": 265}}
        return dump({"id": payment.hash, **block, **native})
    body: Body = {
        "id": payment.hash,
        "fee": 554_120 if payment.failed else 345_000,
        **block,
        "contractResult": [RESULTS.get(payment.result, "")],
        "contract_address": _address(payment.target, visible),
    }
    if payment.failed:
        reason = failure(payment)
        body["receipt"] = {**SPENT_IN_VAIN, "result": payment.result}
        body["result"] = "FAILED"
        body["resMessage"] = reason if visible else reason.encode().hex()
        return dump(body)
    body["receipt"] = {**SPENT, "result": payment.result, "energy_penalty_total": 49_635}
    if payment.transfers:
        body["log"] = [_event(transfer, visible) for transfer in payment.transfers]
    return dump(body)


def _event(transfer: Transfer, visible: bool) -> Body:
    """Return one entry of the event log, where addresses go without their 41."""
    people = (transfer.sender, transfer.recipient)
    return {
        "address": transfer.contract if visible else to_hex(transfer.contract)[2:],
        "topics": [TOPICS[transfer.type], *(to_hex(person)[2:].zfill(64) for person in people)],
        "data": f"{transfer.amount:064x}",
    }


def block(number: int) -> bytes:
    """Given a height, return what `getnowblock` says when the chain is there."""
    header = {
        "number": number,
        "txTrieRoot": "0" * 64,
        "witness_address": "41e7860196ad5b5718c1d6326babab039b70b8c1cd",
        "parentHash": _block_id(number - 1),
        "version": 34,
        "timestamp": time_of(number) * 1000,
    }
    signed = {"raw_data": header, "witness_signature": "55a2" + "0" * 126}
    return dump({"blockID": _block_id(number), "block_header": signed})


def _block_id(number: int) -> str:
    return f"{number:016x}{hashlib.sha256(str(number).encode()).hexdigest()[:48]}"
