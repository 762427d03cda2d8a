"""All of it put together: the settings, the database, the clock, and those outside."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from buffettsbot.core.chain.judge import Expectation
from buffettsbot.core.chain.tron.addresses import NETWORKS
from buffettsbot.core.errors import BadSettings, BuffettsbotError
from buffettsbot.core.messages.words import Style
from buffettsbot.core.settings.settings import Settings, load_settings
from buffettsbot.core.storage.database import Database

if TYPE_CHECKING:
    from buffettsbot.core.chain.sources import Chain, Source
    from buffettsbot.core.telegram.bot import Telegram
    from buffettsbot.core.wire import Wire


def utcnow() -> datetime:
    """The only look at the system's clock in the core."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class App:
    """What every command and route works with."""

    settings: Settings
    db: Database
    now: Callable[[], datetime] = utcnow


def open_app(settings: Settings | None = None, *, prepared: bool = True) -> App:
    """Open the database that the settings name; a fresh SQLite one is made on the spot.

    Raises BadSettings, Unavailable, or NotAllowed when the data needs `db upgrade` (not checked
    unless `prepared`).
    """
    settings = settings or load_settings()
    db = Database(settings.database)
    try:
        if prepared:
            _prepare(db)
    except BuffettsbotError:
        db.close()
        raise
    return App(settings, db)


def _prepare(db: Database) -> None:
    if db.is_sqlite and db.version() is None:
        from buffettsbot.core.storage import migrations  # Alembic, once in a database's life

        migrations.upgrade(db)
    db.check_version()


def style_of(settings: Settings) -> Style:
    """Return how messages are written. Raises BadSettings."""
    settings.require("language", "timezone", "community", "support", "messages_dir", "network")
    return Style(
        language=settings.language,
        zone=settings.timezone,
        community=settings.community,
        support=settings.support,
        explorer_url=NETWORKS[settings.network].explorer_url,
        directory=settings.messages_dir.expanduser() if settings.messages_dir else None,
        has_group=settings.group_id is not None,
    )


def expectation_of(settings: Settings) -> Expectation:
    """Return what every payment has to be, but for its price.

    Raises BadSettings, for one when there is no wallet.
    """
    settings.require(
        "wallet", "network", "usdt_contract", "payment_max_age", "underpayment_tolerance"
    )
    return Expectation(
        wallet=str(settings.wallet),
        contract=settings.usdt_contract or NETWORKS[settings.network].usdt_contract,
        tolerance=settings.underpayment_tolerance,
        max_age=settings.payment_max_age,
        hold_risky=settings.hold_risky,
    )


# What follows imports httpx and its like only when somebody outside is to be asked. Most commands
# ask nobody, and it takes 2.6 times a bare Python's start (95 ms where that takes 37), a tenth of
# what `plans list` takes in all.


def open_chain(settings: Settings, wire: "Wire | None" = None) -> "Chain":
    """Return the chain's sources in the configured order, all over one client.

    `wire`: that client; a new one unless it is given. Raises BadSettings.
    """
    from buffettsbot.core.chain.sources import Chain
    from buffettsbot.core.wire import Wire

    settings.require("chain_sources", "chain_quorum", "tronscan_url", "trongrid_url")
    if settings.chain_quorum > len(settings.chain_sources):
        raise BadSettings(
            f"BUFFETTSBOT_CHAIN_QUORUM is {settings.chain_quorum}, but BUFFETTSBOT_CHAIN_SOURCES "
            "names fewer sources: name both, or ask for a quorum of 1."
        )
    wire = wire or Wire()
    sources = [
        open_source(settings, wire, name, keys_of(settings, name))
        for name in settings.chain_sources
    ]
    return Chain(sources, quorum=settings.chain_quorum)


def open_source(settings: Settings, wire: "Wire", name: str, keys: Sequence[str]) -> "Source":
    """Return the source of this name, over a client, with these API keys."""
    from buffettsbot.core.chain.tron.service import Service
    from buffettsbot.core.chain.tron.trongrid import Trongrid
    from buffettsbot.core.chain.tron.tronscan import Tronscan

    if name == Tronscan.name:
        return Tronscan(Service(wire, settings.tronscan_base, keys))
    return Trongrid(Service(wire, settings.trongrid_base, keys))


def keys_of(settings: Settings, name: str) -> list[str]:
    """Return the API keys of the source of this name, possibly none."""
    return {"tronscan": settings.tronscan_keys, "trongrid": settings.trongrid_keys}[name]


def open_telegram(settings: Settings, wire: "Wire | None" = None) -> "Telegram":
    """Return the bot of the configured token, over a new client unless one is given.

    Raises BadSettings without a token.
    """
    from buffettsbot.core.telegram.bot import Telegram
    from buffettsbot.core.wire import Wire

    settings.require("telegram_token", "telegram_url", "group_id")
    token = settings.telegram_token
    return Telegram(
        wire or Wire(),
        settings.telegram_url,
        token.get_secret_value() if token else "",
        group=settings.group_id,
    )


def open_group(settings: Settings) -> "Telegram":
    """Return the bot that runs the group. Raises BadSettings without a token or a group."""
    telegram = open_telegram(settings)
    if telegram.group is None:
        raise BadSettings(
            "BUFFETTSBOT_GROUP_ID is not set: this is about the group that the program runs."
        )
    return telegram
