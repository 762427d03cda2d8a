"""TronGrid, or any full node: `gettransactioninfobyid` into a ChainTransaction.

What the solidity node knows is final; what only the full node knows is not. Real bodies: the
project's TRON facts, part B.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from buffettsbot.core.chain.sources import SourceUnavailable
from buffettsbot.core.chain.transaction import ChainTransaction, Transfer
from buffettsbot.core.chain.tron.addresses import encode_address, parse_address
from buffettsbot.core.chain.tron.service import Service, utc_from_milliseconds
from buffettsbot.core.errors import Invalid

# keccak("Transfer(address,address,uint256)")
TRANSFER_TOPIC = "ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"


class _Log(BaseModel):
    """An event. `address` leaves the 41 out in hex, or is base58 when asked with `visible`."""

    model_config = ConfigDict(strict=True)

    address: str
    topics: list[str] = []
    data: str = ""


class _Receipt(BaseModel):
    model_config = ConfigDict(strict=True)

    result: str | None = None


class _Info(BaseModel):
    """The part of a transaction's info that is believed."""

    model_config = ConfigDict(strict=True)

    id: str
    block: int = Field(alias="blockNumber")
    timestamp: int = Field(alias="blockTimeStamp")
    receipt: _Receipt
    result: str | None = None
    contract_address: str | None = None
    log: list[_Log] = []


class Trongrid:
    """The full node as a source. Success is `receipt.result == "SUCCESS"`."""

    name = "trongrid"

    def __init__(self, service: Service) -> None:
        self._service = service

    def look_up(self, transaction_hash: str, *, deadline: float) -> ChainTransaction:
        """Return what the node says of a hash. Raises SourceUnavailable."""
        solidified = self._info("/walletsolidity", transaction_hash, deadline)
        if solidified:
            return read_info(solidified, transaction_hash, final=True)
        return read_info(self._info("/wallet", transaction_hash, deadline), transaction_hash)

    def _info(self, node: str, transaction_hash: str, deadline: float) -> dict[str, Any]:
        return self._service.ask(
            "POST",
            f"{node}/gettransactioninfobyid",
            json={"value": transaction_hash},
            deadline=deadline,
        )


def read_info(
    body: dict[str, Any], transaction_hash: str, *, final: bool = False
) -> ChainTransaction:
    """Given a node's info, return the transaction; `{}` is one unknown to it (facts B.1).

    Raises SourceUnavailable when the info makes no sense.
    """
    if not body:
        return ChainTransaction(transaction_hash, Trongrid.name, found=False)
    try:
        info = _Info.model_validate(body)
        transfers = _transfers(info.log)
    except (ValidationError, Invalid):
        raise SourceUnavailable("its answer is not in the known form") from None
    if info.id != transaction_hash:
        raise SourceUnavailable("it answers about another transaction")
    return ChainTransaction(
        hash=info.id,
        source=Trongrid.name,
        found=True,
        final=final,
        succeeded=_succeeded(info),
        block=info.block,
        time=utc_from_milliseconds(info.timestamp),
        transfers=transfers,
    )


def _succeeded(info: _Info) -> bool:
    """Say whether it succeeded. A plain TRX transfer has no `receipt.result`: no failure, and no
    event either (facts B.6)."""
    if info.receipt.result is None:
        plain = info.contract_address is None and not info.log
        return plain and info.result is None
    return info.receipt.result == "SUCCESS" and info.result != "FAILED"


def _transfers(logs: list[_Log]) -> tuple[Transfer, ...]:
    """Return the TRC-20 Transfer events; an NFT's has its id as a fourth topic and no data."""
    return tuple(
        Transfer(
            contract=parse_address(log.address),
            sender=_address_in(log.topics[1]),
            recipient=_address_in(log.topics[2]),
            amount=_number_in(log.data),
            index=index,
        )
        for index, log in enumerate(logs)
        if len(log.topics) == 3 and log.topics[0] == TRANSFER_TOPIC
    )


def _address_in(word: str) -> str:
    """Return the address in a padded word: its last 20 bytes.

    What stands before them (zeros, or `41`) means nothing.
    """
    try:
        raw = bytes.fromhex(word)
    except ValueError:
        raw = b""
    if len(raw) < 20:
        raise Invalid("an event's topic holds no address")
    return encode_address(raw[-20:])


def _number_in(word: str) -> int:
    try:
        raw = bytes.fromhex(word)
    except ValueError:
        raw = b""
    if len(raw) != 32:
        raise Invalid("an event's data holds no amount")
    return int.from_bytes(raw, "big")
