"""How the services fail: everything on the way between a request and its answer."""

import secrets
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import bottle

from buffettsbot.http.sandbox.replies import CANNED, DEFAULT_WAIT, HTML, Reply, nginx
from buffettsbot.http.sandbox.state import Call, Fault, SandboxState

# These change a true answer, or the way it travels, instead of replacing it.
TWISTS = ("timeout", "reset", "drip", "truncated", "redirect", "custom")
CHAIN_TWISTS = ("wrong-hash", "old-cached")
SENDS_RETRY_AFTER = ("tronscan", "telegram")


def names(service: str) -> list[str]:
    """Return the faults a service can have."""
    return [*CANNED[service], *TWISTS, *(CHAIN_TWISTS if service != "telegram" else ())]


def answer(
    state: SandboxState,
    call: Call,
    produce: Callable[[float], Reply],
    refused: Callable[[str, int | None], None] = lambda fault, status: None,
) -> Any:
    """Given a request, answer it with what `produce` says at this time, unless a fault is due.

    `refused` hears of a request that a fault answered, and that therefore had no effect.
    """
    released = state.released
    fault, latency = state.receive(call)
    if latency:
        released.wait(latency)
    if fault is None:
        return _respond(produce(state.clock()))
    performed = _performed(fault)
    reply = produce(_time_of(fault, state.clock())) if performed else Reply()
    canned = _canned(fault)
    if not performed:
        refused(fault.name, canned.status if canned else None)
    return _respond(canned) if canned else _twist(call, fault, reply, released)


def _performed(fault: Fault) -> bool:
    """Say whether the request has its effect: a lost answer may have been a sent message."""
    if fault.performed is not None:
        return fault.performed
    return _canned(fault) is None and fault.name not in ("reset", "redirect")


def _time_of(fault: Fault, now: float) -> float:
    """Return the time at which the service looks at the world: a cache looks at the past."""
    if fault.name != "old-cached":
        return now
    return fault.since if fault.seconds is None else now - fault.seconds


def _canned(fault: Fault) -> Reply | None:
    if fault.name == "custom":
        return fault.reply
    if fault.name not in CANNED[fault.service]:
        return None
    status, content_type, body = CANNED[fault.service][fault.name]
    wait = fault.retry_after
    wait = DEFAULT_WAIT[fault.service] if wait is None else wait
    told = wait if status == 429 and fault.service in SENDS_RETRY_AFTER else None
    return Reply(status, body.replace("@", str(wait)).encode(), content_type, told)


def _twist(call: Call, fault: Fault, reply: Reply, released: threading.Event) -> Any:
    if fault.name == "timeout":
        released.wait(60.0 if fault.seconds is None else fault.seconds)
    elif fault.name == "reset":
        return _hang_up()
    elif fault.name == "drip":
        return _drip(reply, 1.0 if fault.seconds is None else fault.seconds, released)
    elif fault.name == "truncated":
        return _respond(replace(reply, body=reply.body[: len(reply.body) // 2]))
    elif fault.name == "wrong-hash" and call.hash:
        other = secrets.token_hex(32)
        body = reply.body.replace(call.hash.encode(), other.encode())
        return _respond(replace(reply, body=body))
    elif fault.name == "redirect":
        return _respond(Reply(302, nginx(302).encode(), HTML, location=bottle.request.url))
    return _respond(reply)


def _respond(reply: Reply) -> Any:
    response = bottle.HTTPResponse(reply.body, reply.status)
    response.set_header("Content-Type", reply.content_type)
    if reply.retry_after is not None:
        response.set_header("Retry-After", str(reply.retry_after))
    if reply.location is not None:
        response.set_header("Location", reply.location)
    return response


def _drip(reply: Reply, seconds: float, released: threading.Event) -> Any:
    """Answer one byte at a time."""

    def drops() -> Iterator[bytes]:
        for n in range(len(reply.body)):
            if n:
                released.wait(seconds)
            yield reply.body[n : n + 1]

    response = _respond(replace(reply, body=b""))
    response.body = drops()
    response.set_header("Content-Length", str(len(reply.body)))
    return response


def _hang_up() -> Any:
    """Close the connection without an answer; a server that hides it sends half of one."""
    channel = getattr(bottle.request.environ.get("waitress.client_disconnected"), "__self__", None)
    connection = getattr(channel, "socket", None)
    if isinstance(connection, socket.socket):
        linger_no_longer = struct.pack("ii", 1, 0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_no_longer)
        connection.shutdown(socket.SHUT_RDWR)
    response = _respond(Reply(body=b"{"))
    response.set_header("Content-Length", "2")
    return response
