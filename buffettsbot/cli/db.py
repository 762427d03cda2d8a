"""buffettsbot db: the database."""

from typing import Any

import typer

from buffettsbot.cli.options import Json, group_settings, opened
from buffettsbot.cli.output import say, show_lines, show_object
from buffettsbot.core import migrations
from buffettsbot.core.db import SCHEMA_VERSION

app = typer.Typer(help="The database.", **group_settings)


@app.command()
def upgrade(ctx: typer.Context, as_json: Json = False) -> None:
    """Bring the data to this version's form; safe to repeat."""
    before, after = migrations.upgrade(opened(ctx, prepared=False).db)
    if as_json:
        show_object({"before": before, "after": after})
    elif before == after:
        say(f"The database has the newest form already ({after}).")
    else:
        say(f"The database was brought from {before or 'nothing'} to {after}.")


@app.command()
def status(ctx: typer.Context, as_json: Json = False) -> None:
    """Show where the data is and which form it has."""
    db = opened(ctx, prepared=False).db
    found = db.version()
    data: dict[str, Any] = {
        "database": db.engine.url.render_as_string(hide_password=True),
        "version": found,
        "newest": SCHEMA_VERSION,
        "up_to_date": found == SCHEMA_VERSION,
    }
    if as_json:
        show_object(data)
    else:
        show_lines(
            [
                ("database", data["database"]),
                ("version", found or "none yet"),
                ("newest", SCHEMA_VERSION),
                ("up to date", "yes" if data["up_to_date"] else "no"),
            ]
        )
    if found != SCHEMA_VERSION:
        db.check_version()
