"""The API guide tells the truth: its examples are run, against the real service and the sandbox."""

import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from commands import PATIENCE, ROOT, Commands
from helpers import clean_env
from loopback import Answer, Asked, Loopback, as_json
from serving import Sandbox, bot_of, described, sandboxed, serving

from buffettsbot.core.chain.judge import Reason
from buffettsbot.http.sandbox.control.routes import ROUTES
from buffettsbot.http.sandbox.tron.kinds import KINDS

GUIDE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", GUIDE, re.DOTALL)
EXPORTS = dict(re.findall(r"^export BUFFETTSBOT_(\w+)=(.+)$", GUIDE, re.MULTILINE))
CREATED = re.findall(r'^buffettsbot plans create "(.+)" (\d+)$', GUIDE, re.MULTILINE)
API, SANDBOX = "http://127.0.0.1:8000", "http://127.0.0.1:8900"
END = "@@ end of an example @@"


@dataclass(frozen=True)
class World:
    """What the guide's first part starts: the service and the sandbox, on ports of their own."""

    api: str
    sandbox: Sandbox

    def here(self, text: str) -> str:
        """Return the guide's text for these ports."""
        return text.replace(API, self.api).replace(SANDBOX, self.sandbox.url)


@pytest.fixture
def world(sqlite_url: str) -> Iterator[World]:
    """The place to try it, made with the settings that the guide exports."""
    with sandboxed() as sandbox:
        settings = {name.lower(): value for name, value in EXPORTS.items()} | sandbox.settings
        settings.pop("database_url")
        run = Commands(sqlite_url, **settings)
        for period, price in CREATED:
            run("plans", "create", period, price)
        with serving(clean_env(sqlite_url, **settings), "--quiet") as service:
            yield World(service.url, sandbox)


def _told(text: str) -> str:
    """Return an answer, its fields in their order, with what differs from day to day taken out."""
    text = re.sub(r"\d\d/\d\d/\d{4} \d\d:\d\d:\d\d", "DATE", text)
    told = json.loads(re.sub(r'"retry_after": \d+', '"retry_after": "SECONDS"', text))
    return json.dumps(told)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_is_answered_as_the_guide_says(world: World, tmp_path: Path) -> None:
    shell = [(n, world.here(text)) for n, (kind, text) in enumerate(BLOCKS) if kind == "bash"]
    script = "\n".join(f"{text}\necho '{END}'" for _, text in shell)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env=clean_env("sqlite://"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    answers = done.stdout.split(END)[:-1]
    compared = 0
    for (number, text), answer in zip(shell, answers, strict=True):
        if BLOCKS[number + 1][0] == "json":
            assert _told(answer) == _told(BLOCKS[number + 1][1]), text
            compared += 1
    assert compared == sum(kind == "json" for kind, _ in BLOCKS) >= 10
    assert "Welcome!" in answers[-1]


def test_the_guide_has_every_route_and_every_kind_of_payment() -> None:
    for path, verbs in described()["paths"].items():
        for verb in set(verbs) & {"get", "post", "put", "patch", "delete"}:
            assert f"{verb.upper()} {path}" in GUIDE, (verb, path)
    for kind in KINDS:
        assert f"`{kind}`" in GUIDE, kind
    for reason in Reason:
        assert reason is Reason.ACCEPTED or f"`{reason}`" in GUIDE, reason
    there = {f"{verb} /_sandbox/{path}" for verb, path, _ in ROUTES}
    named = set(re.findall(r"`([A-Z]+ /_sandbox/[\w/-]*)`", GUIDE))
    assert named <= there
    assert len(named) >= 8


@dataclass
class Phone:
    """Telegram for a bot: gives it updates one by one, and keeps what it sends."""

    updates: list[dict[str, Any]]
    sent: list[tuple[int, str]] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)

    def __call__(self, asked: Asked) -> Answer:
        """Answer one call of the bot."""
        body = json.loads(asked.body)
        if asked.path.endswith("/sendMessage"):
            self.sent.append((body["chat_id"], body["text"]))
            return as_json({"ok": True, "result": {}})
        assert asked.path.endswith("/getUpdates")
        assert "chat_join_request" in body["allowed_updates"]
        waiting = self.updates[body["offset"] : body["offset"] + 1]
        if not waiting:
            self.done.set()
            return Answer(reset=True)  # the bot has to bear that, and to ask again
        return as_json({"ok": True, "result": waiting})


def _message(chat_id: int, text: str) -> dict[str, Any]:
    person = {"id": chat_id, "first_name": "Ann", "username": f"ann{chat_id}"}
    return {"message": {"from": person, "chat": {"type": "private"}, "text": text}}


def _save_programs(directory: Path) -> None:
    for kind, text in BLOCKS:
        if kind == "python":
            name = re.match(r'"""(\w+\.py):', text)
            assert name is not None
            (directory / name[1]).write_text(text, encoding="utf-8")


def test_the_bot_of_the_guide_works(world: World, tmp_path: Path, loopback: Loopback) -> None:
    _save_programs(tmp_path)
    ann, eve, group = 7_000_000_001, 7_000_000_003, int(EXPORTS["GROUP_ID"])
    world.sandbox.telegram(token=EXPORTS["TELEGRAM_TOKEN"], group={"id": group})
    paid = world.sandbox.pay(to=EXPORTS["WALLET"])
    updates = [
        _message(ann, "/start"),
        _message(ann, "1 month"),
        _message(ann, paid),
        _message(ann, "/start"),
        _message(eve, paid),
        _message(eve, "1 month"),
        _message(eve, f"0x{paid.upper()}"),
        {"chat_join_request": {"from": {"id": ann}}},
        {"chat_join_request": {"from": {"id": eve}}},
    ]
    phone = Phone([each | {"update_id": n} for n, each in enumerate(updates)])
    loopback.answer = phone
    environment = {
        "SHOP_URL": world.api,
        "SHOP_TOKEN": EXPORTS["API_TOKEN"],
        "BOT_TOKEN": EXPORTS["TELEGRAM_TOKEN"],
        "TELEGRAM_URL": loopback.url,
        "WALLET": EXPORTS["WALLET"],
    }
    bot = subprocess.Popen(
        [sys.executable, "bot.py"],
        env=clean_env("sqlite://") | environment,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert phone.done.wait(PATIENCE), phone.sent
        assert bot.poll() is None, "the bot ended when Telegram went away"
    finally:
        bot.kill()
        said = bot.communicate()[1]
    assert said == ""
    to_ann = [text for chat_id, text in phone.sent if chat_id == ann]
    to_eve = [text for chat_id, text in phone.sent if chat_id == eve]
    assert to_ann[0].startswith("You are not a member yet.")
    assert EXPORTS["WALLET"] in to_ann[1]
    assert to_ann[2].startswith("You are in until ")
    assert to_eve[0].startswith("Which plan")
    assert to_eve[2].startswith("This payment has already been used")
    assert (len(to_ann), len(to_eve)) == (3, 3)
    with bot_of(world.api, EXPORTS["API_TOKEN"]) as asking:
        counted = asking.get("/metrics").text
    for answer in ("approved", "declined"):
        assert f'buffettsbot_join_requests_total{{answer="{answer}"}} 1.0' in counted


def test_the_bot_of_the_guide_does_not_hammer_what_refuses_it(
    tmp_path: Path, loopback: Loopback
) -> None:
    _save_programs(tmp_path)
    refused = threading.Semaphore(0)

    def refuse(_: Asked) -> Answer:
        refused.release()
        return as_json({"ok": False, "error_code": 401, "description": "Unauthorized"}, 401)

    loopback.answer = refuse
    environment = {"SHOP_TOKEN": "t", "BOT_TOKEN": "1:t", "TELEGRAM_URL": loopback.url}
    bot = subprocess.Popen(
        [sys.executable, "bot.py"], env=clean_env("sqlite://") | environment, cwd=tmp_path
    )
    try:
        assert refused.acquire(timeout=PATIENCE)
        assert not refused.acquire(timeout=1), "asked again at once"
        assert bot.poll() is None
    finally:
        bot.kill()
        bot.wait()
