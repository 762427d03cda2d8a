"""HTTP to the world: one client, hard time limits, small bodies, no surprises.

httpcore limits the wait for each read, not for the whole answer, so a service that drips one byte
a second would hold a thread for hours. `_DeadlineStream` puts every read under one deadline. httpx
writes requests and decodes answers; its client takes no network backend, and it would follow
redirects, keep cookies, and log URLs, which hold the bot's token.
"""

import contextlib
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpcore
import httpx

from buffettsbot import __version__

CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 8.0
LARGEST_BODY = 2 * 1024 * 1024
KEPT_SECONDS = 5.0
HEADERS = {"User-Agent": f"buffettsbot/{__version__}", "Accept": "application/json"}

_BROKEN = (httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol)
_limit = threading.local()


class NoAnswer(Exception):
    """No complete answer came. `sent`: whether the request may have reached the other side."""

    def __init__(self, why: str, *, sent: bool) -> None:
        super().__init__(why)
        self.sent = sent


@dataclass(frozen=True)
class Reply:
    """A complete answer, whatever its status."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class _DeadlineStream(httpcore.NetworkStream):
    """A network stream whose reads and writes all end by the thread's current deadline."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _remaining(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _remaining(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(self, *args: Any, **kwargs: Any) -> httpcore.NetworkStream:
        return _DeadlineStream(self._stream.start_tls(*args, **kwargs))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _DeadlineBackend(httpcore.NetworkBackend):
    """httpcore's own sockets, each wrapped in a `_DeadlineStream`."""

    def __init__(self) -> None:
        self._backend = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        timeout = _remaining(timeout, httpcore.ConnectTimeout)
        stream = self._backend.connect_tcp(host, port, timeout, local_address, socket_options)
        return _DeadlineStream(stream)


def _remaining(timeout: float | None, expired: type[Exception]) -> float:
    left: float = _limit.deadline - time.monotonic()
    if left <= 0:
        raise expired("the whole answer took too long")
    return left if timeout is None else min(timeout, left)


class Wire:
    """A client that keeps its connections, safe to share between threads."""

    def __init__(self) -> None:
        self._tls = httpx.create_ssl_context()
        # A pool for each question that is under way, the one used last first. One pool for all
        # would look at every connection, under a lock, twice for each question: with 36 threads
        # 1.2 ms of processor time a question instead of 0.55, of some 3.5 that a claim takes.
        self._resting: list[httpcore.ConnectionPool] = []

    def ask(
        self,
        method: str,
        url: str,
        *,
        deadline: float = float("inf"),
        headers: dict[str, str] | None = None,
        **request: Any,
    ) -> Reply:
        """Send a request (`params`, `json`, `files`, … as in httpx) and return the whole answer.

        `deadline`: a `time.monotonic` instant. Raises NoAnswer when none came within 8 seconds, by
        the deadline, or within 2 MiB; its text never holds the URL, which may carry a token.
        """
        _limit.deadline = min(deadline, time.monotonic() + ANSWER_SECONDS)
        try:
            asked = httpx.Request(method, url, headers=HEADERS | (headers or {}), **request)
            return self._send(asked)
        except httpcore.ConnectTimeout:
            raise NoAnswer("no connection in time", sent=False) from None
        except httpcore.ConnectError:
            raise NoAnswer("no connection", sent=False) from None
        except (httpcore.LocalProtocolError, UnicodeError):
            why = "the request cannot be sent: look for odd characters in its key or token"
            raise NoAnswer(why, sent=False) from None
        except httpcore.TimeoutException:
            raise NoAnswer("no whole answer in time", sent=True) from None
        except (*_BROKEN, httpx.InvalidURL, httpx.DecodingError) as error:
            why = f"the connection broke ({type(error).__name__})"
            raise NoAnswer(why, sent=True) from None

    def _send(self, asked: httpx.Request) -> Reply:
        if asked.url.userinfo:  # a node of the owner's, behind a password
            next(httpx.BasicAuth(asked.url.username, asked.url.password).auth_flow(asked))
        with (
            self._pool() as pool,
            pool.stream(
                asked.method,
                str(asked.url),
                headers=asked.headers.raw,
                content=asked.read() or None,
                extensions={"timeout": {"connect": CONNECT_SECONDS}},
            ) as answer,
        ):
            return _whole(answer)

    @contextlib.contextmanager
    def _pool(self) -> Iterator[httpcore.ConnectionPool]:
        """Lend a pool for one question."""
        try:
            pool = self._resting.pop()
        except IndexError:
            pool = httpcore.ConnectionPool(
                self._tls, keepalive_expiry=KEPT_SECONDS, network_backend=_DeadlineBackend()
            )
        try:
            yield pool
        finally:
            self._resting.append(pool)

    def close(self) -> None:
        """Close every connection that rests."""
        while self._resting:
            self._resting.pop().close()


def _whole(answer: httpcore.Response) -> Reply:
    """Read an answer to its end, decoded. Raises NoAnswer for one that is larger than 2 MiB."""
    response = httpx.Response(answer.status, headers=answer.headers, content=answer.iter_stream())
    body = bytearray()
    for chunk in response.iter_bytes():
        body += chunk
        if len(body) > LARGEST_BODY:
            raise NoAnswer("the answer is larger than 2 MiB", sent=True)
    return Reply(response.status_code, response.headers, bytes(body))
