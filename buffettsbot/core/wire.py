"""HTTP to the world: one client, hard time limits, small bodies, no surprises.

httpx limits the wait for each read, not for the whole answer, so a service that drips one byte a
second would hold a thread for hours. `_DeadlineStream` puts every read under one deadline.
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
HEADERS = {"User-Agent": f"buffettsbot/{__version__}", "Accept": "application/json"}

_LIMITS = {"timeout": httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS).as_dict()}
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
        # Each request has a transport to itself, the one used last: shared, one would look at all
        # its idle connections under a lock, twice for each request.
        self._resting: list[httpx.HTTPTransport] = []

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
            asked = httpx.Request(
                method, url, headers=HEADERS | (headers or {}), extensions=_LIMITS, **request
            )
            if asked.url.userinfo:  # a node of the owner's, behind a password
                next(httpx.BasicAuth(asked.url.username, asked.url.password).auth_flow(asked))
            with (
                self._transport() as transport,
                contextlib.closing(transport.handle_request(asked)) as response,
            ):
                return Reply(response.status_code, response.headers, _whole_body(response))
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise NoAnswer(_words(error), sent=False) from None
        except (httpx.LocalProtocolError, UnicodeError):
            why = "the request cannot be sent: look for odd characters in its key or token"
            raise NoAnswer(why, sent=False) from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise NoAnswer(_words(error), sent=True) from None

    @contextlib.contextmanager
    def _transport(self) -> Iterator[httpx.HTTPTransport]:
        """Lend a transport for one request.

        The transport alone: httpx's client would add redirects, cookies and a log line that holds
        the URL, and takes as long again.
        """
        try:
            transport = self._resting.pop()
        except IndexError:
            transport = httpx.HTTPTransport(verify=self._tls)
            transport._pool._network_backend = _DeadlineBackend()
        try:
            yield transport
        finally:
            self._resting.append(transport)

    def close(self) -> None:
        """Close every connection that rests."""
        while self._resting:
            self._resting.pop().close()


def _whole_body(response: httpx.Response) -> bytes:
    body = bytearray()
    for chunk in response.iter_bytes():
        body += chunk
        if len(body) > LARGEST_BODY:
            raise httpx.StreamError("the answer is larger than 2 MiB")
    return bytes(body)


def _words(error: Exception) -> str:
    if isinstance(error, httpx.ConnectTimeout | httpx.PoolTimeout):
        return "no connection in time"
    if isinstance(error, httpx.TimeoutException):
        return "no whole answer in time"
    if isinstance(error, httpx.ConnectError):
        return "no connection"
    if isinstance(error, httpx.StreamError):
        return str(error)
    return f"the connection broke ({type(error).__name__})"
