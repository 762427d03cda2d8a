"""How the services fail: everything on the way between a request and its answer."""

import secrets
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import bottle

from buffettsbot.http.sandbox.replies import CANNED, Reply, nginx_page
from buffettsbot.http.sandbox.state import Call, Fault, SandboxState

# These change a true answer, or the way it travels, instead of replacing it.
TWISTS = ("timeout", "reset", "drip", "truncated", "redirect", "custom")
CHAIN_TWISTS = ("wrong-hash", "old-cached")


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
        return respond(produce(state.clock()))
    performed = fault.performed
    if performed is None:  # a lost answer may have been a sent message
        performed = fault.reply is None and fault.name not in ("reset", "redirect")
    if performed:
        reply = produce(_time_of(fault, state.clock()))
    else:
        reply = Reply()
        refused(fault.name, fault.reply.status if fault.reply else None)
    return respond(fault.reply) if fault.reply else _twist(call, fault, reply, released)


def respond(reply: Reply) -> Any:
    """Return an answer as bottle's."""
    headers = {"Content-Type": reply.content_type, **reply.headers}
    return bottle.HTTPResponse(reply.body, reply.status, headers)


def _time_of(fault: Fault, now: float) -> float:
    """Return the time at which the service looks at the world: a cache looks at the past."""
    if fault.name != "old-cached":
        return now
    return fault.since if fault.seconds is None else now - fault.seconds


def _twist(call: Call, fault: Fault, reply: Reply, released: threading.Event) -> Any:
    if fault.name == "timeout":
        released.wait(60.0 if fault.seconds is None else fault.seconds)
    elif fault.name == "reset":
        return _hang_up()
    elif fault.name == "drip":
        return _drip(reply, 1.0 if fault.seconds is None else fault.seconds, released)
    elif fault.name == "truncated":
        reply = replace(reply, body=reply.body[: len(reply.body) // 2])
    elif fault.name == "wrong-hash" and call.hash:
        other = secrets.token_hex(32).encode()
        reply = replace(reply, body=reply.body.replace(call.hash.encode(), other))
    elif fault.name == "redirect":
        reply = replace(nginx_page(302), headers={"Location": bottle.request.url})
    return respond(reply)


def _drip(reply: Reply, seconds: float, released: threading.Event) -> Any:
    """Answer one byte at a time."""

    def drops() -> Iterator[bytes]:
        for n in range(len(reply.body)):
            if n:
                released.wait(seconds)
            yield reply.body[n : n + 1]

    response = respond(reply)
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
    return respond(Reply(body=b"{", headers={"Content-Length": "2"}))
