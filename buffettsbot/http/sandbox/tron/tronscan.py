"""A stored payment as Tronscan tells it: the body of `/api/transaction-info`."""

import hashlib

from buffettsbot.http.sandbox.replies import dump
from buffettsbot.http.sandbox.tron.chain import (
    BLOCKS_TO_SOLID,
    USDT,
    Payment,
    Transfer,
    block_at,
    to_base58,
)
from buffettsbot.http.sandbox.tron.node import METHODS, Body, contract_data, failure

OFFICIAL = frozenset(USDT.values())
USDT_LOGO = "https://static.tronscan.org/production/logo/usdtlogo.png"
OTHER_LOGO = "https://static.tronscan.org/production/logo/default.png"
PRODUCERS = [
    {"address": "TCEo1hMAdaJrQmvnGTCcGT2LqrGU4N7Jqf", "name": "TRONScan"},
    {"address": "TTcYhypP8m4phDhN6oRexz2174zAerjEWP", "name": "CryptoGuyInZA"},
    *(
        {"address": to_base58(hashlib.sha256(bytes([n])).digest()[:20]), "name": f"SR {n}"}
        for n in range(3, BLOCKS_TO_SOLID + 2)
    ),
]

TRC10 = {"tokenId": "1005002", "tokenAbbr": "", "tokenDecimal": 6, "tokenType": "trc10"}
COST = {
    "multi_sign_fee": 0, "net_fee": 0, "energy_penalty_total": 17_245, "net_fee_cost": 1_000,
    "energy_usage": 31_895, "fee": 0, "energy_fee_cost": 420, "energy_fee": 0,
    "energy_usage_total": 31_895, "memoFee": 0, "origin_energy_usage": 0, "net_usage": 345,
}  # fmt: skip
COST_IN_VAIN = {
    "net_fee": 0, "energy_usage": 0, "fee": 554_120, "energy_fee": 554_120,
    "energy_usage_total": 1_979, "origin_energy_usage": 0, "net_usage": 345,
}  # fmt: skip


def tronscan(payment: Payment, now: float) -> bytes:
    """Given a payment, return what `/api/transaction-info` says of it."""
    block, confirmed = payment.block(now), payment.confirmed(now)
    confirmations = block_at(now) - block
    if confirmed:
        confirmations = max(BLOCKS_TO_SOLID + 1, confirmations)
    else:
        confirmations = min(max(0, confirmations), BLOCKS_TO_SOLID)
    moved = (payment.call, *payment.transfers)
    people = dict.fromkeys(who for each in moved for who in (each.sender, each.recipient))
    called = [payment.target, *(each.contract for each in payment.transfers)]
    contracts = dict.fromkeys(called if payment.is_call else [])
    rows = _transfer_rows(payment)
    body: Body = {
        "contract_map": {**dict.fromkeys(people, False), **dict.fromkeys(contracts, True)},
        "contractRet": payment.result,
        "data": "",
        "contractInfo": {address: _contract_info(payment, address) for address in contracts},
        "contractType": {"trx": 1, "trc10": 2}.get(payment.asset, 31),
        "event_count": len(payment.transfers),
        "project": "",
        "toAddress": payment.target,
        "confirmed": confirmed,
        "trc20TransferInfo": rows,
        "transfersAllList": rows,
        "block": block,
        "triggerContractType": 500,
        "riskTransaction": payment.risk or payment.asset == "trc10",
        "timestamp": payment.milliseconds,
        "info": {"resMessage": failure(payment)} if payment.failed else {},
        "normalAddressInfo": {address: {"risk": False} for address in [*people, *contracts]},
        "cost": COST_IN_VAIN if payment.failed else COST,
        "addressTag": {},
        "revert": False,
        "confirmations": confirmations,
        "fee_limit": 30_000_000,
        "tokenTransferInfo": rows[0] if rows else {},
        "contract_type": "trc20",
        "trigger_info": _trigger_info(payment),
        "signature_addresses": [],
        "ownerAddress": payment.owner,
        "srConfirmList": _producers(block, 19 if confirmed else confirmations + 1),
        "hash": payment.hash,
        "contractData": _contract_data(payment),
        "internal_transactions": "" if payment.old_format and not payment.is_call else {},
    }
    _leave_out(payment, body)
    return dump(body)


def _leave_out(payment: Payment, body: Body) -> None:
    """Remove the keys that Tronscan has no use for in this kind of transaction."""
    failed, native = payment.failed, not payment.is_call
    rows = body["trc20TransferInfo"]
    if payment.transfer_keys == "absent" or (not rows and payment.transfer_keys != "empty"):
        for key in ("trc20TransferInfo", "transfersAllList", "tokenTransferInfo"):
            del body[key]
    if failed or native:
        del body["triggerContractType"], body["addressTag"]
    if native:
        del body["contract_type"], body["contractInfo"]
        body.update({"cheat_status": 0, "noteLevel": 3 if payment.asset == "trc10" else 1})


def _transfer_rows(payment: Payment) -> list[Body]:
    """Return the transfer list: the event log, or by `transfer_keys` nothing, or the call."""
    if payment.transfer_keys == "empty":
        return []
    if payment.transfer_keys == "present" and not payment.transfers:
        return [_transfer_row(payment, payment.call)]
    return [_transfer_row(payment, transfer) for transfer in payment.transfers]


def _transfer_row(payment: Payment, transfer: Transfer) -> Body:
    official = transfer.contract in OFFICIAL
    row: Body = {
        "icon_url": USDT_LOGO if official else OTHER_LOGO,
        "symbol": payment.symbol,
        "level": "2" if official else "0",
        "to_address": transfer.recipient,
        "contract_address": transfer.contract,
        "type": transfer.type,
        "decimals": payment.decimals,
        "name": "Tether USD",
        "vip": official,
        "tokenType": "trc20",
        "from_address": transfer.sender,
        "amount_str": str(transfer.amount),
        "status": 0,
    }
    if payment.old_format:
        for key in ("level", "vip", "tokenType", "status"):
            del row[key]
    return row


def _contract_info(payment: Payment, address: str) -> Body:
    if address not in [transfer.contract for transfer in (payment.call, *payment.transfers)]:
        return {"isToken": False, "tag1": "", "tag1Url": "", "name": "Router", "risk": False}
    official = address in OFFICIAL
    return {
        "isToken": True,
        "tag1": "USDT Token" if official else "",
        "tag1Url": "https://tron.network/usdt" if official else "",
        "name": "TetherToken",
        "risk": False,
        "vip": official,
    }


def _trigger_info(payment: Payment) -> Body:
    if not payment.is_call:
        return {}
    selector, signature, arguments = METHODS[payment.method]
    values = {name: str(getattr(payment.call, source)) for name, source in arguments.items()}
    return {
        "method": signature,
        "parameter": dict(sorted(values.items(), reverse=True)),
        "methodId": selector,
        "contract_address": payment.target,
        "call_value": 0,
    }


def _contract_data(payment: Payment) -> Body:
    data = contract_data(payment)
    if payment.asset == "trc10":
        data["tokenInfo"] = {**TRC10, "tokenAbbr": payment.symbol}
    return data


def _producers(block: int, count: int) -> list[Body]:
    return [
        {**producer, "block": block + n, "url": "https://tronscan.org"}
        for n, producer in enumerate(PRODUCERS[:count])
    ]
