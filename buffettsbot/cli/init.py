"""buffettsbot init: the settings and the database, made in one go; safe to repeat."""

import os
import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from buffettsbot.cli.shared.options import Json, Yes, command_settings
from buffettsbot.cli.shared.output import say, show_object
from buffettsbot.core.app import open_app
from buffettsbot.core.errors import BadSettings, NotAllowed
from buffettsbot.core.settings import first_settings as setup
from buffettsbot.core.settings.places import PREFIX, usual_places
from buffettsbot.core.settings.settings import Settings, load_settings, malformed
from buffettsbot.core.storage import migrations
from buffettsbot.core.telegram import bot as telegram

commands = typer.Typer(**command_settings)

Text = str | None
NONE = "none"
# What is asked on a terminal, and the answer when nothing is typed.
QUESTIONS = {
    "wallet": ("The TRON address that is to receive the USDT", None),
    "telegram_token": ("The bot's token, from @BotFather (it is not shown)", None),
    "group_id": ("The private group's id, such as -1001234567890 (none: by hand)", NONE),
    "timezone": ("Your time zone", "UTC"),
    "language": ("The language of the messages, en or ru", "en"),
    "community": ("The community's name in messages", "our community"),
}


@commands.command()
def init(
    ctx: typer.Context,
    env_file: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Write here, not to the usual place.")
    ] = None,
    from_env: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="An env file of the original system; it fills gaps."),
    ] = None,
    wallet: Annotated[Text, typer.Option(help="The TRON address that receives the USDT.")] = None,
    telegram_token: Annotated[
        Text, typer.Option(help="Better in the environment, where nobody else sees it.")
    ] = None,
    group_id: Annotated[Text, typer.Option(help="The private group's id.")] = None,
    timezone: Annotated[Text, typer.Option(help="Such as Europe/Berlin.")] = None,
    language: Annotated[Text, typer.Option(help="Of the messages: en or ru.")] = None,
    community: Annotated[Text, typer.Option(help="Its name in messages.")] = None,
    database_url: Annotated[
        Text, typer.Option(help="SQLite or PostgreSQL; with a password, better in the environment.")
    ] = None,
    api_token: Annotated[
        Text, typer.Option(help="Instead of a fresh one; better in the environment.")
    ] = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Write the env file (0600) with a fresh API token, and make the database; safe to repeat.

    What is missing is asked on a terminal. Settings are also taken from the environment
    (BUFFETTSBOT_WALLET and so on). An env file that is there keeps its comments, its API token, and
    every value that is not given anew.
    """
    options = {
        "wallet": wallet,
        "telegram_token": telegram_token,
        "group_id": group_id,
        "timezone": timezone,
        "language": language,
        "community": community,
        "database_url": database_url,
        "api_token": api_token,
    }
    given = {name: value for name, value in options.items() if value}
    path = setup.place(env_file, os.environ)
    draft = setup.draft(path, given=given, environment=os.environ, original=from_env)
    asks = sys.stdin.isatty() and sys.stderr.isatty() and not yes and not as_json
    _demand(draft, asks=asks)
    answers = _ask_for_missing(draft) if asks else {}
    draft = setup.draft(path, given=answers | given, environment=os.environ, original=from_env)
    _demand(draft)
    if "telegram_token" in draft.changes.keys() - answers.keys():
        telegram.ask_telegram(draft.values["telegram_token"], draft.telegram_url)
    setup.write(draft)
    if not as_json:
        _tell(draft)
    settings = load_settings(path)
    app = open_app(settings, prepared=False)
    ctx.call_on_close(app.db.close)
    before, after = migrations.upgrade(app.db)
    where = app.db.engine.url.render_as_string(hide_password=True)
    if as_json:
        changed = sorted(f"{PREFIX}{name.upper()}" for name in draft.changes)
        show_object(
            {"env_file": str(path), "changed": changed, "database": where, "version": after}
        )
    else:
        say(f"The database {'was ready' if before == after else 'is made'}: {where}")
        _say_what_is_next(path, settings)


def _ask_for_missing(draft: setup.Draft) -> dict[str, str]:
    """Ask for what is missing or malformed; for what has a default only in a first env file."""
    names = [name for name in QUESTIONS if name not in draft.values]
    if draft.text:
        names = [name for name in QUESTIONS if name in draft.problems]
    answers = {name: _ask(name, draft) for name in names}
    return {name: answer for name, answer in answers.items() if answer != NONE}


def _ask(name: str, draft: setup.Draft) -> str:
    """Ask one question until the answer is well-formed, and Telegram does not refuse the token."""
    question, default = QUESTIONS[name]
    hidden = name == "telegram_token"
    while True:
        try:
            answer = str(typer.prompt(question, default=default, hide_input=hidden, err=True))
        except typer.Abort:
            raise NotAllowed("Nobody answered; nothing was written.") from None
        if answer == NONE and default == NONE:
            return answer
        problem = malformed({name: answer}).get(name)
        if problem is None and hidden:
            problem = _try_token(answer, draft)
        if problem is None:
            return answer.strip()
        say(problem.removeprefix("is malformed: "))


def _try_token(token: str, draft: setup.Draft) -> str | None:
    """Show whose token this is; return why it is none, if so."""
    if not re.fullmatch(r"\d+:[\w-]+", token.strip(), re.ASCII):
        return "This is no bot's token: it is digits, a colon and letters. Copy it again, whole."
    try:
        name = telegram.ask_telegram(token, draft.telegram_url)
    except BadSettings as error:
        return str(error)
    say(f"This is {name}." if name else "Telegram cannot be asked now; doctor will look later.")
    return None


def _demand(draft: setup.Draft, *, asks: bool = False) -> None:
    """Raise BadSettings, naming all that is missing or malformed, unless it will be asked for."""
    left = {n: why for n, why in draft.problems.items() if not (asks and n in QUESTIONS)}
    if left:
        lines = "\n  ".join(f"{PREFIX}{name.upper()} {why}" for name, why in left.items())
        ways = "Set them in the environment, give them as options, or run this on a terminal."
        if draft.text:
            ways = f"Fix them in {draft.path}, or set them in the environment."
        raise BadSettings(f"Nothing was written. Fix:\n  {lines}\n{ways}")


def _tell(draft: setup.Draft) -> None:
    names = ", ".join(f"{PREFIX}{name.upper()}" for name in draft.changes)
    if not names:
        say(f"The settings in {draft.path} stay as they are.")
    else:
        say(f"The settings are in {draft.path}. {'New' if draft.text else 'Written'}: {names}")


def _say_what_is_next(path: Path, settings: Settings) -> None:
    steps = [
        ("buffettsbot doctor", "is everything right?"),
        ('buffettsbot plans create "1 month" 50', "put something on sale"),
        ("buffettsbot users add CHAT_ID USERNAME", "make yourself known"),
        ("buffettsbot users promote USERNAME", "hear of what happens"),
        ("buffettsbot serve", f"the API for the bot, on {settings.bind}"),
        ("buffettsbot schedule", "the passes, where no timers run them"),
    ]
    if os.geteuid() == 0 and path == usual_places()[1]:
        say(
            "The settings are root's own: no service is installed here. For one: scripts/install.sh"
        )
    say("Next:")
    if path not in usual_places():
        say(f"  export {PREFIX}ENV_FILE={path}")
    width = max(len(command) for command, _ in steps)
    for command, purpose in steps:
        say(f"  {command:<{width}}  {purpose}")
