"""USDT as a whole number of micro-USDT, the token's own unit (6 decimals). Never a float."""

from decimal import Decimal, InvalidOperation

from buffettsbot.core.errors import Invalid

MICRO = 1_000_000


def from_usdt(text: str) -> int:
    """Given decimal USDT such as "12.5", return micro-USDT. Raise Invalid for anything else."""
    try:
        micro = Decimal(text) * MICRO
        if not micro.is_finite() or micro != micro.to_integral_value():
            raise InvalidOperation
        return int(micro)
    except (InvalidOperation, ValueError):
        raise Invalid(
            f"{text[:40]!r} is not an amount of USDT: write a number with at most 6 decimals."
        ) from None


def to_usdt(micro: int) -> str:
    """Given micro-USDT, return decimal USDT without needless zeros: 12500000 → "12.5"."""
    whole, fraction = divmod(abs(micro), MICRO)
    sign = "-" if micro < 0 else ""
    return f"{sign}{whole}.{fraction:06d}".rstrip("0").rstrip(".")
