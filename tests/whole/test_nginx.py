"""The nginx site that is shipped: whatever nginx refuses by itself is JSON, like all the rest.

A real nginx with the real file, its TLS taken off; scripts/test-host has it on a real host.
"""

import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest
from commands import PATIENCE, ROOT

NGINX = shutil.which("nginx") or "/usr/sbin/nginx"
pytestmark = pytest.mark.skipif(not os.path.exists(NGINX), reason="no nginx")


class _Service(BaseHTTPRequestHandler):
    """A service that refuses in its own words."""

    def do_GET(self) -> None:
        self.send_response(404)
        self.end_headers()
        self.wfile.write(b"its own words")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[str, int]]:
    """The site's URL, and the port at which it expects the service."""
    port, behind = _free_port(), _free_port()
    text = (ROOT / "systemd" / "nginx.conf").read_text()
    text = re.sub(r"server \{\n    listen 80;.*?\n\}\n", "", text, flags=re.DOTALL)
    text = text.replace("listen 443 ssl http2;", f"listen 127.0.0.1:{port};")
    text = re.sub(r"\n    ssl_[^\n]*", "", text)
    text = text.replace("http://127.0.0.1:8000", f"http://127.0.0.1:{behind}")
    places = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{each}_temp_path {tmp_path}/{each};\n" for each in places)
    whole = (
        f"daemon off;\npid {tmp_path}/pid;\nerror_log {tmp_path}/errors;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{temporary}{text}}}\n"
    )
    file = tmp_path / "nginx.conf"
    file.write_text(whole)
    process = subprocess.Popen([NGINX, "-p", tmp_path, "-c", file], stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"

    def is_up() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    deadline = time.monotonic() + PATIENCE
    try:
        while not is_up():
            assert process.poll() is None and time.monotonic() < deadline, (
                tmp_path / "errors"
            ).read_text()
            time.sleep(0.02)
        yield url, behind
    finally:
        process.terminate()
        process.wait()


def test_what_nginx_refuses_is_json(site: tuple[str, int]) -> None:
    url, behind = site
    with httpx.Client(base_url=url, trust_env=False) as http:
        for method, path, body, status in (
            ("GET", "/healthz", b"", 404),
            ("GET", "/elsewhere", b"", 404),
            ("POST", "/api/v1/users/", b"x" * 70_000, 413),
            ("GET", "/api/v1/plans/", b"", 502),
        ):
            answer = http.request(method, path, content=body)
            assert answer.status_code == status
            assert answer.headers["content-type"] == "application/json"
            assert answer.json()["status"] == status
            assert answer.json()["success"] is False
            assert answer.json()["message"]
        assert answer.headers["retry-after"] == "5"

        flood = [http.get("/api/v1/plans/") for _ in range(80)]
        limited = [answer for answer in flood if answer.status_code == 429]
        assert limited
        assert {answer.json()["status"] for answer in limited} == {429}
        assert {answer.headers["retry-after"] for answer in limited} == {"1"}


def test_what_the_service_says_goes_through_as_it_is(site: tuple[str, int]) -> None:
    url, behind = site
    service = HTTPServer(("127.0.0.1", behind), _Service)
    threading.Thread(target=service.serve_forever, daemon=True).start()
    try:
        answer = httpx.get(f"{url}/api/v1/plans/", trust_env=False)
        assert (answer.status_code, answer.text) == (404, "its own words")
    finally:
        service.shutdown()
        service.server_close()
