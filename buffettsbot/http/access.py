"""Each request, counted and logged: its route, never its query or headers, which hold secrets."""

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

from bottle import Bottle

from buffettsbot.http.metrics import Metrics

log = logging.getLogger("buffettsbot.access")


def observed(routes: Bottle, metrics: Metrics) -> Callable[..., Iterable[bytes]]:
    """Return the WSGI application that notes what `routes` answers."""

    def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        started = time.perf_counter()
        status = "500"

        def note_status(line: str, headers: list[Any], exc_info: Any = None) -> Any:
            nonlocal status
            status = line[:3]
            return start_response(line, headers, exc_info)

        try:
            body: Iterable[bytes] = routes(environ, note_status)
            return body
        finally:
            seconds = time.perf_counter() - started
            known = environ.get("bottle.route")
            route = known.rule.rstrip("/") if known else "unmatched"
            method = environ["REQUEST_METHOD"]
            label = method if known else "other"
            metrics.requests.labels(route, label, status).inc()
            metrics.request_seconds.labels(route).observe(seconds)
            log.info("%s %s %s %.1f ms", method[:10], route, status, seconds * 1000)

    return application
