"""TRON's own notation: addresses and networks.

An address is held as its base58check text; two that mean the same are then equal as strings.
Vectors and sources: the project's TRON facts, B.2 and B.8.
"""

import contextlib
from dataclasses import dataclass
from functools import lru_cache

import base58

from buffettsbot.core.errors import Invalid

_ADDRESS_PREFIX = b"\x41"


@dataclass(frozen=True)
class Network:
    """Where a network's services answer, and which contract is the genuine USDT there."""

    usdt_contract: str
    tronscan_url: str
    trongrid_url: str
    explorer_url: str


NETWORKS = {
    "mainnet": Network(
        "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t",
        "https://apilist.tronscanapi.com",
        "https://api.trongrid.io",
        "https://tronscan.org/#/transaction/",
    ),
    "nile": Network(
        "TXYZopYRdj2D9XRtbG411XZZ3kM5VkAeBf",
        "https://nileapi.tronscan.org",
        "https://nile.trongrid.io",
        "https://nile.tronscan.org/#/transaction/",
    ),
    "shasta": Network(
        "TG3XXyExBkPp9nzdajDZsozEu4BkaSJozs",
        "https://shastapi.tronscan.org",
        "https://api.shasta.trongrid.io",
        "https://shasta.tronscan.org/#/transaction/",
    ),
}


def parse_address(text: str) -> str:
    """Given an address in base58check or in hex, return it in base58check.

    Hex: `41…`, `0x…` or the bare 20 bytes. Raises Invalid when it is no TRON address, or its
    checksum is broken.
    """
    text = text.strip()
    bare = text.removeprefix("0x")
    raw = b""
    with contextlib.suppress(ValueError):
        if len(text) == 34:  # decoding base58 takes quadratic time, so nothing longer is tried
            raw = base58.b58decode_check(text)
        elif len(bare) == 42:
            raw = bytes.fromhex(bare)
        elif len(bare) == 40:
            raw = _ADDRESS_PREFIX + bytes.fromhex(bare)
    if len(raw) != 21 or not raw.startswith(_ADDRESS_PREFIX):
        raise Invalid(
            f"{text[:40]!r} is not a TRON address, or its checksum is broken: "
            "copy it again, whole (34 characters, beginning with T)."
        )
    return encode_address(raw[1:])


@lru_cache(256)  # 20 µs each, and the wallet's and the contract's are in every answer
def encode_address(twenty: bytes) -> str:
    """Given an address's 20 bytes, return its base58check text (34 characters, `T…`)."""
    return base58.b58encode_check(_ADDRESS_PREFIX + twenty).decode()
