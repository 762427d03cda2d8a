"""What many commands share: their options, and the way to the core."""

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from buffettsbot.core.app import App, open_app
from buffettsbot.core.settings import Settings


def _remember_json(ctx: typer.Context, wanted: bool) -> bool:
    if wanted:
        ctx.meta["json"] = True
    return wanted


Json = Annotated[
    bool,
    typer.Option("--json", callback=_remember_json, is_eager=True, help="Show data as JSON."),
]
Csv = Annotated[bool, typer.Option("--csv", help="Show data as CSV.")]
Limit = Annotated[
    int | None, typer.Option("--limit", min=1, metavar="N", help="Show at most N rows.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Person = Annotated[str, typer.Argument(metavar="USER", help="@username, username or chat id.")]
Period = Annotated[
    str, typer.Argument(metavar="PERIOD", help='"1 month", "3 months", "6 months" or "1 year".')
]
Hash = Annotated[
    str, typer.Argument(metavar="HASH", help="Transaction hash, or its link at tronscan.")
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


def opened(ctx: typer.Context, *, prepared: bool = True) -> App:
    """Open the app for this command, and close its database when the command ends."""
    app = open_app(prepared=prepared)
    ctx.call_on_close(app.db.close)
    return app


def parse_time(text: str, settings: Settings) -> datetime:
    """Given an ISO 8601 time (in the configured zone unless it names one), return it in UTC.

    Raises typer.BadParameter.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter("write a time such as 2026-01-31T00:00") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=settings.timezone)
    return moment.astimezone(UTC)
