"""What Tronscan and TronGrid have in common: keys in turn, limits honoured, errors inside HTTP 200.

Both hide errors in successful answers and name their limits in prose ("suspended for 19 s");
recorded bodies are in the project's TRON facts, A.9 and B.10.
"""

import json
import re
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from buffettsbot.core.chain.sources import SourceUnavailable
from buffettsbot.core.wire import NoAnswer, Reply, Wire

KEY_HEADER = "TRON-PRO-API-KEY"
DEFAULT_PAUSE = 5.0
BAD_KEY_PAUSE = 60.0
LONGEST_PAUSE = 600.0

TOO_OFTEN = "asked too often, it wants a pause"

_SUSPENDED = re.compile(r"suspended for\s*(\d{1,9})\s*s", re.ASCII)
_TOO_FAST = re.compile(
    r"request rate exceeded|frequency limit|too quickly|suspended for|daily usage"
    r"|lack of computing resources",
    re.IGNORECASE,
)


class KeyRing:
    """API keys in turn; one that is suspended is passed over until its time has come."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._free_at: dict[str | None, float] = dict.fromkeys(keys, 0.0) or {None: 0.0}
        self._order: list[str | None] = list(self._free_at)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._order)

    def take(self) -> str | None:
        """Return the next usable key (None where there are no keys).

        Raises SourceUnavailable, with the seconds to wait, while every key is suspended.
        """
        now = time.monotonic()
        with self._lock:
            for position, key in enumerate(self._order):
                if self._free_at[key] <= now:
                    self._order.append(self._order.pop(position))
                    return key
            wait = min(self._free_at.values()) - now
        raise SourceUnavailable(TOO_OFTEN, wait)

    def suspend(self, key: str | None, seconds: float) -> None:
        """Leave a key alone for so many seconds."""
        with self._lock:
            self._free_at[key] = time.monotonic() + seconds


class Service:
    """One TRON service at its base URL, asked for JSON objects."""

    def __init__(self, wire: Wire, url: str, keys: Sequence[str]) -> None:
        self._wire = wire
        self._url = url.rstrip("/")
        self._keys = KeyRing(keys)

    def ask(self, method: str, path: str, *, deadline: float, **request: Any) -> dict[str, Any]:
        """Return the JSON object that the service answers; else raise SourceUnavailable."""
        trouble = SourceUnavailable("no usable API key")
        for _ in range(len(self._keys)):
            key = self._keys.take()
            headers = {KEY_HEADER: key} if key else {}
            try:
                reply = self._wire.ask(
                    method, self._url + path, headers=headers, deadline=deadline, **request
                )
            except NoAnswer as silence:
                raise SourceUnavailable(str(silence)) from None
            body = _object(reply)
            if body is not None:
                return body
            trouble = _trouble(reply)
            if not trouble.retry_after:
                raise trouble
            self._keys.suspend(key, trouble.retry_after)
        raise trouble


def _object(reply: Reply) -> dict[str, Any] | None:
    """Return the JSON object of a genuine answer, None for anything else."""
    try:
        body = json.loads(reply.body) if reply.status == 200 else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(body, dict) or "Error" in body:
        return None
    return None if "message" in body and "hash" not in body else body


def _trouble(reply: Reply) -> SourceUnavailable:
    """Say what is wrong with an answer; `retry_after` > 0 when this key must rest so long.

    Only errors are searched for prose: a genuine answer holds names that anyone may choose.
    """
    text = reply.body[:4096].decode("utf-8", "replace")
    suspended = _SUSPENDED.search(text)
    if suspended:
        return SourceUnavailable(TOO_OFTEN, min(float(suspended[1]), LONGEST_PAUSE))
    if reply.status == 429 or _TOO_FAST.search(text):
        header = reply.headers.get("retry-after", "")
        seconds = float(header) if header.isascii() and header.isdigit() else DEFAULT_PAUSE
        return SourceUnavailable(TOO_OFTEN, min(seconds, LONGEST_PAUSE))
    if reply.status in (401, 403):
        why = f"it refuses to answer (status {reply.status}): check its API key"
        return SourceUnavailable(why, BAD_KEY_PAUSE)
    if reply.status != 200:
        return SourceUnavailable(f"it answers with status {reply.status}")
    return SourceUnavailable("its answer is an error or garbled")


def utc_from_milliseconds(milliseconds: int) -> datetime:
    """Given Unix milliseconds, return the UTC time. Raises SourceUnavailable when it is none."""
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (OverflowError, OSError, ValueError):
        raise SourceUnavailable("its answer holds an impossible time") from None
