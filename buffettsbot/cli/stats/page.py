"""The page of `buffettsbot stats --html`: one file, static charts, nothing to fetch, no script.

pygal draws; its colours are the page's own, so that light and dark are the reader's choice. Each
chart is drawn twice, for a narrow and for a wide screen, so that its letters keep their size.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

import pygal
from pygal.style import Style

from buffettsbot.cli.shared.facts import percent, usdt, when
from buffettsbot.core.ledger.months import Month
from buffettsbot.core.ledger.statistics import Statistics
from buffettsbot.core.money import MICRO

# pygal's hook for its plugins is of a kind that Python warns of at every import after it.
sys.meta_path[:] = [hook for hook in sys.meta_path if hasattr(hook, "find_spec")]

TEMPLATE = files("buffettsbot").joinpath("cli/stats/stats.html")
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif"
NARROW, WIDE = (340, 230), (520, 260)
_DEFAULTS = {"value_formatter": lambda value: f"{value:,.0f}"}


@dataclass(frozen=True)
class Series:
    """Numbers to draw, by the name of the page's colour for them; None leaves a gap."""

    title: str
    colour: str
    values: Sequence[float | None]


def page(found: Statistics, community: str) -> str:
    """Return the whole page."""
    figures = {
        "community": escape(community),
        "at": escape(f"{when(found.at, found.zone)} ({found.zone.key})"),
        "tiles": "".join(_tile(*tile) for tile in _tiles(found)),
        "months": "".join(map(_row, reversed(found.months))),
        "unknown": _unknown(found.unknown_amounts),
    }
    template = Template(TEMPLATE.read_text(encoding="utf-8"))
    return template.substitute(figures | _charts(found))


def _charts(found: Statistics) -> dict[str, str]:
    """Return each chart by its name in the template."""
    months = found.months
    names = [f"{month.first:%b}" for month in months]
    days = [f"{day.day:%d %b}".lstrip("0") for day in found.due]
    income = Series("USDT", "income", [month.income / MICRO for month in months])
    members = Series("members", "members", [month.members for month in months])
    joined = Series("Joined", "joined", [month.joined for month in months])
    renewed = Series("Renewed", "renewed", [month.renewed for month in months])
    left = Series("Left", "left", [month.left for month in months])
    rate = Series("%", "renewed", [_hundredths(month) for month in months])
    due = Series("USDT", "due", [day.usdt / MICRO for day in found.due])
    plans = Series("members", "members", list(reversed(found.plans.values())))
    return {
        "income": _chart(pygal.Bar, names, income),
        "members": _chart(pygal.Line, names, members, fill=True),
        "flow": _chart(pygal.Bar, names, joined, renewed, left),
        "rate": _chart(
            pygal.Line,
            names,
            rate,
            range=(0, 100),
            value_formatter=lambda value: f"{value:.0f}%",
        ),
        "due": _chart(pygal.Bar, days, due, x_labels_major_every=7),
        "plans": _chart(
            pygal.HorizontalBar,
            [plan or "no plan" for plan in reversed(found.plans)],
            plans,
            print_values=True,
            show_x_labels=False,
        ),
    }


def _tiles(found: Statistics) -> list[tuple[str, str, str]]:
    this = found.months[-1]
    due = sum(day.members for day in found.due)
    change = f"+{this.joined:,} −{this.left:,} this month"
    return [
        ("Members now", f"{found.members:,}", change),
        ("Income this month", f"{usdt(this.income)} USDT", f"{usdt(found.income)} USDT ever"),
        ("Renewal rate", percent(found.renewal_rate), f"the last {len(found.months)} months"),
        ("Due in 30 days", f"{usdt(sum(day.usdt for day in found.due))} USDT", f"{due:,} members"),
    ]


def _tile(title: str, figure: str, note: str) -> str:
    figure, _, unit = figure.partition(" ")
    unit = f" <small>{unit}</small>" if unit else ""
    return f"<div class=tile><h2>{title}</h2><p>{figure}{unit}</p><small>{note}</small></div>"


def _row(month: Month) -> str:
    cells = (
        f"{usdt(month.income)}",
        f"{month.joined:,}",
        f"{month.renewed:,}",
        f"{month.left:,}",
        f"{month.members:,}",
        percent(month.renewal_rate),
    )
    columns = "".join(f"<td>{cell}</td>" for cell in cells)
    return f"<tr><th scope=row>{month.first:%b %Y}</th>{columns}</tr>\n"


def _unknown(count: int) -> str:
    if not count:
        return ""
    return f"<p>{count:,} accepted without a known amount (imported, or by hand) not included.</p>"


def _hundredths(month: Month) -> float | None:
    return None if month.renewal_rate is None else month.renewal_rate * 100


def _chart(kind: Callable[..., Any], names: Sequence[str], *series: Series, **options: Any) -> str:
    """Return a chart, drawn for a narrow screen and for a wide one."""
    narrow = _drawn(kind, names, series, NARROW, options)
    wide = _drawn(kind, names, series, WIDE, options)
    return f"<div class=narrow>{narrow}</div><div class=wide>{wide}</div>"


def _drawn(
    kind: Callable[..., Any],
    names: Sequence[str],
    series: Sequence[Series],
    size: tuple[int, int],
    options: Mapping[str, Any],
) -> str:
    width, height = size
    chart = kind(
        width=width,
        height=height,
        style=_style([each.colour for each in series], opacity=".2" if "fill" in options else "1"),
        js=[],
        disable_xml_declaration=True,
        show_legend=len(series) > 1,
        legend_at_bottom=True,
        legend_at_bottom_columns=len(series),
        legend_box_size=10,
        margin=4,
        spacing=6,
        rounded_bars=2,
        dots_size=2.5,
        min_scale=3,
        max_scale=5,
        include_x_axis=True,
        show_minor_x_labels=False,
        truncate_label=-1,
        **_DEFAULTS | {"x_labels_major_every": -(-len(names) // (width // 40))} | dict(options),
    )
    chart.add_xml_filter(_without_scripts)
    chart.x_labels = list(names)
    for each in series:
        chart.add(each.title, list(each.values))
    drawn: str = chart.render(is_unicode=True)
    return drawn


def _without_scripts(root: Any) -> Any:
    """Take out what pygal says to a script of its own, and its comments."""
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag == "script" or not isinstance(child.tag, str):
                parent.remove(child)
    return root


def _style(colours: Sequence[str], *, opacity: str) -> Style:
    return Style(
        background="transparent",
        plot_background="transparent",
        foreground="var(--muted)",
        foreground_strong="var(--text)",
        foreground_subtle="var(--line)",
        guide_stroke_color="var(--line)",
        major_guide_stroke_color="var(--line)",
        guide_stroke_dasharray="none",
        major_guide_stroke_dasharray="none",
        colors=tuple(f"var(--{colour})" for colour in colours),
        value_colors=("var(--card)",) * len(colours),
        font_family=FONT,
        opacity=opacity,
        opacity_hover=opacity,
        stroke_opacity="1",
        stroke_width="2",
        label_font_size=12,
        major_label_font_size=12,
        legend_font_size=12,
        value_font_size=12,
        no_data_font_size=14,
    )
