"""A stored payment as a full node tells it."""

import hashlib
from collections.abc import Callable
from typing import Any

from buffettsbot.http.sandbox.replies import RECORDED, dump
from buffettsbot.http.sandbox.tron.chain import Payment, Transfer, time_of, to_hex

Body = dict[str, Any]
# A payment, the time (s since 1970), and whether addresses are shown in base58: a body.
Tell = Callable[[Payment, float, bool], bytes]

# USDT's transfer returns nothing, so a success looks like a no; a revert is Error(string).
RESULTS = {"SUCCESS": "0" * 64, "REVERT": f"08c379a0{32:064x}{0:064x}"}


def calldata(payment: Payment) -> str:
    """Return what the signer called; in 2020 the padding of an address still held its 41."""
    method = RECORDED["methods"][payment.method]
    words = [str(method["selector"])]
    for source in method["arguments"].values():
        value = getattr(payment.call, source)
        raw = f"{value:x}" if isinstance(value, int) else to_hex(value)
        words.append((raw if payment.old_format or source == "amount" else raw[2:]).zfill(64))
    return "".join(words)


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
    return str(RECORDED["failures"].get(payment.result, payment.result))


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
    spent = RECORDED["spent"]
    if not payment.is_call:
        native = {"contractResult": [""], "receipt": spent["native"]}
        return dump({"id": payment.hash, **block, **native})
    called = {
        "contractResult": [RESULTS.get(payment.result, "")],
        "contract_address": _address(payment.target, visible),
    }
    if payment.failed:
        reason = failure(payment)
        outcome = {
            "receipt": spent["failed"] | {"result": payment.result},
            "result": "FAILED",
            "resMessage": reason if visible else reason.encode().hex(),
        }
        return dump({"id": payment.hash, "fee": 554_120, **block, **called, **outcome})
    log = [_event(transfer, visible) for transfer in payment.transfers]
    outcome = {"receipt": spent["worked"], **({"log": log} if log else {})}
    return dump({"id": payment.hash, "fee": 345_000, **block, **called, **outcome})


def _event(transfer: Transfer, visible: bool) -> Body:
    """Return one entry of the event log, where addresses go without their 41."""
    people = (transfer.sender, transfer.recipient)
    return {
        "address": transfer.contract if visible else to_hex(transfer.contract)[2:],
        "topics": [
            RECORDED["topics"][transfer.type],
            *(to_hex(person)[2:].zfill(64) for person in people),
        ],
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
