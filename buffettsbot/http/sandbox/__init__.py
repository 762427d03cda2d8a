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

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

import bottle
import waitress.server

from buffettsbot.http.sandbox import control, telegram, tron, tronscan
from buffettsbot.http.sandbox.chain import Payment, block_at, solid_at
from buffettsbot.http.sandbox.faults import answer
from buffettsbot.http.sandbox.replies import CANNED, Reply
from buffettsbot.http.sandbox.state import Call, SandboxState

Tell = Callable[[Payment, float, bool], bytes]
NODE_CALLS: dict[str, Tell] = {
    "gettransactioninfobyid": lambda payment, now, visible: tron.receipt(
        payment, now, visible=visible
    ),
    "gettransactionbyid": lambda payment, now, visible: tron.transaction(payment, visible=visible),
}
PARAMETERS_MISSING = b'{"message":"some parameters are missing"}'
NOT_JSON = b'{"Error":"class org.tron.json.JSONException : syntax error"}'


def make_sandbox(state: SandboxState | None = None) -> Any:
    """Return the sandbox as a bottle application, which any WSGI server can serve."""
    state = state or SandboxState()
    app = bottle.Bottle()
    app.default_error_handler = _error
    app.route("/api/transaction-info", "GET", partial(_tronscan, state))
    for chain in ("wallet", "walletsolidity"):
        for name, tell in NODE_CALLS.items():
            path = f"/{chain}/{name}"
            app.route(path, ["GET", "POST"], partial(_node, state, path, tell))
        path = f"/{chain}/getnowblock"
        app.route(path, ["GET", "POST"], partial(_now_block, state, path))
    telegram.mount(app, state)
    control.mount(app, state)
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


def _header_key() -> str:
    return str(bottle.request.get_header("TRON-PRO-API-KEY", ""))


def _tronscan(state: SandboxState) -> Any:
    wanted = dict(parse_qsl(bottle.request.query_string)).get("hash", "")
    path = "/api/transaction-info"
    call = Call("tronscan", path, "transaction-info", _header_key(), wanted)

    def produce(now: float) -> Reply:
        if not state.key_accepted(call):
            return _canned("tronscan", "401-key")
        if not wanted:
            return Reply(body=PARAMETERS_MISSING)
        payment = state.payments["tronscan"].get(wanted)
        if payment is None:
            return Reply(body=b"{}")
        if not payment.visible(now):
            return Reply(body=b'{"riskTransaction":false}')
        return Reply(body=tronscan.tronscan(payment, now))

    return answer(state, call, produce)


def _node(state: SandboxState, path: str, tell: Tell) -> Any:
    arguments = _node_arguments()
    wanted = str((arguments or {}).get("value", ""))
    visible = str((arguments or {}).get("visible", "")).lower() == "true"
    call = Call("trongrid", path, path.rsplit("/", 1)[1], _header_key(), wanted)
    solid = path.startswith("/walletsolidity")

    def produce(now: float) -> Reply:
        if not state.key_accepted(call):
            return _canned("trongrid", "403-key")
        if arguments is None:
            return Reply(body=NOT_JSON)
        payment = state.payments["trongrid"].get(wanted)
        if payment is None or not payment.visible(now) or (solid and not payment.confirmed(now)):
            return Reply(body=b"{}")
        return Reply(body=tell(payment, now, visible))

    return answer(state, call, produce)


def _now_block(state: SandboxState, path: str) -> Any:
    call = Call("trongrid", path, "getnowblock", _header_key())
    height = solid_at if path.startswith("/walletsolidity") else block_at

    def produce(now: float) -> Reply:
        if not state.key_accepted(call):
            return _canned("trongrid", "403-key")
        return Reply(body=tron.block(height(now)))

    return answer(state, call, produce)


def _node_arguments() -> dict[str, Any] | None:
    """Return what a node is asked, from the query or a JSON body; None if it cannot be read."""
    arguments: dict[str, Any] = dict(parse_qsl(bottle.request.query_string))
    body = bottle.request.body.read()
    if bottle.request.method == "GET" or not body:
        return arguments
    try:
        parsed = json.loads(body)
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None


def _canned(service: str, fault: str) -> Reply:
    status, content_type, body = CANNED[service][fault]
    return Reply(status, body.encode(), content_type)


def _error(error: Any) -> bytes:
    """Answer what no route answers: Telegram's way under /bot, else as a full node does."""
    bottle.response.content_type = "application/json"
    phrase = HTTPStatus(error.status_code).phrase
    if bottle.request.path.startswith("/bot"):
        code = error.status_code
        body: dict[str, Any] = {"ok": False, "error_code": code, "description": phrase}
    else:
        body = {"Error": f"{phrase}: {bottle.request.method} {bottle.request.path}"}
    return tron.dump(body)
