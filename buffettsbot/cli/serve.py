"""buffettsbot serve: the HTTP API."""

import contextlib
import ipaddress
import logging
import os
import sys
from typing import Annotated

import typer

from buffettsbot.cli.shared.options import PAYMENTS, TIMES, command_settings, open_for
from buffettsbot.cli.shared.output import say
from buffettsbot.core.app import App, open_chain, open_telegram, style_of
from buffettsbot.core.errors import NotAllowed
from buffettsbot.core.settings.settings import Settings
from buffettsbot.core.settings.values import parse_bind
from buffettsbot.core.telegram.bot import Telegram
from buffettsbot.core.telegram.delivery import deliver
from buffettsbot.http.api import Api
from buffettsbot.http.courier import Courier
from buffettsbot.http.notify import Watchdog, notify
from buffettsbot.http.server import Server

commands = typer.Typer(**command_settings)

THREADS = 48
CHAIN_SLOTS = 36
TELEGRAM_SLOTS = 6


@commands.command()
def serve(
    ctx: typer.Context,
    bind: Annotated[str | None, typer.Option(help="Listen here: host:port or unix:/path.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No line for each request.")] = False,
) -> None:
    """Serve the HTTP API until SIGTERM; requests in flight are finished."""
    app = open_for(ctx, "bind", "api_token", *TIMES, *PAYMENTS)
    place = _place(bind, app.settings)
    _log_to_stderr(quiet=quiet)
    _keep_to_one_core()
    telegram = open_telegram(app.settings) if app.settings.telegram_token else None
    courier = _courier(app, telegram)
    api = Api(
        app,
        open_chain(app.settings),
        chain_slots=CHAIN_SLOTS,
        telegram=telegram,
        telegram_slots=TELEGRAM_SLOTS,
        queued=courier.call if courier else lambda: None,
    )
    server = Server(api.wsgi(), place, threads=THREADS)
    server.stop_on_signals(lambda: notify("STOPPING=1"))
    if app.settings.api_token is None:
        say("No BUFFETTSBOT_API_TOKEN is set: everyone on this host may use the API.")
    say(f"Serving on {server.address}")
    notify("READY=1")
    watchdog = Watchdog(lambda: server.turning and app.db.answers())
    server.run()
    watchdog.stop()
    if courier is not None:
        courier.stop()


def _courier(app: App, telegram: Telegram | None) -> Courier | None:
    """Return who delivers at once what claims have queued; nobody without a bot."""
    if telegram is None:
        return None
    style = style_of(app.settings)
    return Courier(lambda: deliver(app.db, telegram, style, clock=app.now))


def _keep_to_one_core() -> None:
    """Threads of one interpreter run one at a time; handing it over between cores takes a third.

    Several services on one host share its cores by their process ids.
    """
    # 16 clients reading, two quiet cores: 690 requests a second without this, 1,100 with it.
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        with contextlib.suppress(PermissionError):  # a sandbox that forbids it
            os.sched_setaffinity(0, {cores[os.getpid() % len(cores)]})


def _place(bind: str | None, settings: Settings) -> str:
    """Return where to listen. Raises NotAllowed for a place that others reach without a token."""
    try:
        place = parse_bind(bind) if bind else settings.bind
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="'--bind'") from None
    if settings.api_token is None and not _is_local(place):
        raise NotAllowed(
            f"Without BUFFETTSBOT_API_TOKEN the API is served only on loopback or a unix socket, "
            f"not on {place}. Set a token, or bind to 127.0.0.1."
        )
    return place


def _is_local(place: str) -> bool:
    host = place.rpartition(":")[0].strip("[]")
    try:
        return (
            place.startswith("unix:")
            or host == "localhost"
            or ipaddress.ip_address(host).is_loopback
        )
    except ValueError:
        return False


def _log_to_stderr(*, quiet: bool) -> None:
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # its INFO lines hold URLs, so tokens
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    if quiet:
        logging.getLogger("buffettsbot.access").setLevel(logging.WARNING)
