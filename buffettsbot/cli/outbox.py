"""buffettsbot outbox: what the world is told."""

from typing import Annotated

import typer

from buffettsbot.cli.options import Csv, Json, Limit, Yes, by, confirm, group_settings, opened
from buffettsbot.cli.output import field, moment, picked, say, show_object, show_rows
from buffettsbot.core import outbox
from buffettsbot.core.models import OUTBOX_STATUSES, Outbox

app = typer.Typer(help="What the world is told.", **group_settings)

FIELDS = tuple(Outbox.model_fields)

Number = Annotated[int, typer.Argument(metavar="ID", min=1, help="As `outbox list` shows it.")]


def _status(value: str | None) -> str | None:
    if value is not None and value not in OUTBOX_STATUSES:
        raise typer.BadParameter(f"choose one of {', '.join(OUTBOX_STATUSES)}")
    return value


@app.command("list")
def list_(
    ctx: typer.Context,
    status: Annotated[
        str | None,
        typer.Option(callback=_status, help=f"Only these: {', '.join(OUTBOX_STATUSES)}."),
    ] = None,
    limit: Limit = None,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """List what was queued and sent, the newest first."""
    app_ = opened(ctx, "timezone")
    columns = (
        field("id", "id", right=True),
        field("kind", "kind"),
        field("chat", "chat_id", right=True),
        field("status", "status", coloured=True),
        moment("queued", "created_at", app_.settings.timezone),
        field("error", "error", cut=True),
    )
    messages = outbox.list_outbox(app_.db, status=status, limit=limit)
    show_rows(
        (picked(message, FIELDS) for message in messages),
        columns,
        as_json=as_json,
        as_csv=as_csv,
        fields=FIELDS,
        empty="Nothing is in the outbox.",
    )


@app.command()
def requeue(ctx: typer.Context, number: Number, as_json: Json = False) -> None:
    """Send a message again that failed, was cancelled, or was sent."""
    app_ = opened(ctx)
    message = outbox.requeue(app_.db, number, now=app_.now(), by=by(app_))
    _show(message, "is queued again", as_json=as_json)


@app.command()
def cancel(ctx: typer.Context, number: Number, yes: Yes = False, as_json: Json = False) -> None:
    """Take back a message that is queued."""
    app_ = opened(ctx)
    if not yes:
        confirm(f"Take back message {number}?")
    message = outbox.cancel_one(app_.db, number, by=by(app_))
    _show(message, "is cancelled", as_json=as_json)


def _show(message: Outbox, words: str, *, as_json: bool) -> None:
    if as_json:
        show_object(picked(message, FIELDS))
    else:
        say(f"Message {message.id} ({message.kind}) {words}.")
