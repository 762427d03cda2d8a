"""The HTTP service for tests, over a real socket, and a client that checks every answer.

* `serving(env)`: a real process, `buffettsbot serve`; `env` comes from `helpers.clean_env`.
* `hosting(env)`: the same server in a thread of this process, with a clock that can be set forward.
* `Bot`: an HTTP client; each answer it gets is held against what the API says of itself.
* `sandboxed()`: the sandbox, and how to drive it.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

import forking
import httpx
from helpers import WALLET
from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

import buffettsbot
from buffettsbot.core.app import App, open_app, open_chain, open_telegram, utcnow
from buffettsbot.core.chain.sources import Chain
from buffettsbot.core.settings.settings import load_settings
from buffettsbot.core.telegram.bot import Telegram
from buffettsbot.core.wire import Wire
from buffettsbot.http import openapi
from buffettsbot.http.api import ROUTES, Api
from buffettsbot.http.sandbox import running_sandbox
from buffettsbot.http.sandbox.state import SandboxState
from buffettsbot.http.server import Server

ROOT = Path(buffettsbot.__file__).parents[1]
PATIENCE = 60.0


# What the API says of itself


_SERVED = openapi.document(ROUTES)


def described() -> dict[str, Any]:
    """Return the description, as it is served."""
    document: dict[str, Any] = json.loads(_SERVED)
    return document


def _strict(node: Any) -> Any:
    """Close every object, so that a field nobody described is noticed."""
    if isinstance(node, list):
        return [_strict(item) for item in node]
    if not isinstance(node, dict):
        return node
    closed = {key: _strict(value) for key, value in node.items()}
    if node.get("type") == "object" and "properties" in node:
        closed.setdefault("additionalProperties", False)
    return closed


_DOCUMENT = _strict(described())
_REGISTRY: Registry[Any] = Registry().with_resource(
    "urn:openapi", DRAFT202012.create_resource(_DOCUMENT)
)


def validator(*pointer: str) -> Draft202012Validator:
    """Return the validator for the schema at this place of the description."""
    place = "/".join(part.replace("~", "~0").replace("/", "~1") for part in pointer)
    return Draft202012Validator({"$ref": f"urn:openapi#/{place}"}, registry=_REGISTRY)


def resolved(node: Any) -> Any:
    """Follow a `$ref` of the description."""
    while isinstance(node, dict) and "$ref" in node:
        target: Any = _DOCUMENT
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part.replace("~1", "/").replace("~0", "~")]
        node = target
    return node


def check_answer(response: httpx.Response) -> None:
    """Hold an answer against the description: status, type, headers, and every field."""
    method, path = response.request.method, urlsplit(str(response.request.url)).path
    known = {p.rstrip("/"): verbs for p, verbs in _DOCUMENT["paths"].items()}
    verbs = known.get(path.removesuffix("/"), {})
    operation = verbs.get("get" if method == "HEAD" else method.lower())
    if operation is None:
        expected = 405 if verbs else 404
        assert response.status_code in (expected, 401, 400, 413), (method, path, response.text)
        _check_body(response, validator("components", "schemas", "Refusal"))
        if response.content:
            assert response.json()["status"] == response.status_code
        return
    assert str(response.status_code) in operation["responses"], (
        f"{method} {path} answered {response.status_code}, which is not described: {response.text}"
    )
    answer = resolved(operation["responses"][str(response.status_code)])
    ((kind, content),) = answer["content"].items()
    assert response.headers["content-type"].partition(";")[0] == kind
    for name, header in answer.get("headers", {}).items():
        if header.get("required"):
            assert name in response.headers, f"{method} {path}: no header {name}"
        if name in response.headers:
            _check_header(response.headers[name], header["schema"])
    if kind == "application/json":
        schema = Draft202012Validator(_absolute(content["schema"]), registry=_REGISTRY)
        _check_body(response, schema)


def _check_header(text: str, schema: dict[str, Any]) -> None:
    value: object = int(text) if schema["type"] == "integer" else text
    Draft202012Validator(schema).validate(value)


def _check_body(response: httpx.Response, schema: Draft202012Validator) -> None:
    if response.request.method == "HEAD":
        assert response.content == b""
        return
    assert response.headers["content-type"] == "application/json", response.text
    schema.validate(response.json())


def _absolute(node: Any) -> Any:
    if isinstance(node, list):
        return [_absolute(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: "urn:openapi" + value if key == "$ref" else _absolute(value)
        for key, value in node.items()
    }


class Bot:
    """A client of the API, as the community's bot is one. Every answer is checked."""

    def __init__(self, url: str, token: str | None = None, *, timeout: float = PATIENCE) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        unix = url.removeprefix("unix:") if url.startswith("unix:") else None
        self.http = httpx.Client(
            base_url="http://localhost" if unix else url,
            headers=headers,
            transport=httpx.HTTPTransport(uds=unix) if unix else None,
            verify=False,  # loading certificates takes longer than most tests
            timeout=timeout,
            trust_env=False,
        )

    def send(self, method: str, path: str, **request: Any) -> httpx.Response:
        """Send a request as httpx would; return the checked answer."""
        response = self.http.request(method, path, **request)
        check_answer(response)
        return response

    def get(self, path: str, **params: object) -> httpx.Response:
        """GET with these query parameters."""
        return self.send("GET", path, params={name: str(value) for name, value in params.items()})

    def post(self, path: str, body: object) -> httpx.Response:
        """POST a JSON body, in ASCII: what no UTF-8 can say stays a `\\u` escape."""
        content = json.dumps(body).encode()
        return self.send(
            "POST", path, content=content, headers={"Content-Type": "application/json"}
        )

    def register(self, chat_id: int, username: str | None = None) -> None:
        """Make somebody known."""
        body = {"chat_id": chat_id, "telegram_username": username}
        assert self.post("/api/v1/users/", body).status_code in (200, 201)

    def claim(self, who: int | str, transaction_hash: str, plan: str = "1 month") -> httpx.Response:
        """Claim a hash for a person, by chat id or by name."""
        name = "chat_id" if isinstance(who, int) else "telegram_username"
        body = {name: who, "plan": plan, "transaction_hash": transaction_hash}
        return self.post("/api/v1/subscriptions/", body)

    def close(self) -> None:
        """Close its connections."""
        self.http.close()


@contextlib.contextmanager
def bot_of(url: str, token: str | None = None, *, timeout: float = PATIENCE) -> Iterator[Bot]:
    """A Bot for the service at this URL."""
    bot = Bot(url, token, timeout=timeout)
    try:
        yield bot
    finally:
        bot.close()


def moment(text: str, zone: tzinfo = UTC) -> datetime:
    """Read a date as the API writes it."""
    return datetime.strptime(text, "%d/%m/%Y %H:%M:%S").replace(tzinfo=zone)


def raw(url: str, request: bytes, *, timeout: float = 20.0) -> bytes:
    """Send bytes over a fresh connection; return all that comes back until it is closed.

    A server may close before it has read everything; what it said until then counts.
    """
    parts = urlsplit(url)
    with socket.create_connection((str(parts.hostname), parts.port or 80), timeout) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
        return _drained(connection)


def _drained(connection: socket.socket) -> bytes:
    received = b""
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(65536):
            received += piece
    return received


# A real process


class Service:
    """A running `buffettsbot serve`. `said` is what it wrote on stderr so far, line by line."""

    def __init__(self, process: forking.Forked) -> None:
        self.process = process
        self.said: list[str] = []
        self.url = ""
        self.told_to_end = False
        self._serving = threading.Event()
        self._reader = threading.Thread(target=self._listen, daemon=True)
        self._reader.start()

    def _listen(self) -> None:
        for line in self.process.stderr or ():
            self.said.append(line.rstrip("\n"))
            if line.startswith("Serving on "):
                self.url = line.removeprefix("Serving on ").strip()
                self._serving.set()
        self._serving.set()  # it ended

    def wait_until_serving(self) -> None:
        """Return once it listens. Fails with what it said when it does not."""
        assert self._serving.wait(PATIENCE), self.text
        assert self.url, f"it did not start: {self.text}"

    @property
    def text(self) -> str:
        """Everything it wrote on stderr."""
        return "\n".join(self.said)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.end_by(signal.SIGTERM)

    def end_by(self, number: int) -> None:
        """Send a signal that is to end it."""
        self.told_to_end = True
        self.process.send_signal(number)

    def ended(self) -> int:
        """Wait for its end; return the exit code. One that does not end is killed, and fails."""
        try:
            code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        self._reader.join(PATIENCE)
        if self.process.stderr:
            self.process.stderr.close()
        return code

    def stop(self) -> int:
        """End it with SIGTERM; return the exit code."""
        self.terminate()
        return self.ended()

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.end_by(signal.SIGKILL)
        self.ended()


def launch(env: Mapping[str, str], *arguments: str, bind: str | None = "127.0.0.1:0") -> Service:
    """Start `buffettsbot serve` and return at once."""
    where = () if bind is None else ("--bind", bind)
    return Service(forking.start("serve", *where, *arguments, env=env, stderr=subprocess.PIPE))


@contextlib.contextmanager
def serving(
    env: Mapping[str, str], *arguments: str, bind: str | None = "127.0.0.1:0"
) -> Iterator[Service]:
    """A real `buffettsbot serve` that listens; stopped by SIGTERM at the end."""
    service = launch(env, *arguments, bind=bind)
    try:
        service.wait_until_serving()
        yield service
    finally:
        by_itself = service.process.poll() is not None and not service.told_to_end
        if service.process.poll() is None:
            service.terminate()
        code = service.ended()
        assert not by_itself, f"it ended by itself, with {code}: {service.text}"


# The same server in this process


@dataclass
class Clock:
    """The system's clock, set forward as far as a test wants."""

    ahead: timedelta = field(default_factory=timedelta)

    def __call__(self) -> datetime:
        return utcnow() + self.ahead


@dataclass(frozen=True)
class Host:
    """A service in a thread of this process."""

    url: str
    app: App
    clock: Clock


def app_of(env: Mapping[str, str], clock: Clock) -> App:
    """Open the app that a process with this environment would."""
    with mock.patch.dict(os.environ, env, clear=True):
        opened = open_app(load_settings())
    return App(opened.settings, opened.db, clock)


def open_chain_of(app: App, wire: Wire) -> Chain:
    """Return the chain that the settings name, asked over `wire`."""
    return open_chain(app.settings, wire)


def open_telegram_of(app: App, wire: Wire) -> Telegram | None:
    """Return the bot that the settings name, if they do, which calls over `wire`."""
    if app.settings.telegram_token is None:
        return None
    return open_telegram(app.settings, wire)


@contextlib.contextmanager
def hosting(
    env: Mapping[str, str],
    wire: Wire | None = None,
    *,
    chain_slots: int = 8,
    telegram_slots: int = 4,
    threads: int = 12,
) -> Iterator[Host]:
    """The API on a real socket, served by a thread; chain and Telegram are asked over `wire`."""
    clock = Clock()
    app = app_of(env, clock)
    with contextlib.ExitStack() as stack:
        stack.callback(app.db.close)
        if wire is None:
            wire = Wire()
            stack.callback(wire.close)
        api = Api(
            app,
            open_chain_of(app, wire),
            chain_slots=chain_slots,
            telegram=open_telegram_of(app, wire),
            telegram_slots=telegram_slots,
        )
        server = Server(api.wsgi(), "127.0.0.1:0", threads=threads)
        thread = threading.Thread(target=server.run, name="hosting")
        thread.start()
        try:
            yield Host(server.address, app, clock)
        finally:
            server.stop()
            thread.join(PATIENCE)
            assert not thread.is_alive(), "the server does not stop"


# The sandbox


class Sandbox:
    """A running sandbox. `settings` point buffettsbot at it; services in this process may share
    its `wire`, which is costly to make."""

    def __init__(self, url: str, state: SandboxState) -> None:
        self.url = url
        self.state = state
        self.wire = Wire()
        self._http = httpx.Client(base_url=url, timeout=PATIENCE, trust_env=False, verify=False)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings for `clean_env`."""
        return {"tronscan_url": self.url, "trongrid_url": self.url, "telegram_url": self.url}

    def pay(self, kind: str = "good", amount: int | str = 50, **spec: object) -> str:
        """Make a payment to WALLET; return its hash."""
        body = {"kind": kind, "to": WALLET, "amount": amount, **spec}
        return str(self._post("payments", body)["transaction_hash"])

    def fail(self, fault: str, *services: str, **spec: object) -> None:
        """Make services (both of the chain, unless named) fail."""
        for service in services or ("tronscan", "trongrid"):
            self._post("faults", {"service": service, "fault": fault, **spec})

    def telegram(self, **world: object) -> dict[str, Any]:
        """Set what Telegram knows; return all of it."""
        known: dict[str, Any] = self._post("telegram", world)
        return known

    def delay(self, seconds: float) -> None:
        """Let both chain services take their time."""
        for service in ("tronscan", "trongrid"):
            self._post("latency", {"service": service, "seconds": seconds})

    def asked(self) -> list[str]:
        """Return every hash that tronscan was asked for."""
        with self.state.lock:
            return [entry["hash"] for entry in self.state.requests["tronscan"]]

    def confirm(self, transaction_hash: str) -> None:
        """Let a payment become final now."""
        self._post(f"payments/{transaction_hash}", {"confirms_after": 0})

    def reset_faults(self) -> None:
        """Heal everything, and let go of every answer that is being held."""
        with self.state.lock:
            self.state.faults.clear()
            self.state.release()

    def reset(self) -> None:
        """Forget everything, and let go of every answer that is being held."""
        self.state.reset()

    def _post(self, path: str, body: object) -> Any:
        answer = self._http.post(f"/_sandbox/{path}", json=body)
        assert answer.is_success, answer.text
        return answer.json()

    def close(self) -> None:
        """Close its connections."""
        self._http.close()
        self.wire.close()


@contextlib.contextmanager
def sandboxed(*, threads: int = 32) -> Iterator[Sandbox]:
    """The sandbox, running."""
    state = SandboxState()
    with running_sandbox(state, threads=threads) as url:
        sandbox = Sandbox(url, state)
        try:
            yield sandbox
        finally:
            sandbox.close()
