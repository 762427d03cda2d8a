"""How a setting is written: each parser takes a text and raises ValueError with what to write."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, SecretStr

from buffettsbot.core.chain.tron.addresses import parse_address
from buffettsbot.core.errors import BuffettsbotError
from buffettsbot.core.money import from_usdt

Value = TypeVar("Value")

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_LONGEST = 100 * 365 * 86400  # more than anybody means, and far from what a timedelta holds


def with_value_errors(parse: Callable[[str], Value]) -> Callable[[str], Value]:
    """Return the parser with our own errors as ValueErrors, which pydantic reports as its own."""

    def parse_or_report(text: str) -> Value:
        try:
            return parse(text)
        except BuffettsbotError as error:
            raise ValueError(str(error)) from None

    return parse_or_report


def parse_duration(text: str) -> timedelta:
    """Given `24h`, `90m`, `7d` (or bare seconds), return the duration; else raise ValueError."""
    match = re.fullmatch(r"(\d{1,9})\s*([smhdw]?)", text.strip().lower(), re.ASCII)
    seconds = int(match[1]) * _UNITS[match[2] or "s"] if match else 0
    if not 0 < seconds <= _LONGEST:
        raise ValueError("write a duration such as 24h, 90m or 7d")
    return timedelta(seconds=seconds)


def parse_share(text: str) -> float:
    match = re.fullmatch(r"(\d{1,3}(?:\.\d+)?)\s*%", text.strip(), re.ASCII)
    share = float(match[1]) / 100 if match else -1
    if not 0 <= share <= 1:
        raise ValueError("write a share such as 20%")
    return share


def parse_days(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch(r"[1-9]\d{0,2}", part, re.ASCII) for part in parts):
        raise ValueError("write days such as 7,3,1")
    return tuple(sorted({int(part) for part in parts}, reverse=True))


def parse_sources(text: str) -> tuple[str, ...]:
    names = tuple(part.strip().lower() for part in text.split(","))
    if not set(names) <= {"tronscan", "trongrid"} or len(set(names)) != len(names):
        raise ValueError("write tronscan, trongrid, or both with a comma between")
    return names


def parse_group(text: str) -> int:
    if not re.fullmatch(r"-\d{1,18}", text.strip(), re.ASCII):
        raise ValueError("write a group's id, a number below 0 such as -1001234567890")
    return int(text)


def parse_zone(text: str) -> ZoneInfo:
    try:
        return ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("write a time zone such as Europe/Berlin") from None


def check_http_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("write a URL that begins with https://")
    return text


def check_database_url(secret: SecretStr) -> SecretStr:
    url = secret.get_secret_value()
    scheme, separator, rest = url.partition("://")
    if scheme in ("postgres", "postgresql"):
        scheme = "postgresql+psycopg"
    if not separator or scheme not in ("sqlite", "postgresql+psycopg"):
        raise ValueError("write sqlite:////path/to/file.db or postgresql://user@host/database")
    return SecretStr(f"{scheme}://{rest}")


def parse_bind(text: str) -> str:
    """Given `host:port` or `unix:/path`, return it. Raise ValueError otherwise."""
    if text.startswith("unix:/"):
        return text
    host, _, port = text.rpartition(":")
    if not host or not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
        raise ValueError("write host:port or unix:/path")
    return text


Address = Annotated[str, BeforeValidator(with_value_errors(parse_address))]
HttpUrl = Annotated[str, AfterValidator(check_http_url)]
MicroUsdt = Annotated[int, BeforeValidator(with_value_errors(from_usdt))]
