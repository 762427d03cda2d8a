"""What is on sale, health and metrics; and everything while the database is away."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from serving import Bot, Host, Sandbox, described
from sqlalchemy import make_url

from buffettsbot import __version__
from buffettsbot.core.offers import plans

ANN = 7_000_000_001


@pytest.mark.parametrize("path", ["/api/v1/plans/", "/api/v1/plans"])
def test_plans_on_sale_are_listed_the_shortest_first(bot: Bot, host: Host, path: str) -> None:
    assert bot.get(path).json() == []
    ids = {}
    for period, price in (("1 year", 500), ("3 months", 140), ("1 month", 50)):
        ids[period] = plans.create_plan(host.app.db, period=period, price=price).id
    plans.retire_plan(host.app.db, period="3 months")
    answer = bot.get(path)
    assert (answer.status_code, answer.json()) == (
        200,
        [
            {"id": ids["1 month"], "period": "1 month", "price": 50},
            {"id": ids["1 year"], "period": "1 year", "price": 500},
        ],
    )


def test_the_description_is_served_with_the_real_version(bot: Bot) -> None:
    expected = described()
    expected["info"]["version"] = __version__
    for path in ("/api/v1/openapi.json", "/api/v1/openapi.json/"):
        assert bot.get(path).json() == expected


def test_health_is_ok_while_the_database_answers(bot: Bot) -> None:
    for path in ("/healthz", "/healthz/"):
        answer, ok = bot.get(path), {"status": "ok", "version": __version__}
        assert (answer.status_code, answer.json()) == (200, ok)


@contextlib.contextmanager
def database_away(database_url: str, host: Host, server: str) -> Iterator[None]:
    """Take the database away from a running service: no connection, or no data in the file."""
    url = make_url(database_url)
    if url.get_backend_name() == "sqlite":
        host.app.db.close()
        path = Path(str(url.database))
        for name in (f"{path}-wal", f"{path}-shm"):
            Path(name).unlink(missing_ok=True)
        kept = path.read_bytes()
        path.write_bytes(b"this is no database " * 1000)
        yield
        path.write_bytes(kept)
        return
    plain = make_url(server).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain, autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {url.database} ALLOW_CONNECTIONS false".encode())
        sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
        admin.execute(sql, (url.database,))
        yield
        admin.execute(f"ALTER DATABASE {url.database} ALLOW_CONNECTIONS true".encode())


def test_everything_says_503_while_the_database_is_away_and_recovers(
    shop: Bot, host: Host, sandbox: Sandbox, database_url: str, request: pytest.FixtureRequest
) -> None:
    paid = sandbox.pay()
    shop.get("/api/v1/plans/")
    sqlite = database_url.startswith("sqlite")
    server = "" if sqlite else request.getfixturevalue("postgres_url")
    with database_away(database_url, host, server):
        answer = shop.get("/healthz")
        expected = {"status": "unavailable", "version": __version__}
        assert (answer.status_code, answer.json()) == (503, expected)
        for answer in (
            shop.get("/api/v1/plans/"),
            shop.get("/api/v1/subscriptions/", chat_id=ANN),
            shop.post("/api/v1/users/", {"chat_id": 1, "telegram_username": "x"}),
            shop.claim(ANN, paid),
        ):
            assert answer.status_code == 503
            assert answer.headers["retry-after"] == "5"
            assert "database" in answer.json()["message"]
        metrics = shop.get("/metrics")
        assert metrics.status_code == 200
        assert "buffettsbot_payments_open" not in metrics.text
    assert shop.get("/healthz").status_code == 200
    assert shop.claim(ANN, paid).status_code == 201


def test_metrics_are_prometheus_text(bot: Bot) -> None:
    for path in ("/metrics", "/metrics/"):
        answer = bot.get(path)
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert "# TYPE buffettsbot_claims_total counter" in answer.text
