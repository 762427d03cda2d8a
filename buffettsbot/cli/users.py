"""buffettsbot users: who is known, and who is staff."""

from typing import Annotated

import typer

from buffettsbot.cli.shared.facts import field, handle, moment, picked, when
from buffettsbot.cli.shared.options import (
    TIMES,
    Csv,
    Json,
    Limit,
    Person,
    by,
    group_settings,
    open_for,
)
from buffettsbot.cli.shared.output import say, show_lines, show_object, show_rows
from buffettsbot.cli.shared.table import Column
from buffettsbot.core.errors import Invalid
from buffettsbot.core.members import users
from buffettsbot.core.storage.models import TelegramUser

commands = typer.Typer(help="Who is known, and who is staff.", **group_settings)

FIELDS = tuple(TelegramUser.model_fields)


@commands.command("list")
def list_(
    ctx: typer.Context,
    staff: Annotated[bool, typer.Option("--staff", help="Only staff.")] = False,
    limit: Limit = None,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """List everyone who is known, by chat id."""
    app = open_for(ctx, *TIMES)
    columns = (
        field("chat id", "chat_id", right=True),
        Column("username", lambda row: _at(row["telegram_username"])),
        Column("name", lambda row: f"{row['first_name']} {row['last_name']}".strip(), cut=True),
        field("staff", "is_staff"),
        moment("since", "date_joined", app.settings.timezone),
        field("in group", "at_private_group", yields=2),
    )
    show_rows(
        (picked(user, FIELDS) for user in users.list_users(app.db, staff_only=staff, limit=limit)),
        columns,
        as_json=as_json,
        as_csv=as_csv,
        fields=FIELDS,
        empty="Nobody is known yet. The bot registers people, or: "
        "buffettsbot users add CHAT_ID USERNAME",
    )


@commands.command()
def show(ctx: typer.Context, person: Person, as_json: Json = False) -> None:
    """Show one person."""
    app = open_for(ctx, *TIMES)
    user = users.show_user(app.db, person)
    if as_json:
        show_object(picked(user, FIELDS))
        return
    show_lines(
        [
            ("chat id", str(user.chat_id)),
            ("username", _at(user.telegram_username)),
            ("name", f"{user.first_name} {user.last_name}".strip() or "–"),
            ("staff", "yes" if user.is_staff else "no"),
            ("in group", "yes" if user.at_private_group else "no"),
            ("since", when(user.date_joined, app.settings.timezone)),
        ]
    )


@commands.command()
def add(
    ctx: typer.Context,
    chat_id: Annotated[
        str, typer.Argument(metavar="CHAT_ID", help="Telegram's number for the person.")
    ],
    username: Annotated[str, typer.Argument(metavar="USERNAME", help="With or without @.")],
    first_name: Annotated[str | None, typer.Option(help="First name.")] = None,
    last_name: Annotated[str | None, typer.Option(help="Last name.")] = None,
    as_json: Json = False,
) -> None:
    """Register a person, or update their profile."""
    app = open_for(ctx)
    if username.strip().isdecimal() and not chat_id.strip().isdecimal():
        name, number = users.parse_username(chat_id), users.parse_chat_id(username)
        raise Invalid(f"The chat id comes first: buffettsbot users add {number} {name}")
    user, created = users.register(
        app.db,
        chat_id=users.parse_chat_id(chat_id),
        telegram_username=username,
        first_name=first_name,
        last_name=last_name,
        now=app.now(),
        by=by(app),
    )
    _show(user, "is registered" if created else "was known; the profile is updated", as_json)


@commands.command()
def promote(ctx: typer.Context, person: Person, as_json: Json = False) -> None:
    """Make a person staff: they receive the admin notices."""
    app = open_for(ctx)
    _show(users.set_staff(app.db, person, is_staff=True, by=by(app)), "is staff", as_json)


@commands.command()
def demote(ctx: typer.Context, person: Person, as_json: Json = False) -> None:
    """End a person's being staff."""
    app = open_for(ctx)
    _show(users.set_staff(app.db, person, is_staff=False, by=by(app)), "is not staff", as_json)


def _show(user: TelegramUser, words: str, as_json: bool) -> None:
    if as_json:
        show_object(picked(user, FIELDS))
    else:
        say(f"{handle(user.telegram_username, user.chat_id)} ({user.chat_id}) {words}.")


def _at(username: str | None) -> str:
    return f"@{username}" if username else "–"
