"""The sandbox's chain: its addresses, its clock of blocks, and a payment on it."""

import secrets
from dataclasses import dataclass
from functools import lru_cache

import base58

from buffettsbot.http.sandbox.spec import ControlError

# A real block and its time: Tronscan's answer in the facts this sandbox was built from.
ANCHOR_BLOCK, ANCHOR_TIME = 61_393_765, 1_714_824_099
SLOT = 3
BLOCKS_TO_SOLID = 18

SERVICES = ("tronscan", "trongrid")
USDT = {
    "mainnet": "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t",
    "nile": "TXYZopYRdj2D9XRtbG411XZZ3kM5VkAeBf",
    "shasta": "TG3XXyExBkPp9nzdajDZsozEu4BkaSJozs",
}


@lru_cache(maxsize=65_536)
def to_hex(address: str) -> str:
    """Given a base58check address, return its 21 bytes as hex, 41 first."""
    try:
        raw = base58.b58decode_check(address)
    except ValueError:
        raw = b""
    if len(raw) != 21 or raw[0] != 0x41:
        raise ControlError(f"{address!r} is not a TRON address.")
    return raw.hex()


def to_base58(raw: bytes) -> str:
    """Given the 20 bytes of an account, return its address."""
    return base58.b58encode_check(b"\x41" + raw).decode()


def random_address() -> str:
    """Return the address of nobody in particular."""
    return to_base58(secrets.token_bytes(20))


def block_at(time: float) -> int:
    """Given a time, return the height of the chain at that time."""
    return ANCHOR_BLOCK + int((time - ANCHOR_TIME) // SLOT)


def solid_at(time: float) -> int:
    """Given a time, return the last block that was final at that time."""
    return block_at(time) - BLOCKS_TO_SOLID


def time_of(block: int) -> int:
    """Given a block, return when it was made."""
    return ANCHOR_TIME + (block - ANCHOR_BLOCK) * SLOT


@dataclass(frozen=True, slots=True)
class Transfer:
    """One event of a token contract."""

    contract: str
    sender: str
    recipient: str
    amount: int
    type: str = "Transfer"


@dataclass(slots=True)
class Payment:
    """One transaction as one service sees it; a service may be lied to."""

    hash: str
    kind: str
    owner: str
    target: str
    method: str
    call: Transfer
    transfers: tuple[Transfer, ...]
    time: float
    appears_at: float | None
    confirms_at: float | None
    vanishes_at: float | None = None
    asset: str = "trc20"
    result: str = "SUCCESS"
    symbol: str = "USDT"
    decimals: int = 6
    risk: bool = False
    old_format: bool = False
    transfer_keys: str = ""
    born: float = 0.0

    @property
    def failed(self) -> bool:
        """Say whether the contract call had no effect."""
        return self.result != "SUCCESS"

    @property
    def is_call(self) -> bool:
        """Say whether it called a contract, rather than moving TRX or a TRC-10 token."""
        return self.asset == "trc20"

    @property
    def milliseconds(self) -> int:
        """Return the time of its block the way TRON counts time."""
        return int(self.time) * 1000

    def visible(self, now: float) -> bool:
        """Say whether the service knows it by now (and has not lost it in a reorganisation)."""
        appeared = self.appears_at is not None and self.appears_at <= now
        return appeared and (self.vanishes_at is None or now < self.vanishes_at)

    def confirmed(self, now: float) -> bool:
        """Say whether it is final by now."""
        return self.confirms_at is not None and self.confirms_at <= now

    def block(self, now: float) -> int:
        """Return its block, which is solid exactly when the payment is confirmed."""
        included = block_at(self.time)
        if self.confirms_at is None:
            return max(included, solid_at(now) + 1)
        solid = solid_at(self.confirms_at)
        return min(included, solid) if self.confirms_at <= self.born else solid
