"""The wire: hard limits on time and size over a real socket, and no secret in any word."""

import base64
import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from loopback import Answer, Loopback

from buffettsbot.core import wire as wire_module
from buffettsbot.core.wire import NoAnswer, Wire


@pytest.fixture
def wire() -> Iterator[Wire]:
    client = Wire()
    yield client
    client.close()


def test_an_answer_comes_back_whole_whatever_its_status(wire: Wire, loopback: Loopback) -> None:
    loopback.answer = Answer(b"gone", 404, {"retry-after": "7"})
    reply = wire.ask("GET", loopback.url + "/x", params={"hash": "abc"})
    assert (reply.status, reply.body, reply.headers["Retry-After"]) == (404, b"gone", "7")
    assert loopback.asked[0].query == {"hash": ["abc"]}


def test_a_password_in_the_url_is_sent_and_never_told(wire: Wire, loopback: Loopback) -> None:
    behind = loopback.url.replace("://", "://owner:s%40cret@")
    wire.ask("GET", behind)
    token = base64.b64encode(b"owner:s@cret").decode()
    assert loopback.asked[0].headers["authorization"] == f"Basic {token}"
    loopback.answer = Answer(reset=True)
    with pytest.raises(NoAnswer) as told:
        wire.ask("GET", behind)
    assert "cret" not in str(told.value)


def test_a_server_that_closes_after_an_answer_is_asked_again(wire: Wire) -> None:
    """What it closed is not used again; what breaks under a question may have been carried out."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            for _ in range(2):
                with server.accept()[0] as caller:
                    caller.recv(65_536)
                    caller.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            with server.accept()[0] as caller:
                caller.recv(65_536)

        answering = threading.Thread(target=answer)
        answering.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        assert wire.ask("GET", url).body == b"ok"
        time.sleep(0.05)  # the end of that connection is on its way
        assert wire.ask("GET", url).body == b"ok"
        time.sleep(0.05)
        with pytest.raises(NoAnswer) as broken:
            wire.ask("GET", url)
        assert broken.value.sent
        answering.join()


def test_a_connection_is_kept_and_goes_to_whoever_asks_next(wire: Wire) -> None:
    """Two at once need two; after that the same two serve every thread."""
    meeting = threading.Barrier(2, timeout=10)
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"

        def serve(caller: socket.socket) -> None:
            with caller:
                while asked := caller.recv(65_536):
                    if b"/together" in asked:
                        meeting.wait()
                    caller.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

        def accept() -> None:
            for _ in range(2):
                threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()

        accepting = threading.Thread(target=accept)
        accepting.start()
        for path in ("/together", "/alone", "/together"):
            threads = [threading.Thread(target=wire.ask, args=("GET", url + path)) for _ in "12"]
            for thread in threads:
                thread.start()
                if path == "/alone":
                    thread.join()
            for thread in threads:
                thread.join()
        accepting.join()
        server.settimeout(0.1)
        with pytest.raises(TimeoutError):
            server.accept()


def test_a_redirect_is_not_followed(wire: Wire, loopback: Loopback) -> None:
    loopback.answer = Answer(b"", 302, {"location": loopback.url + "/elsewhere"})
    assert wire.ask("GET", loopback.url).status == 302
    assert len(loopback.asked) == 1


def test_the_environments_proxy_is_not_used(
    wire: Wire, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    client = Wire()
    assert client.ask("GET", loopback.url).status == 200
    client.close()


def _drip(seconds: float) -> Iterator[bytes]:
    """A byte every now and then: each read is quick, the whole never ends."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield b" "
        time.sleep(0.05)


def test_a_service_that_drips_is_left_when_the_whole_answer_takes_too_long(
    wire: Wire, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire_module, "ANSWER_SECONDS", 0.3)
    loopback.answer = lambda _: Answer(_drip(5))
    started = time.monotonic()
    with pytest.raises(NoAnswer, match="no whole answer in time") as caught:
        wire.ask("GET", loopback.url)
    assert time.monotonic() - started < 2
    assert caught.value.sent


def test_the_callers_deadline_ends_a_drip_before_the_own_limit(
    wire: Wire, loopback: Loopback
) -> None:
    loopback.answer = lambda _: Answer(_drip(5))
    started = time.monotonic()
    with pytest.raises(NoAnswer):
        wire.ask("GET", loopback.url, deadline=time.monotonic() + 0.2)
    assert time.monotonic() - started < 2


def test_nothing_is_sent_once_the_deadline_is_over(wire: Wire, loopback: Loopback) -> None:
    with pytest.raises(NoAnswer) as caught:
        wire.ask("GET", loopback.url, deadline=time.monotonic() - 1)
    assert not caught.value.sent
    assert loopback.asked == []


def test_a_kept_connection_obeys_the_deadline_of_its_next_question(
    wire: Wire, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire_module, "ANSWER_SECONDS", 0.4)
    assert wire.ask("GET", loopback.url).status == 200
    time.sleep(0.5)
    assert wire.ask("GET", loopback.url).status == 200


def test_the_deadline_of_one_thread_is_not_anothers(wire: Wire, loopback: Loopback) -> None:
    loopback.answer = lambda asked: Answer(_drip(0.6 if asked.path == "/slow" else 0.0))
    replies: list[int] = []
    patient = threading.Thread(
        target=lambda: replies.append(wire.ask("GET", loopback.url + "/slow").status)
    )
    patient.start()
    with pytest.raises(NoAnswer):
        wire.ask("GET", loopback.url + "/slow", deadline=time.monotonic() + 0.1)
    patient.join()
    assert replies == [200]


def test_a_giant_answer_is_cut_off(wire: Wire, loopback: Loopback) -> None:
    sent: list[int] = []

    def flood() -> Iterator[bytes]:
        for _ in range(64):
            sent.append(1)
            yield b"x" * 1_000_000

    loopback.answer = lambda _: Answer(flood())
    with pytest.raises(NoAnswer, match="larger than 2 MiB"):
        wire.ask("GET", loopback.url)
    assert len(sent) < 64, "the rest was read all the same"


def test_an_answer_of_just_two_mebibytes_is_read(wire: Wire, loopback: Loopback) -> None:
    loopback.answer = Answer(b"x" * wire_module.LARGEST_BODY)
    assert len(wire.ask("GET", loopback.url).body) == wire_module.LARGEST_BODY


def test_a_closed_port_is_no_answer_and_nothing_was_sent(wire: Wire, loopback: Loopback) -> None:
    loopback.close()
    with pytest.raises(NoAnswer, match="no connection") as caught:
        wire.ask("GET", loopback.url)
    assert not caught.value.sent


def test_who_does_not_take_the_call_is_left_sooner_than_who_does_not_answer(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire_module, "CONNECT_SECONDS", 0.3)
    with socket.socket() as server, contextlib.ExitStack() as queue:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(4):  # more than wait in its line: the next call is not taken
            waiting = queue.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        started = time.monotonic()
        with pytest.raises(NoAnswer, match="no connection in time") as caught:
            wire.ask("GET", f"http://127.0.0.1:{server.getsockname()[1]}/")
    assert time.monotonic() - started < 5
    assert not caught.value.sent


def test_a_connection_that_is_reset_is_no_answer_though_something_was_sent(
    wire: Wire, loopback: Loopback
) -> None:
    loopback.answer = Answer(reset=True)
    with pytest.raises(NoAnswer, match="connection broke") as caught:
        wire.ask("GET", loopback.url)
    assert caught.value.sent


def test_something_that_speaks_no_http_is_no_answer(wire: Wire) -> None:
    server = socket.create_server(("127.0.0.1", 0))

    def greet() -> None:
        connection, _ = server.accept()
        connection.sendall(b"220 mail.example ESMTP\r\n")
        connection.close()

    greeter = threading.Thread(target=greet)
    greeter.start()
    with pytest.raises(NoAnswer, match="connection broke"):
        wire.ask("GET", f"http://127.0.0.1:{server.getsockname()[1]}/")
    greeter.join()
    server.close()


def test_a_body_that_is_not_what_its_encoding_says_is_no_answer(
    wire: Wire, loopback: Loopback
) -> None:
    loopback.answer = Answer(b"not gzip at all", headers={"content-encoding": "gzip"})
    with pytest.raises(NoAnswer):
        wire.ask("GET", loopback.url)


def test_the_words_of_a_failure_never_hold_the_url(wire: Wire, loopback: Loopback) -> None:
    loopback.close()
    for url in (loopback.url + "/bot123:SECRET/x", "http://[SECRET", "nonsense://SECRET"):
        with pytest.raises(NoAnswer) as caught:
            wire.ask("GET", url)
        assert "SECRET" not in str(caught.value)
        assert "SECRET" not in repr(caught.value)


@pytest.mark.parametrize("key", ["ключ-SECRET", "SECRET\r\nx-evil: 1", "SECRET\0"])
def test_a_header_that_cannot_be_sent_is_no_answer_not_a_crash(
    wire: Wire, loopback: Loopback, key: str
) -> None:
    with pytest.raises(NoAnswer) as caught:
        wire.ask("GET", loopback.url, headers={"TRON-PRO-API-KEY": key})
    assert "SECRET" not in str(caught.value)
    assert loopback.asked == []
