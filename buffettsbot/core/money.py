"""USDT as a whole number of micro-USDT, the token's own unit (6 decimals). Never a float."""

import re
from decimal import Decimal

from buffettsbot.core.errors import Invalid

MICRO = 1_000_000

_USDT = re.compile(r"-?[0-9]{1,13}(?:\.[0-9]{1,6})?")


def from_usdt(text: str) -> int:
    """Given decimal USDT such as "12.5", return micro-USDT. Raise Invalid for anything else."""
    if not _USDT.fullmatch(text):
        raise Invalid(
            f"{text[:40]!r} is not an amount of USDT: write a number with at most 6 decimals."
        )
    return int(Decimal(text) * MICRO)


def to_usdt(micro: int) -> str:
    """Given micro-USDT, return decimal USDT without needless zeros: 12500000 → "12.5"."""
    whole, fraction = divmod(abs(micro), MICRO)
    sign = "-" if micro < 0 else ""
    return f"{sign}{whole}.{fraction:06d}".rstrip("0").rstrip(".")
