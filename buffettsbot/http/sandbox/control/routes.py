"""The routes under /_sandbox/, by which a developer makes payments, faults and people."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import bottle

from buffettsbot.http.sandbox import spec as read
from buffettsbot.http.sandbox.control.trouble import (
    Answer,
    add_fault,
    clear_faults,
    set_keys,
    set_latency,
)
from buffettsbot.http.sandbox.faults import names
from buffettsbot.http.sandbox.replies import dump
from buffettsbot.http.sandbox.spec import ControlError, Spec
from buffettsbot.http.sandbox.state import SERVICES, SandboxState
from buffettsbot.http.sandbox.telegram.invites import follow_link
from buffettsbot.http.sandbox.telegram.world import describe
from buffettsbot.http.sandbox.tron.kinds import KINDS
from buffettsbot.http.sandbox.tron.payments import make_payments, schedule

MOST_AT_ONCE = 100_000


def add_payments(state: SandboxState, spec: Spec) -> Answer:
    """Make a payment, or `count` payments, of a kind: {kind, to, amount, ...}"""
    now = state.clock()
    count = read.whole(spec.get("count", 1), "count")
    if not 1 <= count <= MOST_AT_ONCE or (count > 1 and "hash" in spec):
        raise ControlError(f"count is 1 to {MOST_AT_ONCE}, and leaves the hashes to the sandbox.")
    made = [make_payments(spec, now) for _ in range(count)]
    hashes = []
    for versions in made:
        state.add(versions)
        hashes.append(next(iter(versions.values())).hash)
    if "count" in spec:
        return 201, {"transaction_hashes": hashes}
    payment = next(iter(made[0].values()))
    return 201, {
        "transaction_hash": payment.hash,
        "kind": payment.kind,
        "from": payment.call.sender,
        "to": payment.call.recipient,
        "amount": read.usdt(payment.call.amount),
        "block": payment.block(now),
        "time": datetime.fromtimestamp(int(payment.time), UTC).isoformat(),
    }


def change_payment(state: SandboxState, spec: Spec, transaction_hash: str) -> Answer:
    """Change when a payment {appears_after, confirms_after, vanishes_after}, from now"""
    read.only_known(
        spec, {"appears_after", "confirms_after", "vanishes_after"}, "A change of a payment"
    )
    versions = state.versions(transaction_hash)
    for payment in versions:
        schedule(payment, spec, state.clock())
        payment.rendered.clear()
    return (200, {"changed": len(versions)}) if versions else _unknown(transaction_hash)


def forget_payment(state: SandboxState, spec: Spec, transaction_hash: str) -> Answer:
    """Make a payment vanish, as in a reorganisation"""
    gone = state.forget(transaction_hash)
    return (200, {"vanished": gone}) if gone else _unknown(transaction_hash)


def _unknown(transaction_hash: str) -> Answer:
    return 404, {"error": f"The sandbox has no payment {transaction_hash!r}."}


def forget_payments(state: SandboxState, spec: Spec) -> Answer:
    """Make every payment vanish"""
    return 200, {"vanished": state.forget()}


def show_requests(state: SandboxState, spec: Spec) -> Answer:
    """The requests seen, by service: [{at, path, method, hash, key}]"""
    service = bottle.request.query.get("service")
    with state.lock:
        seen = {name: list(log) for name, log in state.requests.items() if service in (None, name)}
    return 200, seen


def clear_requests(state: SandboxState, spec: Spec) -> Answer:
    """Forget the requests seen"""
    with state.lock:
        for log in state.requests.values():
            log.clear()
    return 200, {}


def set_telegram(state: SandboxState, spec: Spec) -> Answer:
    """Set what Telegram knows: {token, revoked, blocked, group, migrate, limits, ...}"""
    with state.lock:
        state.telegram.merge(spec)
        return 200, describe(state.telegram)


def show_telegram(state: SandboxState, spec: Spec) -> Answer:
    """What Telegram knows: the group and its members, join requests, links"""
    with state.lock:
        return 200, describe(state.telegram)


def open_link(state: SandboxState, spec: Spec) -> Answer:
    """Let someone open an invitation: {user_id, invite_link}"""
    read.only_known(spec, {"user_id", "invite_link"}, "Opening an invitation")
    person = read.whole(spec.get("user_id"), "user_id")
    with state.lock:
        url = read.text(spec, "invite_link")
        return 200, {"outcome": follow_link(state.telegram, person, url, state.clock())}


def show_sent(state: SandboxState, spec: Spec) -> Answer:
    """All that was done at Telegram, in order, of ?chat_id= and ?method="""
    query = bottle.request.query
    wanted = {key: query[key].lower() for key in ("chat_id", "method") if key in query}
    with state.lock:
        sent = list(state.telegram.sent)
    return 200, [
        entry
        for entry in sent
        if all(str(entry.get(key, "")).lower() == value for key, value in wanted.items())
    ]


def clear_sent(state: SandboxState, spec: Spec) -> Answer:
    """Forget what was done at Telegram"""
    with state.lock:
        state.telegram.sent.clear()
    return 200, {}


def reset(state: SandboxState, spec: Spec) -> Answer:
    """All as new"""
    state.reset()
    return 200, {}


def show_index(state: SandboxState, spec: Spec) -> Answer:
    """This page"""
    routes = {f"{verb} /_sandbox/{path}": str(do.__doc__) for verb, path, do in ROUTES}
    faults = {service: names(service) for service in SERVICES}
    return 200, {"routes": routes, "kinds": list(KINDS), "faults": faults}


ROUTES: tuple[tuple[str, str, Callable[..., Answer]], ...] = (
    ("GET", "", show_index),
    ("POST", "payments", add_payments),
    ("DELETE", "payments", forget_payments),
    ("POST", "payments/<transaction_hash>", change_payment),
    ("DELETE", "payments/<transaction_hash>", forget_payment),
    ("POST", "faults", add_fault),
    ("DELETE", "faults", clear_faults),
    ("POST", "latency", set_latency),
    ("POST", "keys", set_keys),
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


def _answer(state: SandboxState, do: Callable[..., Answer], **arguments: str) -> Any:
    """Given a control call, answer it in JSON; a mistake is answered with a sentence."""
    try:
        status, body = do(state, _spec(bottle.request.body.read()), **arguments)
    except ControlError as error:
        status, body = 400, {"error": str(error)}
    return bottle.HTTPResponse(dump(body), status, {"Content-Type": "application/json"})


def _spec(body: bytes) -> Spec:
    try:
        spec = json.loads(body or b"{}")
    except ValueError:
        raise ControlError("The body is not JSON.") from None
    return read.fields(spec, "The body")
