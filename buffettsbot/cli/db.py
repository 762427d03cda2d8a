"""buffettsbot db: the database."""

from typing import Annotated, Any

import typer

from buffettsbot.cli.imported import show_imported
from buffettsbot.cli.options import Json, Yes, actor, confirm, group_settings, opened
from buffettsbot.cli.output import progress, say, show_lines, show_object
from buffettsbot.core import migrations
from buffettsbot.core.db import SCHEMA_VERSION
from buffettsbot.core.django_import import Imported, bring_all
from buffettsbot.core.django_source import open_original

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


@app.command("import-django")
def import_django(
    ctx: typer.Context,
    url: Annotated[
        str, typer.Argument(metavar="URL", help="The original's database, or its SQLite file.")
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what it would do and change nothing.")
    ] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Bring users, plans and memberships from the original Django system; safe to repeat.

    Its database is only read, and nobody is told anything. A password is better kept in ~/.pgpass
    than in the URL, where other users of this machine may see it.
    """
    app_ = opened(ctx)

    def bring(*, rehearse: bool) -> Imported:
        with open_original(url) as original, progress("importing") as watch:
            return bring_all(
                app_.db,
                original,
                actor=actor(),
                now=app_.now(),
                dry_run=rehearse,
                watch=watch,
            )

    if dry_run or not yes:
        rehearsal = bring(rehearse=True)
        if dry_run or not as_json:
            show_imported(rehearsal, as_json=as_json)
        if dry_run:
            return
        if rehearsal.is_news:
            confirm("Import this?")
    show_imported(bring(rehearse=False), as_json=as_json)
