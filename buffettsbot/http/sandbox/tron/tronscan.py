"""A stored payment as Tronscan tells it: the body of `/api/transaction-info`."""

import hashlib

from buffettsbot.http.sandbox.replies import RECORDED, dump
from buffettsbot.http.sandbox.tron.chain import (
    BLOCKS_TO_SOLID,
    USDT,
    Payment,
    Transfer,
    block_at,
    to_base58,
)
from buffettsbot.http.sandbox.tron.node import Body, contract_data, failure

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


def tronscan(payment: Payment, now: float) -> bytes:
    """Given a payment, return what `/api/transaction-info` says of it.

    A key whose value below is None is one that Tronscan leaves out of such a transaction.
    """
    rows = _transfer_rows(payment)
    body = _called(payment, now, rows) | _included(payment, now, rows)
    return dump({key: value for key, value in body.items() if value is not None})


def _called(payment: Payment, now: float, rows: list[Body] | None) -> Body:
    """Return the first half: who called what, and what moved."""
    moved = (payment.call, *payment.transfers)
    people = dict.fromkeys(who for each in moved for who in (each.sender, each.recipient))
    called = [payment.target, *(each.contract for each in payment.transfers)]
    contracts = dict.fromkeys(called if payment.is_call else [])
    return {
        "contract_map": {**dict.fromkeys(people, False), **dict.fromkeys(contracts, True)},
        "contractRet": payment.result,
        "data": "",
        "contractInfo": {each: _contract_info(payment, each) for each in contracts} or None,
        "contractType": {"trx": 1, "trc10": 2}.get(payment.asset, 31),
        "event_count": len(payment.transfers),
        "project": "",
        "toAddress": payment.target,
        "confirmed": payment.confirmed(now),
        "trc20TransferInfo": rows,
        "transfersAllList": rows,
        "block": payment.block(now),
        "triggerContractType": 500 if payment.is_call and not payment.failed else None,
        "riskTransaction": payment.risk or payment.asset == "trc10",
        "timestamp": payment.milliseconds,
        "info": {"resMessage": failure(payment)} if payment.failed else {},
        "normalAddressInfo": {address: {"risk": False} for address in [*people, *contracts]},
    }


def _included(payment: Payment, now: float, rows: list[Body] | None) -> Body:
    """Return the second half: at what cost, who confirmed it, and what was signed."""
    block = payment.block(now)
    confirmations = block_at(now) - block
    if payment.confirmed(now):
        confirmations = max(BLOCKS_TO_SOLID + 1, confirmations)
    else:
        confirmations = min(max(0, confirmations), BLOCKS_TO_SOLID)
    first = rows[0] if rows else {}
    return {
        "cost": RECORDED["cost"]["failed" if payment.failed else "worked"],
        "addressTag": {} if payment.is_call and not payment.failed else None,
        "revert": False,
        "confirmations": confirmations,
        "fee_limit": 30_000_000,
        "tokenTransferInfo": None if rows is None else first,
        "contract_type": "trc20" if payment.is_call else None,
        "trigger_info": _trigger_info(payment),
        "signature_addresses": [],
        "ownerAddress": payment.owner,
        "srConfirmList": [
            {**producer, "block": block + n, "url": "https://tronscan.org"}
            for n, producer in enumerate(PRODUCERS[: confirmations + 1])
        ],
        "hash": payment.hash,
        "contractData": _contract_data(payment),
        "internal_transactions": "" if payment.old_format and not payment.is_call else {},
        "cheat_status": None if payment.is_call else 0,
        "noteLevel": {"trx": 1, "trc10": 3}.get(payment.asset),
    }


def _transfer_rows(payment: Payment) -> list[Body] | None:
    """Return the transfer list: the event log, or by `transfer_keys` nothing, or the call.

    None where Tronscan has no such list.
    """
    if payment.transfer_keys == "absent":
        return None
    if payment.transfer_keys == "empty":
        return []
    transfers = payment.transfers
    if payment.transfer_keys == "present" and not transfers:
        transfers = (payment.call,)
    return [_transfer_row(payment, transfer) for transfer in transfers] or None


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
    tokens = [transfer.contract for transfer in (payment.call, *payment.transfers)]
    token = "usdt" if address in OFFICIAL else "token"
    info: Body = RECORDED["contract"][token if address in tokens else "router"]
    return info


def _trigger_info(payment: Payment) -> Body:
    if not payment.is_call:
        return {}
    method = RECORDED["methods"][payment.method]
    sources = sorted(method["arguments"].items(), reverse=True)
    return {
        "method": method["signature"],
        "parameter": {name: str(getattr(payment.call, source)) for name, source in sources},
        "methodId": method["selector"],
        "contract_address": payment.target,
        "call_value": 0,
    }


def _contract_data(payment: Payment) -> Body:
    data = contract_data(payment)
    if payment.asset == "trc10":
        data["tokenInfo"] = {**RECORDED["trc10"], "tokenAbbr": payment.symbol}
    return data
