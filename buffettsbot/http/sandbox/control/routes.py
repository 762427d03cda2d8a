"""The routes under /_sandbox/, by which a developer makes payments, faults and people."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any

import bottle

from buffettsbot.http.sandbox import spec as read
from buffettsbot.http.sandbox.control import trouble
from buffettsbot.http.sandbox.faults import names
from buffettsbot.http.sandbox.replies import dump
from buffettsbot.http.sandbox.spec import ControlError, Spec, Unknown
from buffettsbot.http.sandbox.state import SERVICES, SandboxState
from buffettsbot.http.sandbox.telegram.invites import follow_link
from buffettsbot.http.sandbox.telegram.world import describe
from buffettsbot.http.sandbox.tron.kinds import KINDS
from buffettsbot.http.sandbox.tron.payments import SCHEDULE, make_payments, schedule

MOST_AT_ONCE = 100_000


def add_payments(state: SandboxState, spec: Spec) -> Any:
    """Make a payment, or `count` payments, of a kind: {kind, to, amount, ...}"""
    now = state.clock()
    count = read.whole(spec.get("count", 1), "count")
    if not 1 <= count <= MOST_AT_ONCE or (count > 1 and "hash" in spec):
        raise ControlError(f"count is 1 to {MOST_AT_ONCE}, and leaves the hashes to the sandbox.")
    made = [make_payments(spec, now) for _ in range(count)]
    for versions in made:
        state.add(versions)
    payments = [next(iter(versions.values())) for versions in made]
    bottle.response.status = 201
    if "count" in spec:
        return {"transaction_hashes": [payment.hash for payment in payments]}
    (payment,) = payments
    return {
        "transaction_hash": payment.hash,
        "kind": payment.kind,
        "from": payment.call.sender,
        "to": payment.call.recipient,
        "amount": f"{Decimal(payment.call.amount).scaleb(-6).normalize():f}",
        "block": payment.block(now),
        "time": datetime.fromtimestamp(int(payment.time), UTC).isoformat(),
    }


def change_payment(state: SandboxState, spec: Spec, transaction_hash: str) -> Any:
    """Change when a payment {appears_after, confirms_after, vanishes_after}, from now"""
    read.only_known(spec, SCHEDULE, "A change of a payment")
    versions = state.payments.get(transaction_hash, {})
    for payment in versions.values():
        schedule(payment, spec, state.clock())
    if not versions:
        raise _unknown(transaction_hash)
    return {"changed": len(versions)}


def forget_payment(state: SandboxState, spec: Spec, transaction_hash: str) -> Any:
    """Make a payment vanish, as in a reorganisation"""
    if state.payments.pop(transaction_hash, None) is None:
        raise _unknown(transaction_hash)
    return {"vanished": 1}


def _unknown(transaction_hash: str) -> Unknown:
    return Unknown(f"The sandbox has no payment {transaction_hash!r}.")


def forget_payments(state: SandboxState, spec: Spec) -> Any:
    """Make every payment vanish"""
    vanished = len(state.payments)
    state.payments.clear()
    return {"vanished": vanished}


def show_requests(state: SandboxState, spec: Spec) -> Any:
    """The requests seen, by service: [{at, path, method, hash, key}]"""
    service = bottle.request.query.get("service")
    return {name: list(log) for name, log in state.requests.items() if service in (None, name)}


def clear_requests(state: SandboxState, spec: Spec) -> Any:
    """Forget the requests seen"""
    for log in state.requests.values():
        log.clear()
    return {}


def set_telegram(state: SandboxState, spec: Spec) -> Any:
    """Set what Telegram knows: {token, revoked, blocked, group, migrate, limits, ...}"""
    state.telegram.merge(spec)
    return describe(state.telegram)


def show_telegram(state: SandboxState, spec: Spec) -> Any:
    """What Telegram knows: the group and its members, join requests, links"""
    return describe(state.telegram)


def open_link(state: SandboxState, spec: Spec) -> Any:
    """Let someone open an invitation: {user_id, invite_link}"""
    read.only_known(spec, {"user_id", "invite_link"}, "Opening an invitation")
    person = read.whole(spec.get("user_id"), "user_id")
    url = read.field(spec, "invite_link", "")
    return {"outcome": follow_link(state.telegram, person, url, state.clock())}


def show_sent(state: SandboxState, spec: Spec) -> Any:
    """All that was done at Telegram, in order, of ?chat_id= and ?method="""
    query = bottle.request.query
    wanted = {key: query[key].lower() for key in ("chat_id", "method") if key in query}
    return [
        entry
        for entry in state.telegram.sent
        if all(str(entry.get(key, "")).lower() == value for key, value in wanted.items())
    ]


def clear_sent(state: SandboxState, spec: Spec) -> Any:
    """Forget what was done at Telegram"""
    state.telegram.sent.clear()
    return {}


def reset(state: SandboxState, spec: Spec) -> Any:
    """All as new"""
    state.reset()
    return {}


def show_index(state: SandboxState, spec: Spec) -> Any:
    """This page"""
    routes = {f"{verb} /_sandbox/{path}": str(do.__doc__) for verb, path, do in ROUTES}
    faults = {service: names(service) for service in SERVICES}
    return {"routes": routes, "kinds": list(KINDS), "faults": faults}


ROUTES: tuple[tuple[str, str, Callable[..., Any]], ...] = (
    ("GET", "", show_index),
    ("POST", "payments", add_payments),
    ("DELETE", "payments", forget_payments),
    ("POST", "payments/<transaction_hash>", change_payment),
    ("DELETE", "payments/<transaction_hash>", forget_payment),
    ("POST", "faults", trouble.add_fault),
    ("DELETE", "faults", trouble.clear_faults),
    ("POST", "latency", trouble.set_latency),
    ("POST", "keys", trouble.set_keys),
    ("GET", "requests", show_requests),
    ("DELETE", "requests", clear_requests),
    ("POST", "telegram", set_telegram),
    ("GET", "telegram", show_telegram),
    ("POST", "telegram/join", open_link),
    ("GET", "telegram/sent", show_sent),
    ("DELETE", "telegram/sent", clear_sent),
    ("POST", "reset", reset),
)


def mount(app: Any, state: SandboxState) -> None:
    """Add the control routes to the sandbox."""
    for verb, path, do in ROUTES:
        spellings = [f"/_sandbox/{path}", f"/_sandbox/{path}/" if path else "/_sandbox"]
        app.route(spellings, verb, partial(_answer, state, do))


def _answer(state: SandboxState, do: Callable[..., Any], **arguments: str) -> Any:
    """Do what a control call asks, at one moment; a mistake is answered with a sentence."""
    bottle.response.content_type = "application/json"
    try:
        spec = _spec(bottle.request.body.read())
        with state.lock:
            body = do(state, spec, **arguments)
    except ControlError as error:
        bottle.response.status = error.status
        body = {"error": str(error)}
    return dump(body)


def _spec(body: bytes) -> Spec:
    try:
        spec = json.loads(body or b"{}")
    except ValueError:
        raise ControlError("The body is not JSON.") from None
    return read.typed(spec, dict, "The body")
