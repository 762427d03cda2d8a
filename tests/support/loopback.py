"""A tiny HTTP server on loopback that answers what a test tells it, and keeps what it was asked."""

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

DATA = Path(__file__).parents[1] / "data"
_TYPES = {".json": "application/json", ".html": "text/html", ".txt": "text/plain"}


@dataclass(frozen=True)
class Asked:
    """One request as it came in. Header names are in lower case."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """One answer. A body in pieces is sent piece by piece, as they come; `reset` breaks the
    connection instead of answering."""

    body: bytes | Iterable[bytes] = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    reset: bool = False


def recorded(name: str, status: int = 200, **headers: str) -> Answer:
    """Return the body in `tests/data/tron/<name>` as an answer; `retry_after=…` sets a header."""
    path = DATA / "tron" / name
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return Answer(path.read_bytes(), status, {"content-type": _TYPES[path.suffix]} | named)


def as_json(value: Any, status: int = 200) -> Answer:
    """Return a value as a JSON answer."""
    return Answer(json.dumps(value).encode(), status, {"content-type": "application/json"})


class Loopback:
    """The server. `answer` is an Answer, or a function from what was asked to one."""

    def __init__(self) -> None:
        self.answer: Answer | Callable[[Asked], Answer] = Answer(b"{}")
        self.asked: list[Asked] = []
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        """Stop listening; the port then refuses connections."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that hang up are part of the tests."""


def _handler(loopback: Loopback) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 10

        def _do(self) -> None:
            parts = urlsplit(self.path)
            length = int(self.headers.get("content-length", 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(length)
            asked = Asked(str(self.command), parts.path, parse_qs(parts.query), headers, body)
            loopback.asked.append(asked)
            answer = loopback.answer
            self._send(answer if isinstance(answer, Answer) else answer(asked))

        do_GET = do_POST = _do  # noqa: N815 -- the library's names

        def _send(self, answer: Answer) -> None:
            if answer.reset:
                self.close_connection = True
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.connection.close()
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if isinstance(answer.body, bytes):
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)
                return
            self.send_header("Connection", "close")
            self.end_headers()
            self.close_connection = True
            for piece in answer.body:
                self.wfile.write(piece)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Say nothing."""

    return Handler
