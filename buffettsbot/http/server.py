"""One process, threads, waitress: bounded in every direction, and a stop that ends what it began.

waitress reads requests without threads, so a slow sender costs a connection only; one that has not
sent its whole request within `REQUEST_SECONDS` loses it.
"""

import errno
import json
import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from waitress import create_server, wasyncore
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.server import BaseWSGIServer
from waitress.task import ErrorTask

from buffettsbot.core.errors import Unavailable

REQUEST_SECONDS = 30
STOP_SECONDS = 25.0
STUCK_SECONDS = 10.0
CONNECTIONS = 800  # of the usual 1024 open files; the database and the chain need some too
LARGEST_REQUEST = 1024 * 1024

log = logging.getLogger("buffettsbot.serve")


# Three classes of waitress, changed where it asks for classes of one's own (`channel_class`,
# `parser_class`, `error_task_class`): it has no options for what they do.


class _JsonErrorTask(ErrorTask):  # type: ignore[misc]
    """waitress' own refusals (malformed requests, giant bodies), as JSON like all the others.

    Otherwise they are plain text, which a bot that reads JSON takes for a crash.
    """

    def execute(self) -> None:
        error = self.request.error
        body = {"status": error.code, "success": False, "message": f"{error.reason}: {error.body}"}
        text = json.dumps(body).encode()
        self.status = f"{error.code} {error.reason}"
        self.response_headers.append(("Content-Type", "application/json"))
        self.set_close_on_finish()
        self.content_length = len(text)
        self.write(text)


class _Parser(HTTPRequestParser):  # type: ignore[misc]
    """waitress' parser, which would leave some malformed requests without any answer: a traceback
    in the log, and the connection closed."""

    def parse_header(self, header_plus: bytes) -> None:
        try:
            super().parse_header(header_plus)
        except ValueError:  # `http://[/` as the target, thousands of digits as the length
            raise ParsingError("The request's target or length is malformed.") from None
        if self.body_rcv is None:
            self.expect_continue = False  # there is nothing to continue with


class _Channel(HTTPChannel):  # type: ignore[misc]
    """A connection whose time runs from the first byte of a request, not from its latest.

    Otherwise a byte every 29 seconds would keep it for ever, and 800 such keep everybody out.
    """

    error_task_class = _JsonErrorTask
    parser_class = _Parser
    last_activity: float

    def handle_read(self) -> None:
        began = self.last_activity if self.request is not None else None
        super().handle_read()
        if began is not None and self.request is not None:
            self.last_activity = began

    def writable(self) -> bool:
        """Whether there is something to send; a connection given up on is closed here and now.

        waitress would wait until it can send, which for one who never reads is for ever.
        """
        if self.will_close:
            self.handle_close()
            return False
        return bool(self.total_outbufs_len or self.close_when_flushed)


class Server:
    """A WSGI application on `bind` (`host:port`, or `unix:/path`), listening once it exists.

    Raises Unavailable when the place is taken or not to be had.
    """

    def __init__(
        self, application: Callable[..., Iterable[bytes]], bind: str, *, threads: int
    ) -> None:
        self._map: dict[int, Any] = {}
        place = (
            {"unix_socket": bind.removeprefix("unix:"), "unix_socket_perms": "660"}
            if bind.startswith("unix:")
            else {"listen": bind}
        )
        try:
            _refuse_taken(bind)
            self._server = create_server(
                application,
                map=self._map,
                threads=threads,
                ident=None,
                connection_limit=CONNECTIONS,
                channel_timeout=REQUEST_SECONDS,
                cleanup_interval=5,
                max_request_body_size=LARGEST_REQUEST,
                asyncore_use_poll=True,
                clear_untrusted_proxy_headers=True,
                **place,
            )
        except (OSError, ValueError) as error:
            raise Unavailable(_why_not(bind, error)) from None
        self._listeners = [d for d in self._map.values() if isinstance(d, BaseWSGIServer)]
        for listener in self._listeners:
            listener.channel_class = _Channel
        self._turned_at = time.monotonic()
        self._stopping = threading.Event()
        self._woken = threading.Event()

    @property
    def address(self) -> str:
        """Where it listens, as a URL (with the real port when 0 was asked for)."""
        name = self._listeners[0].socket.getsockname()
        if isinstance(name, str):
            return f"unix:{name}"
        host = f"[{name[0]}]" if ":" in name[0] else name[0]
        return f"http://{host}:{name[1]}"

    @property
    def turning(self) -> bool:
        """Whether `run` looks after its connections, each second at least."""
        return time.monotonic() - self._turned_at < STUCK_SECONDS

    def run(self) -> None:
        """Serve until `stop`; then finish the requests in flight, for at most 25 seconds."""
        while not self._stopping.is_set():
            self._turn()
        for listener in self._listeners:
            wasyncore.dispatcher.close(listener)
        deadline = time.monotonic() + STOP_SECONDS
        while self._busy() and time.monotonic() < deadline:
            self._turn()
        self._listeners[0].task_dispatcher.shutdown(timeout=1)
        self._woken.wait(1)  # what wakes us must not be closed while it is used
        wasyncore.close_all(self._map)

    def stop(self) -> None:
        """End `run`; safe from any thread and from a signal handler, and to repeat."""
        self._stopping.set()
        if not self._woken.is_set():
            self._listeners[0].pull_trigger()
            self._woken.set()

    def stop_on_signals(self, told: Callable[[], None] = lambda: None) -> None:
        """Let SIGTERM and SIGINT stop it gracefully; `told` hears of it first."""

        def stop(*_signal: object) -> None:
            told()
            self.stop()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)

    def _turn(self) -> None:
        self._turned_at = time.monotonic()
        wasyncore.loop(timeout=1, use_poll=True, map=self._map, count=1)

    def _busy(self) -> bool:
        channels = [d for d in self._map.values() if isinstance(d, HTTPChannel)]
        return any(channel.requests or channel.total_outbufs_len for channel in channels)


def _refuse_taken(bind: str) -> None:
    """Raise OSError for a unix socket that somebody serves: waitress would take it from them."""
    if not bind.startswith("unix:"):
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        if probe.connect_ex(bind.removeprefix("unix:")) == 0:
            raise OSError(errno.EADDRINUSE, "Address already in use")


def _why_not(bind: str, error: Exception) -> str:
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return (
            f"{bind} is taken by another program. Stop that one, or choose another place with "
            "--bind or BUFFETTSBOT_BIND."
        )
    why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"Cannot listen on {bind}: {why}. Choose another place with --bind or BUFFETTSBOT_BIND."
