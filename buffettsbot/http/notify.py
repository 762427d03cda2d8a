"""What systemd is told about the service: ready, alive, stopping. Without it, nothing happens.

The protocol is that of sd_notify(3): a datagram to the socket that `NOTIFY_SOCKET` names.
"""

import os
import socket
import threading
from collections.abc import Callable


def notify(state: str) -> None:
    """Tell systemd of a state such as `READY=1`; it is lost where nobody listens."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):  # an abstract socket
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        try:
            channel.sendto(state.encode(), address)
        except OSError:
            return


def watchdog_seconds() -> float | None:
    """Return after how much silence systemd restarts this process, None if it does not."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    ours = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(microseconds) / 1e6 if ours and microseconds.isdecimal() else None


class Watchdog:
    """One thread that feeds systemd's watchdog, and only while `alive` says so.

    `alive` may take its time, or hang: then nothing is fed.
    """

    def __init__(self, alive: Callable[[], bool]) -> None:
        self._alive = alive
        self._stopped = threading.Event()
        seconds = watchdog_seconds()
        if seconds:
            self._every = seconds / 3
            threading.Thread(target=self._run, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """Feed no more."""
        self._stopped.set()

    def _run(self) -> None:
        while True:
            if self._alive():
                notify("WATCHDOG=1")
            if self._stopped.wait(self._every):
                return
