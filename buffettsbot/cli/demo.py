"""buffettsbot demo: the whole story, through the real command line and the real HTTP server.

Everything happens in a temporary directory against the sandbox; each step is checked, and the first
that does not show what it should ends the demo loudly.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import typer
from rich.console import Console
from rich.text import Text

from buffettsbot.cli.options import command_settings
from buffettsbot.http.sandbox import running_sandbox

app = typer.Typer(**command_settings)

WALLET = "TKJZwhq98wdYxpqxySYaTbwZkNp2vMtVhW"
ANN, BEN, EVE, OWNER = 7_000_000_001, 7_000_000_002, 7_000_000_003, 42


class WrongTurn(Exception):
    """A step did not show what it should."""


@dataclass
class Stage:
    """Where the story plays: what people see, the command line, the bot's side, the sandbox."""

    console: Console
    environment: dict[str, str]
    sandbox: httpx.Client
    bot: httpx.Client
    stopped: list[int]
    step: int = 0

    def scene(self, words: str) -> None:
        """Begin a step."""
        self.step += 1
        self.console.print()
        self.console.print(Text(f"{self.step}  {words}", style="bold cyan"))

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
        done = subprocess.run(  # noqa: S603 -- our own program
            [sys.executable, "-m", "buffettsbot", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=30,
        )
        output = done.stdout + done.stderr
        self.console.print(Text.from_ansi(output.rstrip()), soft_wrap=True)
        if done.returncode != code or shows not in output:
            raise WrongTurn(
                f"buffettsbot {shown} exited with {done.returncode} instead of {code}, "
                f"or did not show {shows!r}"
            )
        return done.stdout

    def call(self, method: str, path: str, status: int, **request: Any) -> Any:
        """Call the API as the bot does; it has to answer with `status`."""
        self.go_on()
        answer = self.bot.request(method, path, **request)
        self.console.print(Text(f"bot → {method} {path}", style="bold"))
        style = "green" if status < 300 else "yellow"
        self.console.print(Text(f"    ← {answer.status_code} {answer.text}", style), soft_wrap=True)
        if answer.status_code != status:
            raise WrongTurn(f"{method} {path} answered {answer.status_code} instead of {status}")
        return answer.json()

    def pay(self, kind: str, amount: int, **more: Any) -> str:
        """Make a payment on the sandbox's chain; return its hash."""
        payment = {"kind": kind, "to": WALLET, "amount": str(amount), **more}
        made = self.sandbox.post("/_sandbox/payments", json=payment)
        made.raise_for_status()
        return str(made.json()["transaction_hash"])

    def claim(self, chat_id: int, period: str, transaction_hash: str, status: int) -> Any:
        """Hand in a hash, as the bot does for a customer."""
        body = {"chat_id": chat_id, "plan": period, "transaction_hash": transaction_hash}
        return self.call("POST", "/api/v1/subscriptions/", status, json=body)


def _short(word: str) -> str:
    return f"{word[:8]}…" if len(word) == 64 else word


def story(stage: Stage) -> None:
    """Play every step. Raises WrongTurn."""
    stage.scene("The owner puts two plans on sale, and makes himself staff.")
    stage.admin("plans", "create", "1 month", "50")
    stage.admin("plans", "create", "1 year", "500")
    stage.admin("plans", "list", shows="1 year")
    stage.admin("users", "add", str(OWNER), "@owner")
    stage.admin("users", "promote", "@owner")

    stage.scene("Ann presses Start; the bot registers her.")
    ann = {"chat_id": ANN, "telegram_username": "ann", "first_name": "Ann"}
    stage.call("POST", "/api/v1/users/", 201, json=ann)

    stage.scene("TRON is down while Ben pays. He is not turned away: his claim waits.")
    stage.admin("users", "add", str(BEN), "@ben")
    for service in ("tronscan", "trongrid"):
        stage.sandbox.post("/_sandbox/faults", json={"service": service, "fault": "500"})
    waiting = stage.pay("good", 50)
    stage.admin("subscribers", "claim", "@ben", "1 month", waiting, code=5, shows="pending")
    stage.sandbox.delete("/_sandbox/faults")
    soon = (datetime.now(UTC) + timedelta(minutes=1)).isoformat(timespec="seconds")
    stage.admin("pass", "settle", "--dry-run", "--at", soon, shows="1 due")

    stage.scene("Ann pays 50 USDT. The owner looks at the hash; nothing changes by looking.")
    first = stage.pay("good", 50)
    stage.admin("verify", first, shows="pays for  1 month")

    stage.scene("Ann hands in the hash, and is in. Handing it in twice changes nothing.")
    bought = stage.claim(ANN, "1 month", first, 201)
    if stage.claim(ANN, "1 month", f"0x{first.upper()}", 201) != bought:
        raise WrongTurn("the same claim was not answered the same")

    stage.scene("Eve saw the hash on the public chain. It has bought already.")
    stage.admin("users", "add", str(EVE), "@eve")
    refused = stage.claim(EVE, "1 month", first, 400)
    _expect(refused["reason"], "already-used")

    stage.scene("Eve pays in a token of her own that calls itself USDT, then too little.")
    stage.admin("verify", stage.pay("fake-token", 500), code=4, shows="no-usdt-transfer")
    little = stage.pay("good", 12)
    stage.admin("subscribers", "claim", "@eve", "1 year", little, code=4, shows="12 USDT arrived")

    stage.scene("Ann renews early. No paid day is lost: the new month begins where the old ends.")
    renewed = stage.claim(ANN, "1 month", stage.pay("good", 50), 201)
    added = _time(renewed["end_date"]) - _time(bought["end_date"])
    if abs(added - timedelta(days=30)) > timedelta(seconds=2):
        raise WrongTurn(f"the renewal added {added} instead of 30 days")

    stage.scene("TRON is back. The timer would ask again by itself; Ben asks now, and is in.")
    stage.admin("subscribers", "claim", "@ben", "1 month", waiting, shows="accepted")

    stage.scene("The owner looks around.")
    stage.admin("subscribers", "list", shows="@ann")
    stage.admin("payments", "list", shows="refused")
    notices = json.loads(stage.admin("subscribers", "show", "@owner", "--json"))["messages"]
    _expect(sorted(notice["kind"] for notice in notices), ["admin-add", "admin-add", "admin-keep"])


def _play(stage: Stage) -> None:
    try:
        story(stage)
    except (WrongTurn, httpx.HTTPError, subprocess.SubprocessError) as error:
        stage.go_on()
        raise WrongTurn(f"step {stage.step}: {error}") from None


def _expect(found: object, wanted: object) -> None:
    if found != wanted:
        raise WrongTurn(f"{found!r} was shown instead of {wanted!r}")


def _time(text: str) -> datetime:
    return datetime.strptime(text, "%d/%m/%Y %H:%M:%S").replace(tzinfo=UTC)


@contextmanager
def _serving(environment: dict[str, str]) -> Iterator[str]:
    """Run `buffettsbot serve` on a free port; yield its URL; stop it gracefully."""
    process = subprocess.Popen(  # noqa: S603 -- our own program
        [sys.executable, "-m", "buffettsbot", "serve", "--bind", "127.0.0.1:0", "--quiet"],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for line in process.stderr or ():
            if "Serving on " in line:
                yield line.split("Serving on ")[1].strip()
                break
        else:
            raise WrongTurn("the HTTP server did not start")
    finally:
        process.terminate()
        process.communicate(timeout=30)
    if process.returncode:
        raise WrongTurn(f"the HTTP server ended with {process.returncode}")


def _environment(directory: Path, sandbox_url: str, *, colour: bool) -> dict[str, str]:
    """The environment of a host where nothing but the demo is configured."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL") if name in os.environ}
    nothing = directory / "empty.env"  # else a host's own settings would play along
    nothing.touch()
    settings = {
        "ENV_FILE": str(nothing),
        "DATABASE_URL": f"sqlite:///{directory / 'demo.db'}",
        "WALLET": WALLET,
        "TRONSCAN_URL": sandbox_url,
        "TRONGRID_URL": sandbox_url,
        "TELEGRAM_URL": sandbox_url,
    }
    return (
        kept
        | {"HOME": str(directory), "COLUMNS": "80"}
        | ({"FORCE_COLOR": "1"} if colour else {"NO_COLOR": "1"})
        | {f"BUFFETTSBOT_{name}": value for name, value in settings.items()}
    )


@app.command()
def demo() -> None:
    """Play the whole story in a temporary directory against the sandbox; leaves nothing behind."""
    stopped: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: stopped.append(number))
    console = Console(highlight=False)
    console.print(Text("buffettsbot: a payment becomes a membership", style="bold green"))
    started = datetime.now(UTC)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="buffettsbot-demo-") as directory,
            running_sandbox() as sandbox_url,
        ):
            environment = _environment(Path(directory), sandbox_url, colour=console.is_terminal)
            with (
                _serving(environment) as url,
                httpx.Client(base_url=sandbox_url, trust_env=False) as sandbox,
                httpx.Client(base_url=url, trust_env=False, timeout=30) as bot,
            ):
                _play(Stage(console, environment, sandbox, bot, stopped))
    except (WrongTurn, httpx.HTTPError, subprocess.SubprocessError) as error:
        console.print(Text(f"\nThe demo went wrong: {error}", style="bold red"), soft_wrap=True)
        raise typer.Exit(1) from None
    seconds = (datetime.now(UTC) - started).total_seconds()
    console.print(Text(f"\nAll of it as it should be, in {seconds:.0f} s.", style="bold green"))
