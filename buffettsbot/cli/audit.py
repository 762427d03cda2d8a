"""buffettsbot audit: who changed what."""

import contextlib
from typing import Annotated

import typer

from buffettsbot.cli.shared.facts import field, moment, picked
from buffettsbot.cli.shared.options import Csv, Json, Limit, command_settings, open_for
from buffettsbot.cli.shared.output import show_rows
from buffettsbot.core.errors import Invalid, NotFound
from buffettsbot.core.hashes import parse_hash
from buffettsbot.core.members.users import parse_username, show_user
from buffettsbot.core.storage.audit import list_audit
from buffettsbot.core.storage.database import Database
from buffettsbot.core.storage.models import Audit

commands = typer.Typer(**command_settings)

FIELDS = tuple(Audit.model_fields)


@commands.command()
def audit(
    ctx: typer.Context,
    actor: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only what this admin did.")
    ] = None,
    subject: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT", help="Only about this: @username, chat id, hash, period, message id."
        ),
    ] = None,
    limit: Limit = None,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Show who changed what through the command line, the newest first."""
    app = open_for(ctx, "timezone")
    columns = (
        moment("when", "at", app.settings.timezone),
        field("who", "actor"),
        field("what", "action"),
        field("subject", "subject", cut=True),
        field("detail", "detail", cut=True),
    )
    if subject is not None:
        subject = _subject(app.db, subject)
    changes = list_audit(app.db, actor=actor, subject=subject, limit=limit)
    show_rows(
        (picked(change, FIELDS) for change in changes),
        columns,
        as_json=as_json,
        as_csv=as_csv,
        fields=FIELDS,
        empty="No change matches." if actor or subject else "Nobody decided anything by hand yet.",
    )


def _subject(db: Database, text: str) -> str:
    """Return a subject as the log has it: people by chat id, hashes in their one spelling."""
    if text.startswith("@"):
        return str(show_user(db, text).chat_id)
    with contextlib.suppress(Invalid):
        return parse_hash(text)
    with contextlib.suppress(Invalid, NotFound):
        return str(show_user(db, parse_username(text)).chat_id)
    return text
