"""What Prometheus is told: counted here as it happens, or looked up when it asks."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from sqlmodel import col

from buffettsbot.core.errors import Unavailable
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import OPEN, PassRun, Payment

CHAIN_SECONDS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3, 5, 8, 14)
REQUEST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15)


class Metrics:
    """The service's counters, in a registry of their own."""

    def __init__(self, db: Database) -> None:
        self.registry = CollectorRegistry()
        self.claims = Counter(
            "buffettsbot_claims",
            "Claims answered, by verdict and reason.",
            ["verdict", "reason"],
            registry=self.registry,
        )
        self.join_requests = Counter(
            "buffettsbot_join_requests",
            "Join requests answered, by answer.",
            ["answer"],
            registry=self.registry,
        )
        self.requests = Counter(
            "buffettsbot_http_requests",
            "Requests answered, by route, method and status.",
            ["route", "method", "status"],
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "buffettsbot_http_request_seconds",
            "Time to answer, by route.",
            ["route"],
            buckets=REQUEST_SECONDS,
            registry=self.registry,
        )
        self.chain_seconds = Histogram(
            "buffettsbot_chain_seconds",
            "Time a chain source took, by source and whether it answered.",
            ["source", "outcome"],
            buckets=CHAIN_SECONDS,
            registry=self.registry,
        )
        self.registry.register(_DatabaseCollector(db))
        ProcessCollector(registry=self.registry)

    def observe_chain(self, source: str, outcome: str, seconds: float) -> None:
        """Count one question to a chain source (the chain's observer)."""
        self.chain_seconds.labels(source, outcome).observe(seconds)

    def text(self) -> bytes:
        """Return everything in Prometheus' text form."""
        return generate_latest(self.registry)


class _DatabaseCollector(Collector):
    """What stands in the database; absent while it does not answer."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield what is open, and when each pass last ended."""
        pending = GaugeMetricFamily(
            "buffettsbot_payments_open", "Payments not decided yet, by status.", labels=["status"]
        )
        finished = GaugeMetricFamily(
            "buffettsbot_pass_finished_timestamp_seconds",
            "When each pass last ended (Unix time).",
            labels=["pass"],
        )
        try:
            with self._db.read() as session:
                counts = session.execute(_OPEN_PAYMENTS).all()
                latest = session.execute(_LATEST_PASSES).all()
        except Unavailable:
            return
        for status, count in counts:
            pending.add_metric([status], count)
        for name, at in latest:
            finished.add_metric([name], at.timestamp())
        yield pending
        yield finished

    def describe(self) -> list[GaugeMetricFamily]:
        """Nothing to ask the database for at registration."""
        return []


_OPEN_PAYMENTS = (
    select(col(Payment.status), func.count())
    .where(col(Payment.status).in_(OPEN))
    .group_by(col(Payment.status))
)
_LATEST_PASSES = (
    select(col(PassRun.name), func.max(col(PassRun.finished_at)))
    .where(col(PassRun.finished_at).is_not(None))
    .group_by(col(PassRun.name))
)
