"""What the sandbox remembers, behind one lock: payments, faults, latency, keys and requests."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from buffettsbot.http.sandbox.replies import Reply
from buffettsbot.http.sandbox.telegram.world import Telegram
from buffettsbot.http.sandbox.tron import chain

SERVICES = (*chain.SERVICES, "telegram")
REMEMBERED_REQUESTS = 100_000


@dataclass(frozen=True)
class Call:
    """One request, as far as faults, keys and the log care."""

    service: str
    path: str
    method: str
    key: str = ""
    hash: str = ""
    chat_id: str = ""


@dataclass
class Fault:
    """A way in which a service misbehaves, and the calls it is meant for.

    `reply` is answered in place of the truth; without it the truth is twisted, as `name` says.
    """

    service: str
    name: str
    times: int | None = None
    methods: frozenset[str] = frozenset()
    chat_id: str | None = None
    hash: str | None = None
    key: str | None = None
    seconds: float | None = None
    performed: bool | None = None
    since: float = 0.0
    reply: Reply | None = None

    def meant_for(self, call: Call) -> bool:
        """Say whether this call meets the fault."""
        return (
            self.service == call.service
            and (not self.methods or call.method.lower() in self.methods)
            and self.chat_id in (None, call.chat_id)
            and self.hash in (None, call.hash)
            and self.key in (None, call.key)
        )


class SandboxState:
    """Everything the sandbox knows. Hold `lock` to look at more than one thing at once.

    `payments` is by hash, and by service: services may see a payment each in their own way, or not.
    `released` is set when answers that are being held shall go; new answers get a new one.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self.lock = threading.RLock()
        self.released = threading.Event()
        self.reset()

    def reset(self) -> None:
        """Forget everything, and let go of every answer that is being held."""
        with self.lock:
            self.payments: dict[str, dict[str, chain.Payment]] = {}
            self.faults: list[Fault] = []
            self.latency: dict[str, float] = {}
            self.accepted_keys: dict[str, frozenset[str]] = {}
            self.requests: dict[str, deque[dict[str, Any]]] = {
                service: deque(maxlen=REMEMBERED_REQUESTS) for service in SERVICES
            }
            self.telegram = Telegram()
            self.release()

    def release(self) -> None:
        """Let go of every answer that is being held."""
        with self.lock:
            self.released.set()
            self.released = threading.Event()

    def add(self, versions: dict[str, chain.Payment]) -> None:
        """Put a payment on the chain, as each service sees it; the same hash is replaced."""
        for payment in versions.values():
            self.payments[payment.hash] = {}
        for service, payment in versions.items():
            self.payments[payment.hash][service] = payment

    def payment(self, service: str, transaction_hash: str) -> chain.Payment | None:
        """Return a payment as a service sees it, or None."""
        return self.payments.get(transaction_hash, {}).get(service)

    def receive(self, call: Call) -> tuple[Fault | None, float]:
        """Log a request, and return the fault it meets (used up once) and the latency."""
        entry = {"at": self.clock(), "path": call.path, "method": call.method}
        entry |= {"hash": call.hash, "key": call.key}
        with self.lock:
            self.requests[call.service].append(entry)
            fault = next((fault for fault in self.faults if fault.meant_for(call)), None)
            if fault is not None and fault.times is not None:
                fault.times -= 1
                if fault.times <= 0:
                    self.faults.remove(fault)
            return fault, self.latency.get(call.service, 0.0)
