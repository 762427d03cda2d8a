"""The report of an import: what it did, as people and programs read it."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import islice

from buffettsbot.cli.shared.output import say, show_lines, show_object
from buffettsbot.core.from_django.bring import Imported
from buffettsbot.core.from_django.oddities import KINDS, kinds_in_order

SHOWN = 3

WORDS = {
    "new": "new",
    "renewed": "renewed",
    "ended": "ended before",
    "covered": "with no days to add",
    "burnt": "burnt only",
    "known": "here already",
    "left_out": "left out",
}


def show_import(imported: Imported, *, as_json: bool) -> None:
    """Show what an import did: everything as JSON, or counts and some of what was odd."""
    if as_json:
        show_object(asdict(imported) | {"changed": imported.is_news and not imported.dry_run})
        return
    show_lines(
        [
            ("from", imported.source),
            ("plans", _words(imported.plans)),
            ("users", _words(imported.users)),
            ("subscriptions", _words(imported.subscriptions)),
            *_odd_lines(imported),
        ]
    )
    if imported.dry_run:
        say("This is what an import would do; nothing was changed.")
    elif imported.is_news:
        say("The import is done; nobody was told anything.")
    else:
        say("Everything is here already; nothing was changed.")


def _words(counts: Mapping[str, int]) -> str:
    fates = [f"{counts[fate]:,} {words}" for fate, words in WORDS.items() if counts.get(fate)]
    return f"{counts['read']:,} read" + (f": {', '.join(fates)}" if fates else "")


def _odd_lines(imported: Imported) -> Iterator[tuple[str, str]]:
    for kind, rows in kinds_in_order(imported.odd):
        yield "", ""
        yield f"{len(rows):,} odd", f"{kind}: {KINDS[kind]}"
        for one in islice(rows, SHOWN):
            yield "", f"{one.row}: {one.detail}" if one.detail else one.row
        if len(rows) > SHOWN:
            yield "", f"and {len(rows) - SHOWN:,} more; all of them: --dry-run --json"
