"""Delivers at once what a claim has queued, while the service runs; the timer is the safety net."""

import logging
import threading
from collections.abc import Callable

from buffettsbot.core.errors import BuffettsbotError
from buffettsbot.core.storage.passes import Report

log = logging.getLogger("buffettsbot.courier")


class Courier:
    """One thread that runs `deliver` whenever it is called; calls while it runs become one more."""

    def __init__(self, deliver: Callable[[], Report]) -> None:
        self._deliver = deliver
        self._called = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="courier", daemon=True)
        self._thread.start()

    def call(self) -> None:
        """Let it look into the outbox now; returns at once."""
        self._called.set()

    def stop(self, seconds: float = 5.0) -> None:
        """Let it finish what it is at, for so long; the rest is the timer's."""
        self._stopping = True
        self._called.set()
        self._thread.join(seconds)

    def _run(self) -> None:
        while self._called.wait() and not self._stopping:
            self._called.clear()
            try:
                self._deliver()
            except BuffettsbotError as error:
                log.warning("not delivered now: %s", error)
            except Exception:  # noqa: BLE001 -- a bug here must not end the service
                log.exception("not delivered now")
