"""Reading what a developer asks of the sandbox: every mistake is answered with a sentence."""

import re
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

Spec = dict[str, Any]
T = TypeVar("T")
KINDS = {str: "a string", bool: "true or false", list: "a list", dict: "a JSON object"}


class ControlError(ValueError):
    """What a control call got wrong, as a sentence for the person who made it."""

    status = 400


class Unknown(ControlError):
    """A control call is about something that the sandbox does not have."""

    status = 404


def only_known(spec: Spec, known: Iterable[str], what: str) -> None:
    """Raise for a key that nobody will read: it is a misspelling."""
    known = sorted(known)
    for key in spec:
        if key not in known:
            raise ControlError(f"{what} has no field {key!r}; it has {', '.join(known)}.")


def choice(value: object, choices: Iterable[str], what: str) -> str:
    """Given a value, return it if it is one of the choices."""
    choices = sorted(choices)
    if not isinstance(value, str) or value not in choices:
        raise ControlError(f"{what} is one of {', '.join(choices)}, not {value!r}.")
    return value


def typed(value: object, kind: type[T], what: str) -> T:
    """Given a value, return it if it is of this kind: str, bool, list or dict."""
    if not isinstance(value, kind):
        raise ControlError(f"{what} is {KINDS[kind]}, not {value!r}.")
    return value


def field(spec: Spec, key: str, default: T) -> T:
    """Read a value of the default's kind."""
    return typed(spec[key], type(default), key) if key in spec else default


def optional(spec: Spec, key: str, kind: type[T]) -> T | None:
    """Read a value of this kind, or None if it is missing."""
    return typed(spec[key], kind, key) if key in spec else None


def fields(spec: Spec, key: str) -> Spec:
    """Read an object; one that is missing is empty."""
    return field(spec, key, Spec())


def items(spec: Spec, key: str) -> list[Any]:
    """Read a list; one that is missing or null is empty."""
    return [] if spec.get(key) is None else typed(spec[key], list, key)


def seconds(spec: Spec, key: str, default: float | None) -> float | None:
    """Read a number of seconds; null, which means never, stays None."""
    value = spec.get(key, default)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e10:
        raise ControlError(f"{key} is a number of seconds (or null, for never), not {value!r}.")
    return float(value)


def whole(value: object, what: str) -> int:
    """Read a whole number, also when it is the key of a JSON object and so a string."""
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,19}", value, re.ASCII):
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ControlError(f"{what} is a whole number, not {value!r}.")
    return value


def micro(value: object) -> int:
    """Given USDT as `50`, `"49.99"` or `49.99`, return it in millionths."""
    try:
        amount = Decimal(str(value)).scaleb(6)
        if amount != amount.to_integral_value() or not 0 <= amount < 2**256:
            raise InvalidOperation
    except InvalidOperation:
        raise ControlError(f"An amount is USDT with at most six decimals, not {value!r}.") from None
    return int(amount)


def moment(value: object) -> float:
    """Given an ISO 8601 time with its offset, return seconds since 1970."""
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise ControlError(f"time looks like 2026-01-31T12:00:00Z, not {value!r}.")
    return time.timestamp()
