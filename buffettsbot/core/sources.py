"""Those outside, as the settings name them: the chain sources, and the bot at Telegram."""

from collections.abc import Callable, Mapping, Sequence

from buffettsbot.core.chain import Chain, Source
from buffettsbot.core.errors import BadSettings
from buffettsbot.core.service import Service
from buffettsbot.core.settings import Settings
from buffettsbot.core.telegram import Telegram
from buffettsbot.core.trongrid import Trongrid
from buffettsbot.core.tronscan import Tronscan
from buffettsbot.core.wire import Wire

_SOURCES: Mapping[str, Callable[[Service], Source]] = {
    Tronscan.name: Tronscan,
    Trongrid.name: Trongrid,
}


def open_chain(settings: Settings) -> Chain:
    """Return the sources in the configured order, over one client. Raises BadSettings."""
    settings.require("chain_sources", "chain_quorum", "tronscan_url", "trongrid_url")
    if settings.chain_quorum > len(settings.chain_sources):
        raise BadSettings(
            f"BUFFETTSBOT_CHAIN_QUORUM is {settings.chain_quorum}, but BUFFETTSBOT_CHAIN_SOURCES "
            "names fewer sources: name both, or ask for a quorum of 1."
        )
    wire = Wire()
    sources = [
        open_source(settings, wire, name, keys_of(settings, name))
        for name in settings.chain_sources
    ]
    return Chain(sources, quorum=settings.chain_quorum)


def open_group(settings: Settings) -> Telegram:
    """Return the bot that runs the group. Raises BadSettings without a token or a group."""
    telegram = open_telegram(settings)
    if telegram.group is None:
        raise BadSettings(
            "BUFFETTSBOT_GROUP_ID is not set: this is about the group that the program runs."
        )
    return telegram


def open_source(settings: Settings, wire: Wire, name: str, keys: Sequence[str]) -> Source:
    """Return the source of this name, over a client, with these API keys."""
    urls = {"tronscan": settings.tronscan_base, "trongrid": settings.trongrid_base}
    return _SOURCES[name](Service(wire, urls[name], keys))


def keys_of(settings: Settings, name: str) -> list[str]:
    """Return the API keys of the source of this name, possibly none."""
    return {"tronscan": settings.tronscan_keys, "trongrid": settings.trongrid_keys}[name]


def open_telegram(settings: Settings) -> Telegram:
    """Return the bot of the configured token. Raises BadSettings without one."""
    settings.require("telegram_token", "telegram_url", "group_id")
    token = settings.telegram_token
    return Telegram(
        Wire(),
        settings.telegram_url,
        token.get_secret_value() if token else "",
        group=settings.group_id,
    )
