"""Making payments: what a developer asks for becomes what each service sees."""

import re
import secrets
from dataclasses import replace

from buffettsbot.http.sandbox import spec as read
from buffettsbot.http.sandbox.spec import ControlError, Spec
from buffettsbot.http.sandbox.tron.chain import (
    SERVICES,
    USDT,
    Payment,
    Transfer,
    random_address,
    to_hex,
)
from buffettsbot.http.sandbox.tron.kinds import KINDS, someone

# seconds from now that a developer names: the moment that they set
SCHEDULE = {
    "appears_after": "appears_at",
    "confirms_after": "confirms_at",
    "vanishes_after": "vanishes_at",
}
FIELDS = {
    "kind", "to", "amount", "from", "hash", "transfers", "time", "contract", "network",
    "old_format", "only", "lie", "count", "result", "symbol", "decimals", "risk", "transfer_keys",
    *SCHEDULE,
}  # fmt: skip
DEFAULTS: dict[str, Spec] = {
    "unconfirmed": {"confirms_after": None},
    "not-found": {"appears_after": None, "amount": 1},
}
THREE_DAYS = 3 * 86_400


def make_payments(spec: Spec, now: float) -> dict[str, Payment]:
    """Given what a developer wants, return the payment as each service that knows it sees it."""
    spec = {"from": random_address(), "hash": secrets.token_hex(32), **spec}
    lies = read.typed(spec.pop("lie", None) or {}, dict, "lie")
    only = spec.pop("only", None)
    for service in [*lies, *([] if only is None else [only])]:
        read.choice(service, SERVICES, "A source in lie or only")
    truth = _payment(spec, now)
    versions = dict.fromkeys(SERVICES if only is None else [only], truth)
    for service, lie in lies.items():
        if service in versions:
            versions[service] = _payment({**spec, **read.typed(lie, dict, "A lie")}, now)
    return versions


def _payment(spec: Spec, now: float) -> Payment:
    read.only_known(spec, FIELDS, "A payment")
    kind = read.choice(spec.get("kind", "good"), KINDS, "kind")
    spec = {**DEFAULTS.get(kind, {}), **spec}
    payment = _good_payment(spec, kind, now)
    payment = replace(payment, **KINDS[kind](payment))
    if "transfers" in spec:
        payment = _with_transfers(payment, spec)
    transfer_keys = spec.get("transfer_keys", "")
    return replace(
        payment,
        result=read.field(spec, "result", payment.result),
        symbol=read.field(spec, "symbol", payment.symbol),
        decimals=read.whole(spec.get("decimals", payment.decimals), "decimals"),
        risk=read.field(spec, "risk", payment.risk),
        old_format=read.field(spec, "old_format", False),
        transfer_keys=read.choice(
            transfer_keys, ("", "absent", "empty", "present"), "transfer_keys"
        ),
    )


def _good_payment(spec: Spec, kind: str, now: float) -> Payment:
    """Return what every kind starts from: one transfer of USDT, signed by the payer."""
    call = _transfer(spec, spec)
    time = now - THREE_DAYS if kind == "old" else now
    payment = Payment(
        hash=_hash(spec["hash"]),
        kind=kind,
        owner=call.sender,
        target=call.contract,
        method="transfer",
        call=call,
        transfers=(call,),
        time=read.moment(spec["time"]) if "time" in spec else time,
        appears_at=now,
        confirms_at=now,
        born=now,
    )
    schedule(payment, spec, now)
    return payment


def schedule(payment: Payment, spec: Spec, now: float) -> None:
    """Set when the payment appears, confirms and vanishes, in seconds from now."""
    for key, moment in SCHEDULE.items():
        if key in spec:
            delay = read.seconds(spec, key, None)
            setattr(payment, moment, None if delay is None else now + delay)


def _with_transfers(payment: Payment, spec: Spec) -> Payment:
    """Replace the event log by the one that was asked for."""
    rows = [read.typed(row, dict, "A transfer") for row in read.items(spec, "transfers")]
    for row in rows:
        read.only_known(row, {"contract", "from", "to", "amount", "type"}, "A transfer")
    transfers = tuple(_transfer({"from": spec["from"], **row}, spec) for row in rows)
    if not transfers:
        return replace(payment, transfers=())
    payment = replace(payment, transfers=transfers, call=transfers[0])
    if len(transfers) == 1:
        return replace(payment, target=transfers[0].contract, method="transfer")
    return replace(payment, target=someone(payment, "router"), method="multiTransfer")


def _transfer(row: Spec, spec: Spec) -> Transfer:
    if row.get("to") is None and spec.get("kind") != "not-found" and "transfers" not in spec:
        raise ControlError("A payment needs a wallet to go to: to.")
    if row.get("amount") is None and "transfers" not in spec:
        raise ControlError("A payment needs an amount, in USDT: amount.")
    network = read.choice(spec.get("network", "mainnet"), USDT, "network")
    transfer = Transfer(
        contract=read.field(row, "contract", read.field(spec, "contract", USDT[network])),
        sender=read.field(row, "from", ""),
        recipient=read.field(row, "to", "") or random_address(),
        amount=read.micro(row.get("amount", 0)),
        type=read.choice(row.get("type", "Transfer"), ("Transfer", "Approval"), "type"),
    )
    for address in (transfer.contract, transfer.sender, transfer.recipient):
        to_hex(address)
    return transfer


def _hash(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch("[0-9a-f]{64}", value):
        raise ControlError(f"hash is 64 lower-case hex digits, not {value!r}.")
    return value
