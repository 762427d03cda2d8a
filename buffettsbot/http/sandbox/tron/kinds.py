"""The kinds of payment: a good payment of `amount` to `to`, with one thing wrong with it."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from buffettsbot.http.sandbox.tron.chain import USDT, Payment, to_base58


def someone(payment: Payment, role: str) -> str:
    """Return an address that plays a part in this payment, the same for every service."""
    return to_base58(hashlib.sha256(f"{payment.hash} {role}".encode()).digest()[:20])


def _moved(payment: Payment, **change: Any) -> dict[str, Any]:
    """Return the payment's call and its event, changed alike."""
    transfer = replace(payment.call, **change)
    return {"call": transfer, "transfers": (transfer,)}


def _underpaid(payment: Payment) -> dict[str, Any]:
    amount = payment.call.amount
    return _moved(payment, amount=amount - 1_000_000 if amount > 1_000_000 else amount // 2)


def _fake_token(payment: Payment) -> dict[str, Any]:
    contract = payment.call.contract
    if contract in USDT.values():
        contract = someone(payment, "token")
    return {"target": contract, **_moved(payment, contract=contract)}


def _native(asset: str) -> Callable[[Payment], dict[str, Any]]:
    return lambda payment: {"asset": asset, "target": payment.call.recipient, "transfers": ()}


def _poison(payment: Payment) -> dict[str, Any]:
    """A stranger moves nothing from the payer to the wallet, which anyone may do."""
    return {
        "owner": someone(payment, "poisoner"),
        "method": "transferFrom",
        **_moved(payment, amount=0),
    }


def _multi(payment: Payment) -> dict[str, Any]:
    """An exchange pays several people at once, the wallet in two parts."""
    whole, half = payment.call, payment.call.amount // 2
    parts = (
        replace(whole, recipient=someone(payment, "first"), amount=12_345_678),
        replace(whole, amount=half),
        replace(whole, recipient=someone(payment, "third"), amount=1),
        replace(whole, amount=whole.amount - half),
    )
    return {"target": someone(payment, "router"), "method": "multiTransfer", "transfers": parts}


KINDS: dict[str, Callable[[Payment], dict[str, Any]]] = {
    "good": lambda payment: {},
    "underpaid": _underpaid,
    "fake-token": _fake_token,
    "wrong-recipient": lambda payment: _moved(payment, recipient=someone(payment, "stranger")),
    "failed": lambda payment: {"result": "REVERT", "transfers": ()},
    "out-of-energy": lambda payment: {"result": "OUT_OF_ENERGY", "transfers": ()},
    "unconfirmed": lambda payment: {},
    "trx": _native("trx"),
    "trc10": _native("trc10"),
    "zero-value": _poison,
    "multi": _multi,
    "transfer-from": lambda payment: {
        "owner": someone(payment, "relayer"),
        "method": "transferFrom",
    },
    "approval": lambda payment: {"method": "approve", **_moved(payment, type="Approval")},
    "not-found": lambda payment: {},
    "old": lambda payment: {},
    "risky": lambda payment: {"risk": True},
}
