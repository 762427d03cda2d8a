"""buffettsbot verify: what a transaction hash is worth."""

from typing import Annotated

import typer

from buffettsbot.cli.shared.facts import when
from buffettsbot.cli.shared.options import PAYMENTS, TIMES, Hash, Json, command_settings, open_for
from buffettsbot.cli.shared.output import COLOURS, say, show_lines, show_object
from buffettsbot.core.app import expectation_of, open_chain
from buffettsbot.core.chain.judge import Verdict
from buffettsbot.core.ledger.verify import verify as judge_hash
from buffettsbot.core.money import to_usdt

commands = typer.Typer(**command_settings)

EXIT_CODES = {"accepted": 0, "refused": 4, "pending": 5}


@commands.command()
def verify(
    ctx: typer.Context,
    transaction_hash: Hash,
    plan: Annotated[
        str | None, typer.Option("--plan", metavar="PERIOD", help="The plan it has to pay for.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Judge a transaction hash; changes nothing. Exits 0 for good, 4 for no, 5 for not yet."""
    app = open_for(ctx, *TIMES, *PAYMENTS)
    worth = judge_hash(
        app.db,
        open_chain(app.settings),
        expectation_of(app.settings),
        transaction_hash=transaction_hash,
        period=plan,
        now=app.now(),
    )
    verdict = worth.verdict
    if as_json:
        show_object(as_row(verdict, worth.transaction_hash) | {"plans": worth.periods})
    else:
        say_verdict(verdict)
        zone = app.settings.timezone
        facts = {
            "amount": verdict.amount and f"{to_usdt(verdict.amount)} USDT",
            "from": verdict.sender,
            "to": verdict.recipient,
            "time": verdict.time and when(verdict.time, zone),
            "seen by": verdict.source,
            "pays for": ", ".join(worth.periods),
        }
        show_lines((name, text) for name, text in facts.items() if text)
    raise typer.Exit(EXIT_CODES[verdict.verdict])


def as_row(verdict: Verdict, transaction_hash: str | None) -> dict[str, object]:
    """Return a verdict as the contract's JSON has it."""
    return {
        "transaction_hash": transaction_hash,
        "verdict": verdict.verdict,
        "reason": verdict.reason,
        "detail": verdict.detail,
        "amount": None if verdict.amount is None else to_usdt(verdict.amount),
        "sender": verdict.sender,
        "recipient": verdict.recipient,
        "time": verdict.time,
        "source": verdict.source,
    }


def say_verdict(verdict: Verdict) -> None:
    """Say a verdict to a person, on stderr."""
    style = f"bold {COLOURS[verdict.verdict]}"
    say(verdict.detail, label=in_words(verdict.verdict, verdict.reason), style=style)


def in_words(status: str, reason: str) -> str:
    """Return a status and its reason, said once where they are the same."""
    return status if status == reason else f"{status} ({reason})"
