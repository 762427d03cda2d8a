"""buffettsbot outbox: what the world is told."""

import re
from contextlib import suppress
from typing import Annotated

import typer

from buffettsbot.cli.shared.facts import field, handle, moment, picked
from buffettsbot.cli.shared.options import (
    Csv,
    Json,
    Limit,
    Yes,
    by,
    confirm,
    group_settings,
    open_for,
)
from buffettsbot.cli.shared.output import say, show_object, show_rows
from buffettsbot.core.app import App
from buffettsbot.core.errors import UnknownUser
from buffettsbot.core.members import users
from buffettsbot.core.outbox import by_hand
from buffettsbot.core.storage.models import OUTBOX_STATUSES, Outbox

commands = typer.Typer(help="What the world is told.", **group_settings)

FIELDS = tuple(Outbox.model_fields)


def _number(text: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,17}", text.strip(), re.ASCII):
        raise typer.BadParameter("write a message's number, as `buffettsbot outbox list` shows it")
    return int(text)


Number = Annotated[
    int, typer.Argument(metavar="ID", parser=_number, help="As `outbox list` shows it.")
]


def _status(value: str | None) -> str | None:
    if value is not None and value not in OUTBOX_STATUSES:
        raise typer.BadParameter(f"choose one of {', '.join(OUTBOX_STATUSES)}")
    return value


@commands.command("list")
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
    app = open_for(ctx, "timezone")
    columns = (
        field("id", "id", right=True),
        field("kind", "kind"),
        field("chat", "chat_id", right=True),
        field("status", "status", coloured=True),
        moment("queued", "created_at", app.settings.timezone),
        field("error", "error", cut=True),
    )
    messages = by_hand.list_outbox(app.db, status=status, limit=limit)
    show_rows(
        (picked(message, FIELDS) for message in messages),
        columns,
        as_json=as_json,
        as_csv=as_csv,
        fields=FIELDS,
        empty="Nothing is in the outbox.",
    )


@commands.command()
def requeue(ctx: typer.Context, number: Number, as_json: Json = False) -> None:
    """Send a message again that failed, was cancelled, or was sent."""
    app = open_for(ctx)
    message = by_hand.requeue(app.db, number, now=app.now(), by=by(app))
    _show(message, "is queued again", as_json=as_json)


@commands.command()
def cancel(ctx: typer.Context, number: Number, yes: Yes = False, as_json: Json = False) -> None:
    """Take back a message that is queued."""
    app = open_for(ctx)
    if not yes:
        message = by_hand.queued_message(app.db, number)
        who = _who(app, message.chat_id)
        confirm(f"Take back message {number}, {message.kind} for {who}?", as_json=as_json)
    message = by_hand.cancel_one(app.db, number, by=by(app))
    _show(message, "is cancelled", as_json=as_json)


def _who(app: App, chat_id: int) -> str:
    with suppress(UnknownUser):
        return handle(users.show_user(app.db, chat_id).telegram_username, chat_id)
    return str(chat_id)


def _show(message: Outbox, words: str, *, as_json: bool) -> None:
    if as_json:
        show_object(picked(message, FIELDS))
    else:
        say(f"Message {message.id} ({message.kind}) {words}.")
