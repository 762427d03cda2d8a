"""Tronscan, the explorer: `GET /api/transaction-info?hash=…` into a ChainTransaction.

Real bodies and their oddities: the project's TRON facts, part A.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from buffettsbot.core.chain.sources import SourceUnavailable
from buffettsbot.core.chain.transaction import ChainTransaction, Transfer
from buffettsbot.core.chain.tron.addresses import parse_address
from buffettsbot.core.chain.tron.service import Service, utc_from_milliseconds
from buffettsbot.core.errors import Invalid


class _Item(BaseModel):
    """A transfer among `trc20TransferInfo`."""

    model_config = ConfigDict(strict=True)

    contract_address: str
    from_address: str
    to_address: str
    amount_str: str = Field(pattern="^[0-9]{1,78}$")


class _Transaction(BaseModel):
    """The part of a transaction's body that is believed.

    `toAddress`, `trigger_info`, `decimals`, `symbol` and `revert` are not.
    """

    model_config = ConfigDict(strict=True)

    hash: str
    confirmed: bool
    result: str = Field(alias="contractRet")
    timestamp: int
    block: int
    risky: bool = Field(False, alias="riskTransaction")
    items: list[dict[str, Any]] | None = Field(None, alias="trc20TransferInfo")


class Tronscan:
    """The explorer as a source.

    Final is `confirmed is true`, success `contractRet == "SUCCESS"`.
    """

    name = "tronscan"

    def __init__(self, service: Service) -> None:
        self._service = service

    def look_up(self, transaction_hash: str, *, deadline: float) -> ChainTransaction:
        """Return what Tronscan says of a hash. Raises SourceUnavailable."""
        body = self._service.ask(
            "GET",
            "/api/transaction-info",
            params={"hash": transaction_hash},
            deadline=deadline,
        )
        return read_transaction(body, transaction_hash)


def read_transaction(body: dict[str, Any], transaction_hash: str) -> ChainTransaction:
    """Given Tronscan's body, return the transaction; one without `hash` is unknown to it (facts
    A.3, A.4).

    Raises SourceUnavailable when the body makes no sense.
    """
    if "hash" not in body:
        return ChainTransaction(transaction_hash, Tronscan.name, found=False)
    try:
        seen = _Transaction.model_validate(body)
        transfers = _transfers(seen.items or [])
    except (ValidationError, Invalid):
        raise SourceUnavailable("its answer is not in the known form") from None
    if seen.hash != transaction_hash:
        raise SourceUnavailable("it answers about another transaction")
    return ChainTransaction(
        hash=seen.hash,
        source=Tronscan.name,
        found=True,
        final=seen.confirmed,
        succeeded=seen.result == "SUCCESS",
        block=seen.block,
        time=utc_from_milliseconds(seen.timestamp),
        transfers=transfers,
        risky=seen.risky,
    )


def _transfers(entries: list[dict[str, Any]]) -> tuple[Transfer, ...]:
    """Return the TRC-20 transfers among the entries; old bodies do not say `tokenType`."""
    kinds = [
        (index, entry)
        for index, entry in enumerate(entries)
        if entry.get("type", "Transfer") == "Transfer"
        and entry.get("tokenType", "trc20") == "trc20"
    ]
    items = [(index, _Item.model_validate(entry)) for index, entry in kinds]
    return tuple(
        Transfer(
            contract=parse_address(item.contract_address),
            sender=parse_address(item.from_address),
            recipient=parse_address(item.to_address),
            amount=int(item.amount_str),
            index=index,
        )
        for index, item in items
    )
