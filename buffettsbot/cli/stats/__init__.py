"""buffettsbot stats: how the business does, drawn in the terminal, as JSON, or as a page."""

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from buffettsbot.cli.shared.facts import field, percent, usdt, when
from buffettsbot.cli.shared.files import write_private
from buffettsbot.cli.shared.options import Json, command_settings, open_for
from buffettsbot.cli.shared.output import bar, say, show_object, show_rows, show_styled
from buffettsbot.cli.shared.table import Column
from buffettsbot.core.ledger.coming_due import DUE_DAYS, DueDay
from buffettsbot.core.ledger.months import Month
from buffettsbot.core.ledger.statistics import Statistics, collect
from buffettsbot.core.money import to_usdt

commands = typer.Typer(**command_settings)

MOST_MONTHS = 120
BAR_CELLS, SHORT_BAR_CELLS = 16, 6
EMPTY = (
    "There is nothing to count yet. It begins with the first membership: "
    "buffettsbot subscribers claim USER PERIOD HASH"
)


def _html(ctx: typer.Context, file: str | None) -> str | None:
    if file is not None and "json" in ctx.meta:
        raise typer.BadParameter("choose --json or --html, not both")
    if file == "":
        raise typer.BadParameter("name a file, or - for stdout")
    return file


@commands.command()
def stats(
    ctx: typer.Context,
    months: Annotated[
        int, typer.Option(min=1, max=MOST_MONTHS, metavar="N", help="The last N months.")
    ] = 12,
    as_json: Json = False,
    html: Annotated[
        str | None,
        typer.Option(
            "--html",
            callback=_html,
            metavar="FILE",
            help="Write one page with charts that needs no network; - is stdout.",
        ),
    ] = None,
) -> None:
    """Show members, income and renewals by month, and what is coming due in 30 days.

    Income: USDT that the chain was seen to move to the wallet for accepted payments, by the month
    it arrived. Imported payments and grants are none: no amount of them is known.

    Renewal rate of a month: of the paid periods that ended in it at least 14 days ago, the share
    followed by another one of the same customer that begins within 14 days.
    """
    app = open_for(ctx, "timezone", "community")
    found = collect(app.db, now=app.now(), zone=app.settings.timezone, months=months)
    if html:
        from buffettsbot.cli.stats.page import page  # a plotting library, for pages alone

        text = page(found, app.settings.community)
        if html == "-":
            sys.stdout.write(text)
        else:
            say(f"The page is in {write_private(html, text)}: open it with a browser.")
    elif as_json:
        show_object(_as_object(found))
    elif found.is_empty:
        say(EMPTY)
    else:
        _draw(found)


def _as_object(found: Statistics) -> dict[str, Any]:
    return {
        "at": found.at,
        "timezone": found.zone.key,
        "members": found.members,
        "granted": found.granted,
        "plans": [{"plan": plan, "members": count} for plan, count in found.plans.items()],
        "income": to_usdt(found.income),
        "payments": found.payments,
        "unknown_amounts": found.unknown_amounts,
        "renewal_rate": found.renewal_rate,
        "months": [_month(month) for month in found.months],
        "coming_due": {
            "members": sum(day.members for day in found.due),
            "usdt": to_usdt(sum(day.usdt for day in found.due)),
            "days": [
                {"day": day.day, "members": day.members, "usdt": to_usdt(day.usdt)}
                for day in found.due
            ],
        },
    }


def _month(month: Month) -> dict[str, Any]:
    return {
        "month": f"{month.first:%Y-%m}",
        "income": to_usdt(month.income),
        "payments": month.payments,
        "joined": month.joined,
        "renewed": month.renewed,
        "left": month.left,
        "members": month.members,
        "ended": month.ended,
        "followed": month.followed,
        "waiting": month.waiting,
        "renewal_rate": month.renewal_rate,
    }


def span(days: Sequence[DueDay]) -> str:
    """Return the days from the first to the last: "23 Nov – 29 Nov"."""
    return f"{days[0].day:%d %b} – {days[-1].day:%d %b}"


def weeks(found: Statistics) -> list[Sequence[DueDay]]:
    """Return what is coming due, seven days at a time from today."""
    return [found.due[first : first + 7] for first in range(0, DUE_DAYS, 7)]


def _draw(found: Statistics) -> None:
    granted = f", {found.granted} by a grant" if found.granted else ""
    _show_head(f"Members, {when(found.at, found.zone)}: {found.members}{granted}", first=True)
    plans = [
        {"plan": plan or "without a plan", "members": count} for plan, count in found.plans.items()
    ]
    _show_table(plans, (field("plan", "plan"), _number("members")), drawn="members")
    _draw_months(found)
    _draw_due(found)


def _draw_months(found: Statistics) -> None:
    in_view = sum(month.income for month in found.months)
    _show_head(
        f"Income, {_since(found.months)}: {usdt(in_view)} USDT of {usdt(found.income)} ever; "
        f"renewal rate {percent(found.renewal_rate)}"
    )
    if found.unknown_amounts:
        many = "payments" if found.unknown_amounts > 1 else "payment"
        without = f"Without {found.unknown_amounts} {many} of unknown amount (imported, by hand)."
        show_styled([(f"{without}\n", "dim")])
    months = [
        _month(month)
        | {
            "name": f"{month.first:%b %Y}",
            "micro": month.income,
            "usdt": usdt(month.income),
            "rate": percent(month.renewal_rate),
        }
        for month in found.months
    ]
    numbers = (_number(name) for name in ("joined", "renewed", "left", "members"))
    columns = (
        field("month", "name"),
        _number("usdt", "USDT"),
        *numbers,
        _number("rate", "renewal"),
    )
    _show_table(months, columns, drawn="micro", at=2)


def _draw_due(found: Statistics) -> None:
    weeks_due = [
        {
            "days": span(week),
            "members": sum(day.members for day in week),
            "micro": sum(day.usdt for day in week),
            "usdt": usdt(sum(day.usdt for day in week)),
        }
        for week in weeks(found)
    ]
    total = usdt(sum(day.usdt for day in found.due))
    _show_head(f"Coming due in {DUE_DAYS} days, at today's prices: {total} USDT")
    columns = (field("days", "days"), _number("members"), _number("usdt", "USDT"))
    _show_table(weeks_due, columns, drawn="micro")


def _since(months: Sequence[Month]) -> str:
    first, last = f"{months[0].first:%b %Y}", f"{months[-1].first:%b %Y}"
    return first if first == last else f"{first} – {last}"


def _show_head(words: str, *, first: bool = False) -> None:
    show_styled([("" if first else "\n", ""), (f"{words}\n", "bold")])


def _number(name: str, title: str = "") -> Column:
    return field(title or name, name, right=True)


def _show_table(
    rows: Sequence[dict[str, Any]], columns: Sequence[Column], *, drawn: str, at: int | None = None
) -> None:
    """Show rows, each with a bar of its share in the greatest of what is `drawn`."""
    most = max((row[drawn] for row in rows), default=0) or 1
    bars = Column(
        "",
        lambda row: bar(row[drawn] / most, BAR_CELLS),
        narrow=lambda row: bar(row[drawn] / most, SHORT_BAR_CELLS),
        yields=1,
    )
    at = len(columns) if at is None else at
    shown = (*columns[:at], bars, *columns[at:])
    show_rows(rows, shown, fields=(), empty="Nobody is a member now.")
