"""The emulated Tronscan and TronGrid: what is asked, by whom, and what is answered."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import parse_qsl

import bottle

from buffettsbot.http.sandbox.faults import answer
from buffettsbot.http.sandbox.replies import CANNED, Reply
from buffettsbot.http.sandbox.state import Call, SandboxState
from buffettsbot.http.sandbox.tron import node, tronscan
from buffettsbot.http.sandbox.tron.chain import Payment, block_at, solid_at

Tell = Callable[[Payment, float, bool], bytes]
NODE_CALLS: dict[str, Tell] = {
    "gettransactioninfobyid": lambda payment, now, visible: node.receipt(
        payment, now, visible=visible
    ),
    "gettransactionbyid": lambda payment, now, visible: node.transaction(payment, visible=visible),
}
PARAMETERS_MISSING = b'{"message":"some parameters are missing"}'
NOT_JSON = b'{"Error":"class org.tron.json.JSONException : syntax error"}'


def mount(app: Any, state: SandboxState) -> None:
    """Add Tronscan and the full node, with its solidified twin, to the sandbox."""
    app.route("/api/transaction-info", "GET", partial(_tronscan, state))
    for chain in ("wallet", "walletsolidity"):
        for name, tell in NODE_CALLS.items():
            path = f"/{chain}/{name}"
            app.route(path, ["GET", "POST"], partial(_node, state, path, tell))
        path = f"/{chain}/getnowblock"
        app.route(path, ["GET", "POST"], partial(_now_block, state, path))


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
        return Reply(body=node.block(height(now)))

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
