"""What many commands share: their options, and the way to the core."""

import getpass
import os
import sys
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from buffettsbot.core.app import App, open_app
from buffettsbot.core.errors import NotAllowed
from buffettsbot.core.settings.settings import Settings, load_settings
from buffettsbot.core.storage.audit import By

# What a command asks of the settings, besides the database: the times it shows, the payments it
# judges.
TIMES = ("timezone",)
PAYMENTS = (
    "wallet",
    "network",
    "usdt_contract",
    "chain_sources",
    "chain_quorum",
    "tronscan_url",
    "trongrid_url",
    "payment_max_age",
    "underpayment_tolerance",
    "hold_risky",
)

MOST_ROWS = 1_000_000_000
LONGEST_REASON = 500


def _remember_json(ctx: typer.Context, wanted: bool) -> bool:
    if wanted:
        ctx.meta["json"] = True
    return wanted


def _not_with_json(ctx: typer.Context, wanted: bool) -> bool:
    if wanted and "json" in ctx.meta:
        raise typer.BadParameter("choose --json or --csv, not both")
    return wanted


def at_most(value: int | None) -> int | None:
    """Return a limit as it was given. Raises typer.BadParameter unless it is a count."""
    if value is not None and not 1 <= value <= MOST_ROWS:
        raise typer.BadParameter(f"a limit is a whole number from 1 to {MOST_ROWS:,}")
    return value


def _reason(text: str) -> str:
    clean = text.strip()
    if not 0 < len(clean) <= LONGEST_REASON or any("\ud800" <= c <= "\udfff" for c in clean):
        raise typer.BadParameter(f"write why, in at most {LONGEST_REASON} characters")
    return clean


Json = Annotated[
    bool,
    typer.Option("--json", callback=_remember_json, is_eager=True, help="Show data as JSON."),
]
Csv = Annotated[bool, typer.Option("--csv", callback=_not_with_json, help="Show data as CSV.")]
Limit = Annotated[
    int | None,
    typer.Option("--limit", callback=at_most, metavar="N", help="At most N rows."),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Person = Annotated[str, typer.Argument(metavar="USER", help="@username, username or chat id.")]
Period = Annotated[
    str, typer.Argument(metavar="PERIOD", help='"1 month", "3 months", "6 months" or "1 year".')
]
Hash = Annotated[
    str, typer.Argument(metavar="HASH", help="Transaction hash, or its link at tronscan.")
]

Reason = Annotated[
    str,
    typer.Option("--reason", parser=_reason, metavar="TEXT", help="Why; for the audit log."),
]

# No box, no colour, no wrapping markup in the help of any command: it must be instant.
group_settings: dict[str, Any] = {
    "no_args_is_help": True,
    "rich_markup_mode": None,
    "pretty_exceptions_enable": False,
    "add_completion": False,
    "context_settings": {"help_option_names": ["-h", "--help"]},
}
command_settings: dict[str, Any] = group_settings | {"no_args_is_help": False}


def open_for(ctx: typer.Context, *needs: str, prepared: bool = True) -> App:
    """Open the app for this command, and close its database when the command ends.

    `needs`: the settings it works with. Raises BadSettings, naming all that are wrong at once.
    """
    settings = load_settings()
    settings.require("database_url", *needs)
    app = open_app(settings, prepared=prepared)
    ctx.call_on_close(app.db.close)
    return app


def confirm(question: str, *, as_json: bool = False) -> None:
    """Ask before something is destroyed. Raises NotAllowed unless the answer is yes.

    `as_json`: stderr is for a program; only a person at a terminal sees the question.
    """
    shown = not as_json or bool(sys.stdin and sys.stdin.isatty())
    if shown:
        sys.stderr.write(f"{question} [y/N] ")
        sys.stderr.flush()
    answer = sys.stdin.readline() if sys.stdin else ""
    if not answer:
        if shown:
            sys.stderr.write("\n")
        raise NotAllowed("Nobody answered; nothing was changed. To go ahead unasked, add --yes.")
    if answer.strip().lower() not in ("y", "yes"):
        raise NotAllowed("Nothing was changed.")


def parse_time(text: str, settings: Settings, option: str = "--at") -> datetime:
    """Given an ISO 8601 time (in the configured zone unless it names one), return it in UTC.

    Raises typer.BadParameter.
    """
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=settings.timezone)
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            "write a time such as 2026-01-31T00:00", param_hint=f"'{option}'"
        ) from None


def actor() -> str:
    """Return who is at the keyboard, for the audit log: whoever used sudo, else the login name."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):  # a container may run as a number that has no name
        return f"uid {os.getuid()}"


def by(app: App) -> By:
    """Return who changes something now, for the audit log."""
    return By(actor(), app.now())
