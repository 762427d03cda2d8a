"""What clients send: a JSON object of known fields, or a 4xx that says what is wrong with it."""

import json
from typing import Any

from bottle import HTTPResponse, request

LARGEST_BODY = 64 * 1024


def answer(status: int, body: Any, **headers: str) -> HTTPResponse:
    """Return a JSON response."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    text = json.dumps(body, ensure_ascii=False).encode()
    return HTTPResponse(text, status, {"Content-Type": "application/json", **named})


def refuse(status: int, message: str, **headers: str) -> HTTPResponse:
    """Return a JSON response that says why not."""
    return answer(status, {"status": status, "success": False, "message": message}, **headers)


class Fields:
    """The fields of the request's JSON object; what is wrong with them is collected by name.

    Raises (as a response) 413, 415 or 400 when there is no JSON object to speak of.
    """

    def __init__(self) -> None:
        self._values = _object()
        self._errors: dict[str, list[str]] = {}

    def text(self, name: str, *, required: bool = False, nullable: bool = False) -> str | None:
        """Return a string field, or None."""
        if not self._given(name, required=required, nullable=nullable):
            return None
        value = self._values[name]
        if not isinstance(value, str):
            self.wrong(name, "Not a valid string.")
            return None
        if required and not value.strip():
            self.wrong(name, "This field may not be blank.")
        return value

    def integer(self, name: str, *, required: bool = False) -> int | None:
        """Return a whole number, written as one or as its digits, or None."""
        if not self._given(name, required=required):
            return None
        value = self._values[name]
        digits = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        if not isinstance(digits, str) or not digits.isascii() or not digits.isdecimal():
            self.wrong(name, "A valid integer is required.")
            return None
        if len(digits) > 18:
            self.wrong(name, "This number is too large.")
            return None
        return int(digits)

    def wrong(self, name: str, why: str) -> None:
        """Collect what is wrong with a field."""
        self._errors.setdefault(name, []).append(why)

    def check(self) -> None:
        """Raise the 400 that names everything wrong, if anything is."""
        if self._errors:
            raise answer(400, self._errors)

    def _given(self, name: str, *, required: bool, nullable: bool = False) -> bool:
        if name not in self._values:
            if required:
                self.wrong(name, "This field is required.")
            return False
        if self._values[name] is None:
            if required and not nullable:
                self.wrong(name, "This field may not be null.")
            return False
        return True


def _object() -> dict[str, Any]:
    if request.content_length > LARGEST_BODY:
        raise refuse(413, "The body is larger than 64 KiB.")
    kind = request.content_type.partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise refuse(415, "Send JSON, with the header Content-Type: application/json.")
    raw = request.environ["wsgi.input"].read(LARGEST_BODY + 1)
    if len(raw) > LARGEST_BODY:
        raise refuse(413, "The body is larger than 64 KiB.")
    try:
        body = json.loads(
            raw.decode("utf-8"), object_pairs_hook=_without_doubles, parse_constant=_no_constant
        )
    except (ValueError, RecursionError) as error:
        doubled = str(error) if isinstance(error, _Doubled) else "The body is not valid JSON."
        raise refuse(400, doubled) from None
    if not isinstance(body, dict):
        raise refuse(400, "The body must be a JSON object.")
    return body


class _Doubled(ValueError):
    """A field stands twice: which one counts?"""


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    body = dict(pairs)
    if len(body) < len(pairs):
        raise _Doubled("A field stands twice in the JSON object.")
    return body


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
