"""buffettsbot db: the database."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import SecretStr

from buffettsbot.cli.import_report import show_import
from buffettsbot.cli.shared.facts import field, when
from buffettsbot.cli.shared.options import (
    TIMES,
    Json,
    Yes,
    actor,
    confirm,
    group_settings,
    open_for,
)
from buffettsbot.cli.shared.output import progress, say, show_lines, show_object, show_rows
from buffettsbot.core.backup import backups
from buffettsbot.core.backup.archive import Archive
from buffettsbot.core.backup.move import move as copy_everything
from buffettsbot.core.backup.move import refuse_filled
from buffettsbot.core.from_django.bring import Imported, bring_all
from buffettsbot.core.from_django.opening import open_original
from buffettsbot.core.health.invariants import find_broken
from buffettsbot.core.settings.values import check_database_url
from buffettsbot.core.storage import migrations
from buffettsbot.core.storage.database import SCHEMA_VERSION, Database

commands = typer.Typer(help="The database.", **group_settings)


@commands.command()
def upgrade(ctx: typer.Context, as_json: Json = False) -> None:
    """Bring the data to this version's form; safe to repeat."""
    before, after = migrations.upgrade(open_for(ctx, prepared=False).db)
    if as_json:
        show_object({"before": before, "after": after})
    elif before == after:
        say(f"The database has the newest form already ({after}).")
    else:
        say(f"The database was brought from {before or 'nothing'} to {after}.")


@commands.command()
def status(ctx: typer.Context, as_json: Json = False) -> None:
    """Show where the data is and which form it has."""
    db = open_for(ctx, prepared=False).db
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


@commands.command("import-django")
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
    """Bring everything over from the original Django system. Safe to repeat.

    That is users, plans and memberships. Its database is only read, and nobody is told anything. A
    password is better kept in ~/.pgpass than in the URL, where other users of this machine may see
    it.
    """
    app = open_for(ctx)

    def bring(*, rehearse: bool) -> Imported:
        with open_original(url) as original, progress("importing") as watch:
            return bring_all(
                app.db,
                original,
                actor=actor(),
                now=app.now(),
                dry_run=rehearse,
                watch=watch,
            )

    if dry_run or not yes:
        rehearsal = bring(rehearse=True)
        if dry_run or not as_json:
            show_import(rehearsal, as_json=as_json)
        if dry_run:
            return
        if rehearsal.is_news:
            confirm("Import this?", as_json=as_json)
    show_import(bring(rehearse=False), as_json=as_json)


@commands.command()
def check(ctx: typer.Context, as_json: Json = False) -> None:
    """Test the promises on the data; changes nothing.

    Names each row that breaks one. Exit code 0 when all hold, 4 when any does not.
    """
    app = open_for(ctx)
    found = [asdict(finding) for finding in find_broken(app.db, now=app.now())]
    if as_json:
        show_object({"clean": not found, "findings": found})
    elif not found:
        say("Every promise holds.")
    else:
        columns = (field("promise", "invariant"), field("table", "table"), field("row", "row"))
        show_rows(found, columns, fields=(), empty="")
        for name, message in {row["invariant"]: row["message"] for row in found}.items():
            say(message, label=name, style="bold red")
    raise typer.Exit(4 if found else 0)


@commands.command()
def backup(
    ctx: typer.Context,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="The backup to write, or a directory: then it is named by the time.",
        ),
    ],
    rotate: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Keep only the newest N in the directory."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the file if it exists.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write all data into one file, while others work.

    The file is of one moment, private, and carries its own checksum; it appears whole or not at
    all.
    """
    if rotate is not None and not file.is_dir():
        raise typer.BadParameter("it needs a directory that exists", param_hint="'--rotate'")
    app = open_for(ctx, prepared=False)
    made = backups.back_up(app.db, file, now=app.now(), keep=rotate, overwrite=overwrite)
    if as_json:
        removed = [str(path) for path in made.removed]
        show_object(_about(made.file, made.archive) | {"removed": removed})
    else:
        say(f"All data ({_counted(made.archive)}) are in {made.file}")


@commands.command()
def restore(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The backup.")],
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Replace all data by those of a backup.

    In one step, or not at all: a backup that is damaged, or a newer program's, is refused. Stop the
    services first, or what they have in hand meets data that do not know it. Take only a backup
    that you made yourself: one for PostgreSQL is a script, and what it says is done with your
    rights.
    """
    app = open_for(ctx, *TIMES, prepared=False)
    archive = backups.examine(app.db, file)
    made = when(archive.created_at, app.settings.timezone)
    if not yes:
        target = app.db.engine.url.render_as_string(hide_password=True)
        confirm(
            f"Replace everything in {target} by the backup of {made} ({_counted(archive)})? "
            "What was written since is lost.",
            as_json=as_json,
        )
    backups.restore(app.db, file, now=app.now(), actor=actor())
    if as_json:
        show_object(_about(file, archive))
    else:
        say(f"The data are those of {made}. To test them: buffettsbot db check")


@commands.command()
def move(
    ctx: typer.Context,
    url: Annotated[
        str,
        typer.Argument(metavar="URL", help="An empty database of either kind."),
    ],
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Copy all data into an empty database of either kind.

    Nothing is changed here. Stop the services first: what is written meanwhile is not copied. A
    password is better kept in ~/.pgpass than in the URL, where other users of this machine may see
    it.
    """
    app = open_for(ctx)
    try:
        target = Database(check_database_url(SecretStr(url)).get_secret_value())
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="'URL'") from None
    ctx.call_on_close(target.close)
    refuse_filled(target)
    here, there = (db.engine.url.render_as_string(hide_password=True) for db in (app.db, target))
    if not yes:
        confirm(f"Copy everything from {here} into {there}?", as_json=as_json)
    with progress("copying") as watch:
        rows = copy_everything(app.db, target, watch=watch)
    broken = sorted({each.invariant for each in find_broken(target, now=app.now())})
    if as_json:
        show_object({"from": here, "to": there, "rows": rows, "broken": broken})
    else:
        say(
            f"All data ({sum(rows.values()):,} rows) are in {there}, too; nothing was changed here."
        )
        say("To work with them, set BUFFETTSBOT_DATABASE_URL and restart the services.")
        for promise in broken:
            say("A promise does not hold there. To see it: buffettsbot db check", label=promise)
    raise typer.Exit(4 if broken else 0)


def _about(file: Path, archive: Archive) -> dict[str, Any]:
    return {"file": str(file)} | asdict(archive) | {"size": file.stat().st_size}


def _counted(archive: Archive) -> str:
    people, payments = archive.rows.get("telegram_user", 0), archive.rows.get("payment", 0)
    return f"people: {people:,}, payments: {payments:,}"
