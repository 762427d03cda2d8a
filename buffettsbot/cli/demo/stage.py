"""Where the demo plays: what people type, what the bot calls, what the phones show."""

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from buffettsbot.core.app import open_chain, open_telegram, style_of
from buffettsbot.core.chain.sources import Chain
from buffettsbot.core.messages.markup import plain
from buffettsbot.core.settings.settings import Settings
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.passes import Report
from buffettsbot.core.telegram.delivery import deliver
from buffettsbot.core.wire import Wire

WALLET = "TKJZwhq98wdYxpqxySYaTbwZkNp2vMtVhW"
TOKEN = "1234567890:of-the-demo"  # noqa: S105 -- the sandbox's
GROUP = -1_001_234_567_890
PATIENCE = 30.0


class WrongTurn(Exception):
    """A step did not show what it should."""


class Typist:
    """Types commands, each of which is a process of its own; see `typist.py`."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._files = [Path(environment["HOME"], name) for name in ("stdout", "stderr")]
        self._process = subprocess.Popen(  # noqa: S603 -- our own program
            [sys.executable, "-m", "buffettsbot.cli.demo.typist"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            process_group=0,  # Ctrl-C lets a command end; the demo stops between two of them
        )

    def type(self, arguments: Sequence[str]) -> tuple[int, str, str]:
        """Run a command; return its exit code, its stdout and its stderr."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin and stdout  # noqa: S101 -- they are pipes
        line = json.dumps([arguments, *map(str, self._files)])
        stdin.write(f"{line}\n".encode())
        if not select.select([stdout], [], [], PATIENCE)[0]:
            raise subprocess.TimeoutExpired(["buffettsbot", *arguments], PATIENCE)
        code = stdout.readline()
        if not code:
            raise WrongTurn("the command line does not start")
        said, complained = (file.read_text("utf-8") for file in self._files)
        return int(code), said, complained

    def close(self) -> None:
        """End it, and whatever it runs."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()


@dataclass
class Stage:
    """Where the story plays: what people see, the command line, the bot's side, the sandbox.

    `stopped` holds the signal that said so, if one did.
    """

    console: Console
    settings: Settings
    typist: Typist
    sandbox: httpx.Client
    bot: httpx.Client
    stopped: list[int]
    step: int = 0
    _shown: dict[int, int] = field(default_factory=dict)

    def scene(self, words: str) -> None:
        """Begin a step."""
        self.step += 1
        self.console.print()
        self.console.print(Text(f"{self.step:>2}  {words}", style="bold cyan"))

    def go_on(self) -> None:
        """Stop here, between two commands, if a signal said so: then nothing is left behind."""
        if self.stopped:
            self.console.print(Text("\nStopped.", style="bold red"))
            raise SystemExit(128 + self.stopped[0])

    def admin(self, *arguments: str, code: int = 0, shows: str = "") -> str:
        """Type a command; it has to exit with `code` and show `shows`."""
        self.go_on()
        shown = " ".join(f'"{word}"' if " " in word else _short(word) for word in arguments)
        self.console.print(Text(f"$ buffettsbot {shown}", style="bold"), soft_wrap=True)
        exited, stdout, stderr = self.typist.type(arguments)
        output = Text.from_ansi((stdout + stderr).rstrip())
        self.console.print(output, soft_wrap=True)
        if exited != code or shows not in output.plain:
            raise WrongTurn(
                f"buffettsbot {shown} exited with {exited} instead of {code}, "
                f"or did not show {shows!r}"
            )
        return stdout

    def call(self, method: str, path: str, status: int, **request: Any) -> Any:
        """Call the API as the bot does; it has to answer with `status`."""
        self.go_on()
        answer = self.bot.request(method, path, **request)
        self.console.print(Text(f"bot → {method} {answer.request.url.raw_path.decode()}", "bold"))
        text = re.sub(r"\b[0-9a-f]{64}\b", lambda match: _short(match[0]), answer.text)
        shown = Text(f"← {answer.status_code} {text}", "green" if status < 300 else "yellow")
        self.console.print(Padding(shown, (0, 0, 0, 4), expand=False))
        if answer.status_code != status:
            raise WrongTurn(f"{method} {path} answered {answer.status_code} instead of {status}")
        return answer.json()

    def pay(self, kind: str, amount: int, **more: Any) -> str:
        """Make a payment on the sandbox's chain; return its hash."""
        payment = {"kind": kind, "to": WALLET, "amount": str(amount), **more}
        return str(self.play("payments", **payment)["transaction_hash"])

    def play(self, what: str, **values: Any) -> Any:
        """Let something happen in the sandbox's world."""
        return self.sandbox.post(f"/_sandbox/{what}", json=values).json()

    def register(self, chat_id: int, name: str) -> None:
        """Make somebody known who has just pressed Start."""
        person = {"chat_id": chat_id, "telegram_username": name.lower(), "first_name": name}
        self.call("POST", "/api/v1/users/", 201, json=person)

    def claim(self, chat_id: int, period: str, transaction_hash: str, status: int) -> Any:
        """Hand in a hash, as the bot does for a customer."""
        body = {"chat_id": chat_id, "plan": period, "transaction_hash": transaction_hash}
        return self.call("POST", "/api/v1/subscriptions/", status, json=body)

    def receives(self, who: str, chat_id: int, *words: str, shown: int = 1) -> list[str]:
        """Wait until somebody has a new message for each of `words`, which has to be in it; show
        the first `shown` as the sandbox's Telegram received them. Returns their HTML.
        """
        before = self._shown.get(chat_id, 0)
        deadline = time.monotonic() + PATIENCE
        while len(fresh := self.received(chat_id)[before:]) < len(words):
            self.go_on()
            if time.monotonic() > deadline:
                raise WrongTurn(f"{who} received {len(fresh)} messages instead of {len(words)}")
            time.sleep(0.05)
        self._shown[chat_id] = before + len(fresh)
        texts = [str(each.get("caption") or each.get("text")) for each in fresh]
        for message, text in list(zip(fresh, texts, strict=True))[:shown]:
            picture = " (a picture)" if message["method"] == "sendPhoto" else ""
            self.console.print(Text(f"Telegram → {who}{picture}", style="bold magenta"))
            self.console.print(Padding(Text(plain(text)), (0, 0, 0, 4), expand=False))
        if (more := len(texts) - shown) > 0:
            noun = "more" if shown else "message" if more == 1 else "messages"
            self.console.print(Text(f"Telegram → {who}: {more} {noun}", style="bold magenta"))
        if len(texts) != len(words) or not all(map(str.__contains__, texts, words)):
            raise WrongTurn(f"{who} received {texts!r} instead of {words!r}")
        return texts

    def received(self, chat_id: int) -> list[dict[str, Any]]:
        """Return the messages that a chat has received so far."""
        answer = self.sandbox.get("/_sandbox/telegram/sent", params={"chat_id": chat_id})
        return [each for each in answer.json() if each["ok"]]

    def members(self) -> dict[int, str]:
        """Return who is what in the private group, at the sandbox's Telegram."""
        answer = self.sandbox.get("/_sandbox/telegram")
        return {int(each): status for each, status in answer.json()["group"]["members"].items()}

    def join(self, chat_id: int, message: str, *, approved: bool = True) -> None:
        """Open the invitation in a message, and be let in by the bot, or turned away."""
        link = re.search(r'href="(https://t\.me/[^"]+)"', message)
        self.play("telegram/join", user_id=chat_id, invite_link=link[1] if link else "")
        answer = self.call("POST", "/api/v1/join-requests/", 200, json={"chat_id": chat_id})
        is_in = self.members().get(chat_id) == "member"
        if answer != {"approved": approved} or is_in is not approved:
            raise WrongTurn(f"{chat_id} was answered {answer}, and is in the group: {is_in}")

    def run_later(self, moment: datetime, work: Callable[[Database, Chain], Report]) -> None:
        """Run a pass of the core at a time to come, which the command line cannot, and deliver what
        it queued; it has to do one thing, once.
        """
        self.go_on()
        with closing(Wire()) as wire, closing(Database(self.settings.database)) as db:
            chain, telegram = open_chain(self.settings, wire), open_telegram(self.settings, wire)
            report = work(db, chain)
            done = f"{report.name}: {report.due} due, {report.done} done"
            self.console.print(Text(f"… and on {moment:%d %b %Y %H:%M}, {done}", style="bold"))
            if (report.due, report.done) != (1, 1) or work(db, chain).due:
                raise WrongTurn(f"{done}, instead of one, once")
            deliver(db, telegram, style_of(self.settings), clock=lambda: moment)


def _short(word: str) -> str:
    return f"{word[:8]}…" if len(word) == 64 else word
