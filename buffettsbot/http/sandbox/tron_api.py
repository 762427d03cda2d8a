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
from buffettsbot.http.sandbox.tron.chain import block_at, solid_at

PARAMETERS_MISSING = b'{"message":"some parameters are missing"}'
NOT_JSON = b'{"Error":"class org.tron.json.JSONException : syntax error"}'
WRONG_KEY = {
    "tronscan": CANNED["tronscan"]["401-key"],
    "trongrid": CANNED["trongrid"]["403-key"],
}


def mount(app: Any, state: SandboxState) -> None:
    """Add Tronscan and the full node, with its solidified twin, to the sandbox."""
    app.route("/api/transaction-info", "GET", partial(_tronscan, state))
    for chain, solid in (("wallet", False), ("walletsolidity", True)):
        for name, ask in {
            "gettransactioninfobyid": partial(_node, state, node.receipt, solid),
            "gettransactionbyid": partial(_node, state, node.transaction, solid),
            "getnowblock": partial(_now_block, state, solid),
        }.items():
            app.route(f"/{chain}/{name}", ["GET", "POST"], ask)


def _serve(
    state: SandboxState, service: str, produce: Callable[[float], bytes], wanted: str = ""
) -> Any:
    """Answer the present request, about the transaction `wanted`, to those with a good key."""
    path = bottle.request.path
    key = str(bottle.request.get_header("TRON-PRO-API-KEY", ""))
    call = Call(service, path, path.rsplit("/", 1)[1], key, wanted)

    def checked(now: float) -> Reply:
        accepted = state.accepted_keys.get(service)
        if accepted is not None and key not in accepted:
            return WRONG_KEY[service]
        return Reply(body=produce(now))

    return answer(state, call, checked)


def _tronscan(state: SandboxState) -> Any:
    wanted = dict(parse_qsl(bottle.request.query_string)).get("hash", "")

    def produce(now: float) -> bytes:
        if not wanted:
            return PARAMETERS_MISSING
        payment = state.payment("tronscan", wanted)
        if payment is None:
            return b"{}"
        if not payment.visible(now):
            return b'{"riskTransaction":false}'
        return tronscan.tronscan(payment, now)

    return _serve(state, "tronscan", produce, wanted)


def _node(state: SandboxState, tell: node.Tell, solid: bool) -> Any:
    arguments = _node_arguments()
    wanted = str((arguments or {}).get("value", ""))
    visible = str((arguments or {}).get("visible", "")).lower() == "true"

    def produce(now: float) -> bytes:
        if arguments is None:
            return NOT_JSON
        payment = state.payment("trongrid", wanted)
        if payment is None or not payment.visible(now) or (solid and not payment.confirmed(now)):
            return b"{}"
        return tell(payment, now, visible)

    return _serve(state, "trongrid", produce, wanted)


def _now_block(state: SandboxState, solid: bool) -> Any:
    height = solid_at if solid else block_at
    return _serve(state, "trongrid", lambda now: node.block(height(now)))


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
