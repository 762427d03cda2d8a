"""buffettsbot demo: the whole story, through the real command line and the real HTTP server.

Everything happens in a temporary directory against the sandbox; each step is checked, and the first
that does not show what it should ends the demo loudly.
"""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import typer
from rich.console import Console
from rich.text import Text

from buffettsbot.cli.demo.stage import GROUP, TOKEN, WALLET, Stage, Typist, WrongTurn
from buffettsbot.cli.demo.story import play_story
from buffettsbot.cli.shared.options import command_settings
from buffettsbot.core.settings.settings import Settings, named_in
from buffettsbot.http.sandbox import running_sandbox

commands = typer.Typer(**command_settings)

HOOKS = {"response": [httpx.Response.raise_for_status]}


def _play(stage: Stage) -> None:
    try:
        stage.play("telegram", token=TOKEN, group={"id": GROUP})
        play_story(stage)
    except (WrongTurn, httpx.HTTPError, subprocess.SubprocessError) as error:
        stage.go_on()
        raise WrongTurn(f"step {stage.step}: {error}") from None


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
        "TELEGRAM_TOKEN": TOKEN,
        "GROUP_ID": str(GROUP),
    }
    return (
        kept
        | {"HOME": str(directory), "COLUMNS": "80"}
        | ({"FORCE_COLOR": "1", "TTY_INTERACTIVE": "0"} if colour else {"NO_COLOR": "1"})
        | {f"BUFFETTSBOT_{name}": value for name, value in settings.items()}
    )


@commands.command()
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
                closing(Typist(environment)) as typist,
                _serving(environment) as url,
                httpx.Client(base_url=sandbox_url, trust_env=False, event_hooks=HOOKS) as sandbox,
                httpx.Client(base_url=url, trust_env=False, timeout=30) as bot,
            ):
                settings = Settings.model_validate(named_in(environment))
                _play(Stage(console, settings, typist, sandbox, bot, stopped))
    except (WrongTurn, httpx.HTTPError, subprocess.SubprocessError) as error:
        console.print(Text(f"\nThe demo went wrong: {error}", style="bold red"), soft_wrap=True)
        raise typer.Exit(1) from None
    seconds = (datetime.now(UTC) - started).total_seconds()
    console.print(Text(f"\nAll of it as it should be, in {seconds:.0f} s.", style="bold green"))
