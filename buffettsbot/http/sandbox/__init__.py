"""A Tronscan, a TronGrid and a Telegram Bot API on loopback, to test against.

Point the three base URLs at it, make payments, make the services fail, and read what was sent:

    import httpx
    from buffettsbot.http.sandbox import running_sandbox

    WALLET = "TLwLTBk5k9nVNM3FK6yP8bXWsu6aTczcag"

    with running_sandbox() as url, httpx.Client(base_url=url) as http:
        payment = {"kind": "good", "to": WALLET, "amount": "50"}
        made = http.post("/_sandbox/payments", json=payment).json()
        told = http.get("/api/transaction-info", params={"hash": made["transaction_hash"]}).json()
        assert told["trc20TransferInfo"][0]["amount_str"] == "50000000"

        http.post("/_sandbox/faults", json={"service": "telegram", "fault": "429", "times": 1})
        message = {"chat_id": 42, "text": "hello"}
        assert http.post("/bot1:any/sendMessage", json=message).status_code == 429
        assert http.post("/bot1:any/sendMessage", json=message).json()["ok"]
        assert len(http.get("/_sandbox/telegram/sent").json()) == 2

`GET /_sandbox/` lists the control routes. Both chain services show the same chain, except where a
payment says `only` or `lie`. It keeps everything in memory and is meant for nobody but developers.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http import HTTPStatus
from typing import Any

import bottle
import waitress.server

from buffettsbot.http.sandbox import bot_api, tron_api
from buffettsbot.http.sandbox.control import routes
from buffettsbot.http.sandbox.replies import dump
from buffettsbot.http.sandbox.state import SandboxState


def make_sandbox(state: SandboxState | None = None) -> Any:
    """Return the sandbox as a bottle application, which any WSGI server can serve."""
    state = state or SandboxState()
    app = bottle.Bottle()
    app.default_error_handler = _error
    tron_api.mount(app, state)
    bot_api.mount(app, state)
    routes.mount(app, state)
    return app


@contextmanager
def running_sandbox(
    state: SandboxState | None = None, *, host: str = "127.0.0.1", port: int = 0, threads: int = 32
) -> Iterator[str]:
    """Serve the sandbox in the background, on a free port by default, and yield its URL."""
    state = state or SandboxState()
    app = make_sandbox(state)
    server = waitress.server.create_server(
        app, host=host, port=port, threads=threads, connection_limit=2_000, ident=None
    )
    thread = threading.Thread(target=server.run, name="sandbox", daemon=True)
    thread.start()
    try:
        yield f"http://{host}:{server.effective_port}"
    finally:
        state.release()
        _stop(server, thread)


def _stop(server: Any, thread: threading.Thread) -> None:
    """End the workers, then close every connection from inside the server's own loop."""
    server.task_dispatcher.shutdown(timeout=2)
    with suppress(OSError):
        server.trigger.pull_trigger(partial(_close_all, server))
    thread.join(5)


def _close_all(server: Any) -> None:
    for channel in list(server._map.values()):
        with suppress(OSError):
            channel.close()


def _error(error: Any) -> bytes:
    """Answer what no route answers: Telegram's way under /bot, else as a full node does."""
    bottle.response.content_type = "application/json"
    phrase = HTTPStatus(error.status_code).phrase
    if bottle.request.path.startswith("/bot"):
        code = error.status_code
        body: dict[str, Any] = {"ok": False, "error_code": code, "description": phrase}
    else:
        body = {"Error": f"{phrase}: {bottle.request.method} {bottle.request.path}"}
    return dump(body)
