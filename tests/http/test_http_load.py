"""Slow clients, a dead TRON, a stop in the middle: what the service does then, not how fast."""

import contextlib
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from resource import RLIMIT_NOFILE, prlimit
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from helpers import clean_env, hash_of, in_parallel, ledger, membership, person, shop
from prometheus_client.parser import text_string_to_metric_families
from serving import (
    Bot,
    Clock,
    Sandbox,
    app_of,
    bot_of,
    hosting,
    launch,
    open_chain_of,
    sandboxed,
    serving,
)

from buffettsbot.cli.serve import CHAIN_SLOTS, THREADS
from buffettsbot.core.app import App, expectation_of, utcnow
from buffettsbot.core.ledger.settle import settle
from buffettsbot.core.storage.passes import run_recorded
from buffettsbot.http import server as server_module
from buffettsbot.http.server import Server

pytestmark = pytest.mark.slow

CLAIMS = "/api/v1/subscriptions/"
TOKEN = "a-token-that-nobody-may-see"


@pytest.fixture(scope="module")
def shared_sandbox() -> Iterator[Sandbox]:
    # It holds an answer in a thread, so it needs more of these than claims that wait.
    with sandboxed(threads=CHAIN_SLOTS + 12) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(shared_sandbox: Sandbox) -> Iterator[Sandbox]:
    shared_sandbox.reset()
    yield shared_sandbox
    shared_sandbox.reset()


@pytest.fixture
def env(database_url: str, sandbox: Sandbox) -> dict[str, str]:
    return clean_env(database_url, **sandbox.settings)


@pytest.fixture
def app(env: dict[str, str]) -> Iterator[App]:
    """The same database, seen from here: a month is on sale."""
    app = app_of(env, Clock())
    shop(app.db)
    yield app
    app.db.close()


def until(condition: Any, *, seconds: float = 30.0) -> None:
    """Wait until a condition holds; fail when it does not come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it does not come true"
        time.sleep(0.01)


def place(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return str(parts.hostname), int(parts.port or 0)


# Slow clients


class Drip:
    """A client that sends one byte at a time and would go on for ever."""

    def __init__(self, url: str, start: bytes, drop: bytes) -> None:
        self.connection = socket.create_connection(place(url), 10)
        self.connection.sendall(start)
        self.connection.setblocking(False)
        self.began = time.monotonic()
        self.drop = drop
        self.cut_after: float | None = None

    def send(self) -> None:
        if self.cut_after is not None:
            return
        try:
            self.connection.send(self.drop)
            with contextlib.suppress(BlockingIOError):
                if self.connection.recv(1000) == b"":
                    raise ConnectionResetError
        except OSError:
            self.cut_after = time.monotonic() - self.began


def test_slow_clients_are_cut_and_disturb_nobody(
    sqlite_url: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "REQUEST_SECONDS", 2)
    head = b"POST /api/v1/users/ HTTP/1.1\r\nContent-Type: application/json\r\n"
    starts = [(b"G", b"x"), (head, b"x"), (head + b"Content-Length: 60000\r\n\r\n{", b" ")]
    starts.append((head + b"Transfer-Encoding: chunked\r\n\r\n", b"0"))
    env = clean_env(sqlite_url, **sandbox.settings)
    with hosting(env, sandbox.wire, threads=4) as host, bot_of(host.url, timeout=10) as bot:
        shop(host.app.db)
        bot.register(1)
        drips = [Drip(host.url, *starts[n % len(starts)]) for n in range(60)]
        served = 0
        deadline = time.monotonic() + 25
        while any(drip.cut_after is None for drip in drips) and time.monotonic() < deadline:
            for drip in drips:
                drip.send()
            assert bot.get("/healthz").status_code == 200
            assert bot.claim(1, sandbox.pay()).status_code == 201
            served += 1
            time.sleep(0.1)
        for drip in drips:
            drip.connection.close()
        cut = [drip.cut_after for drip in drips if drip.cut_after is not None]
        assert len(cut) == len(drips), f"only {len(cut)} of {len(drips)} slow clients were cut"
        assert min(cut) > 1.5  # they had their time
        assert served >= 5


def test_a_client_that_does_not_read_its_answers_is_cut(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "REQUEST_SECONDS", 1)
    with (
        hosting(clean_env(sqlite_url), threads=2) as host,
        bot_of(host.url) as bot,
        socket.socket() as deaf,
    ):
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.settimeout(20)
        deaf.connect(place(host.url))
        request = b"GET /api/v1/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
        with pytest.raises(ConnectionError):  # cut, however much we still ask
            while True:
                deaf.sendall(request * 100)
                assert bot.get("/healthz").status_code == 200


IDLE = """
import socket, sys
place = sys.argv[1], int(sys.argv[2])
kept = [socket.create_connection(place, 20) for _ in range(int(sys.argv[3]))]
print(len(kept), flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def crowd(url: str, count: int) -> Iterator[None]:
    """Another process with so many idle connections."""
    command = [sys.executable, "-c", IDLE, *map(str, place(url)), str(count)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == f"{count}\n"
        yield
        process.kill()


def test_idle_connections_leave_enough_files_for_claims(
    env: dict[str, str], app: App, sandbox: Sandbox
) -> None:
    person(app.db, 1, "ann")
    sandbox.delay(0.5)
    paid = [sandbox.pay() for _ in range(CHAIN_SLOTS)]
    with serving(env, "--quiet") as service, contextlib.ExitStack() as stack:
        prlimit(service.process.pid, RLIMIT_NOFILE, (1024, 1024))  # what most hosts allow
        bots = [stack.enter_context(bot_of(service.url)) for _ in paid]
        for bot in bots:  # each has its connection; beyond the limit nobody is let in
            assert bot.get("/healthz").status_code == 200
        with crowd(service.url, 1000):
            until(lambda: "reached the connection limit" in service.text)
            answers = in_parallel(len(paid), lambda n: bots[n].claim(1, paid[n]).status_code)
    assert Counter(answers) == {201: CHAIN_SLOTS}


# A dead TRON


def test_a_dead_tron_starves_nobody_and_no_claim_is_lost(
    env: dict[str, str], app: App, sandbox: Sandbox
) -> None:
    count = 60
    assert CHAIN_SLOTS < THREADS < count
    for chat_id in range(1, count + 1):
        person(app.db, chat_id, f"u{chat_id}")
    paid = {chat_id: sandbox.pay() for chat_id in range(1, count + 1)}
    sandbox.fail("timeout", seconds=60)
    with serving(env, "--quiet") as service, bot_of(service.url) as bot:
        with ThreadPoolExecutor(count) as pool:
            claims = [pool.submit(bot.claim, *claim) for claim in paid.items()]

            def answered() -> list[httpx.Response]:
                return [claim.result() for claim in claims if claim.done()]

            # Those beyond the slots are answered though TRON never answers.
            until(lambda: len(answered()) >= count - CHAIN_SLOTS)
            for _ in range(4):
                assert bot.get("/healthz").status_code == 200
                assert bot.get(CLAIMS, chat_id=1).status_code == 404
                assert bot.get("/api/v1/plans/").status_code == 200
                bot.register(1, "u1")
            assert sum(not claim.done() for claim in claims) == CHAIN_SLOTS
            for answer in answered():
                assert answer.status_code == 202
                assert answer.json()["reason"] == "source-unavailable"
                assert answer.headers["retry-after"]
            asked = set(sandbox.asked())
            assert asked <= {p.transaction_hash for p in ledger(app.db)}, "asked before written"
            until(lambda: {p.transaction_hash for p in ledger(app.db)} == set(paid.values()))
            assert {p.status for p in ledger(app.db)} == {"pending"}
            sandbox.reset_faults()
        codes = Counter(claim.result().status_code for claim in claims)
        assert codes[201] + codes[202] == count
        chain, expectation = open_chain_of(app, sandbox.wire), expectation_of(app.settings)
        settle(app.db, chain, expectation, now=utcnow() + timedelta(minutes=2))
    assert {p.status for p in ledger(app.db)} == {"accepted"}
    for chat_id in paid:
        assert membership(app.db, chat_id).transaction_hash == paid[chat_id]


# Stopping


def refused(url: str) -> bool:
    try:
        socket.create_connection(place(url), 5).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:  # it closes its door in this very moment
        return False
    return False


def test_a_stop_finishes_what_is_in_flight(env: dict[str, str], app: App, sandbox: Sandbox) -> None:
    person(app.db, 1, "ann")
    paid = [sandbox.pay() for _ in range(8)]
    sandbox.fail("timeout", "tronscan", seconds=60)
    with serving(env) as service, bot_of(service.url) as bot:
        with ThreadPoolExecutor(len(paid)) as pool:
            claims = [pool.submit(bot.claim, 1, each) for each in paid]
            until(lambda: set(sandbox.asked()) >= set(paid))
            service.terminate()
            until(lambda: refused(service.url))
            service.terminate()  # once more changes nothing
            time.sleep(1.5)  # longer than a server would wait that has not been told to
            assert not any(claim.done() for claim in claims)
            assert service.process.poll() is None
            sandbox.reset_faults()
            answers = [claim.result() for claim in claims]
        assert service.ended() == 0
    assert [answer.status_code for answer in answers] == [201] * len(paid)
    assert len(ledger(app.db)) == len(paid)
    assert "Traceback" not in service.text


@pytest.mark.parametrize("signal_name", ["SIGTERM", "SIGINT"])
def test_a_stop_without_requests_is_immediate(sqlite_url: str, signal_name: str) -> None:
    with serving(clean_env(sqlite_url)) as service, bot_of(service.url) as bot:
        # the bot's idle connection holds nothing up
        assert bot.get("/healthz").status_code == 200
        service.end_by(signal.Signals[signal_name])
        assert service.ended() == 0
    assert "Traceback" not in service.text


def test_a_half_sent_request_does_not_hold_up_the_stop(sqlite_url: str) -> None:
    with (
        serving(clean_env(sqlite_url)) as service,
        socket.create_connection(place(service.url), 10) as connection,
    ):
        connection.sendall(b"POST /api/v1/users/ HTTP/1.1\r\nContent-Length: 100\r\n\r\n{")
        began = time.monotonic()
        assert service.stop() == 0
        assert time.monotonic() - began < server_module.STOP_SECONDS / 2


def test_a_taken_port_is_one_sentence(sqlite_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        service = launch(clean_env(sqlite_url), bind=bind)
        assert service.ended() == 5
        assert service.said == [
            f"error: {bind} is taken by another program. Stop that one, or choose another place "
            "with --bind or BUFFETTSBOT_BIND."
        ]


def test_a_stop_may_be_repeated_even_after_the_end() -> None:
    server = Server(lambda environ, start: [], "127.0.0.1:0", threads=1)
    running = threading.Thread(target=server.run)
    running.start()
    for _ in range(3):
        server.stop()
    running.join(10)
    assert not running.is_alive()
    server.stop()


# What is told of all this


def test_the_log_tells_routes_and_no_secret(sqlite_url: str, sandbox: Sandbox) -> None:
    secrets = {"telegram_token": "123456:TELEGRAM", "tronscan_api_key": "KEY-SCAN"}
    secrets |= {"trongrid_api_key": "KEY-GRID", "api_token": TOKEN}
    env = clean_env(sqlite_url, **(sandbox.settings | secrets))
    sandbox.fail("429", times=2)
    with serving(env) as service:
        with bot_of(service.url, TOKEN) as bot:
            shop_of(env)
            bot.register(7, "somebody")
            bot.claim(7, hash_of(7))
            bot.get(CLAIMS, telegram_username="somebody", token=TOKEN)
            bot.http.get(f"/nowhere/{TOKEN}")
            bot.http.request(f"X{TOKEN.upper()}", "/healthz")
        with bot_of(service.url, "wrong-token") as stranger:
            assert stranger.get("/api/v1/plans/").status_code == 401
        assert service.stop() == 0
    lines = [line for line in service.said if line.startswith("INFO ")]
    told = [tuple(line.split(" ")[1:4]) for line in lines]
    assert told == [
        ("POST", "/api/v1/users", "201"),
        ("POST", "/api/v1/subscriptions", "202"),
        ("GET", "/api/v1/subscriptions", "404"),
        ("GET", "unmatched", "404"),
        (f"X{TOKEN.upper()}"[:10], "unmatched", "405"),
        ("GET", "unmatched", "401"),
    ]
    for secret in (*secrets.values(), "Authorization", "Bearer", "somebody", "wrong-token", "?"):
        assert secret not in service.text


def shop_of(env: dict[str, str]) -> None:
    app = app_of(env, Clock())
    shop(app.db)
    app.db.close()


def test_a_quiet_service_logs_no_requests(sqlite_url: str) -> None:
    with serving(clean_env(sqlite_url), "--quiet") as service:
        with bot_of(service.url) as bot:
            bot.get("/healthz")
        assert service.stop() == 0
    assert [line for line in service.said if "healthz" in line] == []


def metrics(bot: Bot) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Return every sample by its name and labels."""
    families = text_string_to_metric_families(bot.get("/metrics").text)
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def labelled(samples: dict[Any, float], name: str) -> dict[tuple[str, ...], float]:
    """Return the samples of one name, by the values of their labels in the labels' order."""
    return {
        tuple(value for _, value in labels): count
        for (sample, labels), count in samples.items()
        if sample == name
    }


def test_metrics_count_claims_chain_and_requests(
    env: dict[str, str], app: App, sandbox: Sandbox
) -> None:
    with hosting(env, sandbox.wire) as host, bot_of(host.url) as bot:
        bot.register(1, "ann")
        for kind in ("good", "good", "underpaid", "unconfirmed", "fake-token"):
            bot.claim(1, sandbox.pay(kind))
        bot.claim(1, "nonsense")
        bot.claim(1, "nonsense", "2 years")
        sandbox.fail("500")
        bot.claim(1, sandbox.pay())
        for number in range(20):
            bot.http.get(f"/nowhere/{number}")
            bot.http.request(f"FOO{number}", "/healthz")
        bot.get("/healthz/")
        run_recorded(app.db, utcnow, "settle", lambda: settle(
            app.db, open_chain_of(app, sandbox.wire), expectation_of(app.settings), now=utcnow()
        ))  # fmt: skip
        samples = metrics(bot)
    assert labelled(samples, "buffettsbot_claims_total") == {
        ("accepted", "accepted"): 2,
        ("underpaid", "refused"): 1,
        ("unconfirmed", "pending"): 1,
        ("no-usdt-transfer", "refused"): 1,
        ("malformed-hash", "refused"): 2,
        ("source-unavailable", "pending"): 1,
    }
    asked = labelled(samples, "buffettsbot_chain_seconds_count")
    assert asked[("answered", "tronscan")] == 5
    assert asked[("answered", "trongrid")] == 1  # about the unconfirmed one
    assert asked[("silent", "tronscan")] >= 1
    assert asked[("silent", "trongrid")] >= 1
    requests = labelled(samples, "buffettsbot_http_requests_total")
    assert requests == {
        ("POST", "/api/v1/users", "201"): 1,
        ("POST", "/api/v1/subscriptions", "201"): 2,
        ("POST", "/api/v1/subscriptions", "202"): 2,
        ("POST", "/api/v1/subscriptions", "400"): 4,
        ("GET", "/healthz", "200"): 1,
        ("other", "unmatched", "404"): 20,
        ("other", "unmatched", "405"): 20,
    }
    seconds = labelled(samples, "buffettsbot_http_request_seconds_count")
    assert seconds[("/api/v1/subscriptions",)] == 8
    assert labelled(samples, "buffettsbot_payments_open") == {("pending",): 2}
    finished = labelled(samples, "buffettsbot_pass_finished_timestamp_seconds")
    assert abs(finished[("settle",)] - time.time()) < 60


def test_metrics_hold_no_name_and_no_hash(env: dict[str, str], app: App, sandbox: Sandbox) -> None:
    paid = sandbox.pay()
    with hosting(env, sandbox.wire) as host, bot_of(host.url) as bot:
        bot.register(7_000_000_001, "somebody")
        bot.claim("somebody", paid)
        text = bot.get("/metrics").text
    for private in (paid, "somebody", "7000000001"):
        assert private not in text
