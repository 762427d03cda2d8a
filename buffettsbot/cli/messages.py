"""buffettsbot messages: what people are told, and whether an owner's own texts are sound."""

from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from typing import Annotated, Any

import typer

from buffettsbot.cli.shared.options import Json, group_settings
from buffettsbot.cli.shared.output import say, show_json, show_lines, show_styled
from buffettsbot.core.app import style_of
from buffettsbot.core.messages import kinds, owners, words
from buffettsbot.core.messages import render as messages
from buffettsbot.core.messages.words import LANGUAGES
from buffettsbot.core.settings.settings import load_settings

commands = typer.Typer(help="What people are told.", **group_settings)

Language = Annotated[
    str | None, typer.Option("--language", metavar="en|ru", help="Instead of the configured one.")
]
Name = Annotated[
    str | None, typer.Argument(metavar="NAME", help="One message; without it, all of them.")
]

_STYLES = {
    "b": "bold", "strong": "bold", "i": "italic", "em": "italic", "u": "underline",
    "ins": "underline", "s": "strike", "del": "strike", "strike": "strike", "code": "cyan",
    "pre": "cyan", "a": "blue underline",
}  # fmt: skip


@commands.command()
def preview(name: Name = None, language: Language = None, as_json: Json = False) -> None:
    """Show messages as they would be sent, with sample data."""
    style = style_of(load_settings())
    if language is not None:
        if language not in LANGUAGES:
            raise typer.BadParameter("choose en or ru", param_hint="'--language'")
        style = replace(style, language=language)
    shown = [_rendered(kind, style) for kind in ([name] if name else kinds.NAMES)]
    if as_json:
        show_json(shown)
        return
    for one in shown:
        show_styled(_parts(one))
    for warning in dict.fromkeys(w for one in shown for w in one["warnings"]):
        say(warning, label="warning", style="yellow")


@commands.command()
def check(as_json: Json = False) -> None:
    """Find what is broken in your own texts and pictures. Exit code 4 when something is."""
    style = style_of(load_settings())
    found = [{"path": str(f.path), "problem": f.problem} for f in owners.check(style)]
    if as_json:
        show_json(found)
    elif found:
        show_lines((one["path"], one["problem"]) for one in found)
    elif style.directory is None:
        say("BUFFETTSBOT_MESSAGES_DIR is not set; the texts that come with the program are used.")
    else:
        say(f"Everything in {style.directory} is sound.")
    if found:
        raise typer.Exit(4)


def _rendered(kind: str, style: words.Style) -> dict[str, Any]:
    message = messages.render(kind, kinds.sample(kind, has_group=style.has_group), style)
    return {
        "name": kind,
        "language": style.language,
        "text": message.text,
        "picture": str(message.picture) if message.picture else None,
        "warnings": list(message.warnings),
    }


def _parts(one: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield a message as a person sees it: pieces of text, each with its style."""
    yield f"── {one['name']} ──\n", "dim"
    if one["picture"]:
        yield f"[{one['picture']}]\n", "dim"
    reader = _Reader()
    reader.feed(one["text"])
    reader.close()
    yield from reader.parts
    yield "\n\n", ""


class _Reader(HTMLParser):
    """Turns Telegram's HTML into pieces of text, each with its style."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[tuple[str, str]] = []
        self._open: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open.append((_STYLES.get(tag, ""), dict(attrs).get("href") or ""))

    def handle_endtag(self, tag: str) -> None:
        _, link = self._open.pop()
        if link:
            self.parts.append((f" ({link})", "dim"))

    def handle_data(self, data: str) -> None:
        self.parts.append((data, " ".join(style for style, _ in self._open if style)))
