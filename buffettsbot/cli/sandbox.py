"""buffettsbot sandbox: an emulated TRON and Telegram on loopback."""

from typing import Annotated

import typer

from buffettsbot.cli.shared.options import command_settings
from buffettsbot.cli.shared.output import say, show_lines
from buffettsbot.core.settings.values import parse_bind
from buffettsbot.http.sandbox import make_sandbox
from buffettsbot.http.server import Server

commands = typer.Typer(**command_settings)

THREADS = 64


@commands.command()
def sandbox(
    bind: Annotated[str, typer.Option(help="Listen here: host:port.")] = "127.0.0.1:8900",
) -> None:
    """Serve an emulated Tronscan, TronGrid and Telegram; nothing of it is real money.

    The settings that point buffettsbot at it are shown; GET /_sandbox/ lists how to make payments,
    make the services fail, and read what was sent.
    """
    try:
        place = parse_bind(bind)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="'--bind'") from None
    server = Server(make_sandbox(), place, threads=THREADS)
    server.stop_on_signals()
    say(f"The sandbox serves on {server.address}; how to drive it: {server.address}/_sandbox/")
    names = ("TRONSCAN_URL", "TRONGRID_URL", "TELEGRAM_URL")
    show_lines((f"BUFFETTSBOT_{name}={server.address}", "") for name in names)
    server.run()
