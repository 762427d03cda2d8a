"""What a source says of a transaction, as plain data, and as the evidence that the ledger keeps."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class Transfer:
    """One `Transfer` event: addresses in base58check, the amount in the token's smallest unit."""

    contract: str
    sender: str
    recipient: str
    amount: int
    index: int = 0


@dataclass(frozen=True)
class ChainTransaction:
    """One source's answer. `succeeded` and `transfers` mean something only once it is `final`."""

    hash: str
    source: str
    found: bool
    final: bool = False
    succeeded: bool = False
    block: int | None = None
    time: datetime | None = None
    transfers: tuple[Transfer, ...] = ()
    risky: bool = False

    @property
    def definite(self) -> bool:
        """Whether nothing that another source knows could change this."""
        return self.found and self.final


@dataclass(frozen=True)
class Silence:
    """A source that could not say: throttled, down, garbled, or about another hash than asked."""

    source: str
    why: str


Answer = ChainTransaction | Silence


def to_evidence(answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """Return the answers as plain JSON data, enough to judge again offline."""
    return [_plain(answer) for answer in answers]


def _plain(answer: Answer) -> dict[str, Any]:
    if isinstance(answer, Silence):
        return dict(vars(answer))
    time = answer.time and answer.time.isoformat()
    return vars(answer) | {"time": time, "transfers": [dict(vars(t)) for t in answer.transfers]}
