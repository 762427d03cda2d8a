"""buffettsbot audit: who changed what."""

import typer

from buffettsbot.cli.options import Csv, Json, Limit, command_settings, opened
from buffettsbot.cli.output import field, moment, picked, show_rows
from buffettsbot.core.audit import list_audit
from buffettsbot.core.models import Audit

app = typer.Typer(**command_settings)

FIELDS = tuple(Audit.model_fields)


@app.command()
def audit(
    ctx: typer.Context, limit: Limit = None, as_json: Json = False, as_csv: Csv = False
) -> None:
    """Show who decided what through the command line, the newest first."""
    app_ = opened(ctx, "timezone")
    columns = (
        moment("when", "at", app_.settings.timezone),
        field("who", "actor"),
        field("what", "action"),
        field("subject", "subject", cut=True),
        field("detail", "detail", cut=True),
    )
    show_rows(
        (picked(entry, FIELDS) for entry in list_audit(app_.db, limit=limit)),
        columns,
        as_json=as_json,
        as_csv=as_csv,
        fields=FIELDS,
        empty="Nobody decided anything by hand yet.",
    )
