"""The doctor's look outside: Telegram, the group, each chain source, and what time it is there.

Everything is asked through the same wire, sources and bot that the work itself uses; a `Witness`
stands in the wire's place and keeps how long an answer took and what its Date header says.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from buffettsbot.core.app import keys_of, open_source
from buffettsbot.core.chain.sources import Source, SourceUnavailable
from buffettsbot.core.chain.tron.service import TOO_OFTEN
from buffettsbot.core.health.findings import (
    FAILED,
    OK,
    UNKNOWN,
    WARNING,
    Finding,
    ago,
    counted,
    listed,
)
from buffettsbot.core.settings.places import PREFIX
from buffettsbot.core.settings.settings import Settings
from buffettsbot.core.telegram.bot import (
    Migrated,
    Misconfigured,
    Telegram,
    TelegramError,
    Throttled,
    Trouble,
)
from buffettsbot.core.wire import Reply, Wire

# No transaction ever has this hash: whoever answers "not found" works.
NOBODYS_HASH = "0" * 64
DRIFT_WARNING = timedelta(seconds=30)
DRIFT_FAILURE = timedelta(minutes=5)
RIGHTS = {"can_invite_users": "invite users", "can_restrict_members": "ban users"}
NETWORK = "Check this host's network, name servers and firewall, then try again."


class Witness(Wire):
    """A wire that keeps to one deadline and remembers its last answer.

    `seconds`: how long it took; `status`: its HTTP status, None when none came; `drift`: how far
    this host's clock was ahead of the other side's, None when it did not say.
    """

    def __init__(self, deadline: float, clock: Callable[[], datetime]) -> None:
        super().__init__()
        self._deadline = deadline
        self._clock = clock
        self.seconds = 0.0
        self.status: int | None = None
        self.drift: timedelta | None = None

    def ask(
        self, method: str, url: str, *, deadline: float = float("inf"), **request: Any
    ) -> Reply:
        """Ask as a Wire does, and remember the answer."""
        self.status = None
        began, instant = self._clock(), time.monotonic()
        reply = super().ask(method, url, deadline=min(deadline, self._deadline), **request)
        self.seconds = time.monotonic() - instant
        self.status = reply.status
        self.drift = _drift(reply, began, self._clock()) or self.drift
        return reply


def _drift(reply: Reply, began: datetime, ended: datetime) -> timedelta | None:
    """A date has whole seconds, half a one is lost on average; an answer from a cache says its
    age."""
    try:
        date = parsedate_to_datetime(reply.headers.get("date", "")).astimezone(UTC)
        age = timedelta(seconds=int(reply.headers.get("age", "0")))
    except (ValueError, OverflowError):
        return None
    return began + (ended - began) / 2 - (date + age + timedelta(seconds=0.5))


def check_clock(witnesses: Sequence[Witness]) -> Iterator[Finding]:
    """Compare this host's clock with those of Telegram and TRON; the middle one is believed."""
    drifts = sorted((w.drift for w in witnesses if w.drift is not None), key=abs)
    if not drifts:
        yield Finding("clock", UNKNOWN, "nobody outside said what time it is", NETWORK)
        return
    drift = drifts[(len(drifts) - 1) // 2]
    if abs(drift) <= DRIFT_WARNING:
        yield Finding("clock", OK, "agrees with Telegram's and TRON's")
        return
    side = "ahead of" if drift > timedelta() else "behind"
    yield Finding(
        "clock",
        FAILED if abs(drift) > DRIFT_FAILURE else WARNING,
        f"{ago(abs(drift))} {side} Telegram's and TRON's",
        "Let it be set by itself: timedatectl set-ntp true. A wrong clock refuses payments as too "
        "old, ends memberships at the wrong time, and lets two hosts send the same message.",
    )


def check_source(settings: Settings, name: str, witness: Witness) -> Iterator[Finding]:
    """Ask a chain source, with each of its API keys, for a hash that nobody has."""
    keys = keys_of(settings, name)
    with closing(witness):
        for number, key in enumerate(keys or [""], 1):
            which = f"API key {number} of {len(keys)}: " if len(keys) > 1 else ""
            source = open_source(settings, witness, name, [key] if key else [])
            finding = _answer(source, witness, with_key=bool(key))
            yield replace(finding, found=which + finding.found)
            if witness.status is None:
                return


def _answer(source: Source, witness: Witness, *, with_key: bool) -> Finding:
    name = source.name
    try:
        answer = source.look_up(NOBODYS_HASH, deadline=time.monotonic() + 60)
    except SourceUnavailable as error:
        return _explained(name, error.why, witness.status)
    if answer.found:
        what = "it claims to know a transaction that does not exist"
        return Finding(name, FAILED, what, f"Check {PREFIX}{name.upper()}_URL.")
    how = "with an API key" if with_key else "without an API key"
    return Finding(name, OK, f"answers in {milliseconds(witness.seconds)}, {how}")


def _explained(name: str, why: str, status: int | None) -> Finding:
    variable = f"{PREFIX}{name.upper()}_API_KEY"
    if status is None:
        return Finding(name, UNKNOWN, f"does not answer: {why}", NETWORK)
    if why == TOO_OFTEN:
        advice = f"Wait a minute. If it comes again: put a (further) key in {variable}."
        return Finding(name, WARNING, "is asked too often for this key, or from this host", advice)
    if status in (401, 403):
        found = f"refuses to answer (status {status})"
        return Finding(name, FAILED, found, f"Check {variable}, and the network's firewall.")
    if status >= 500:
        advice = "Wait; pending payments are asked about again by themselves."
        return Finding(name, UNKNOWN, f"is in trouble (status {status})", advice)
    advice = f"Check {PREFIX}{name.upper()}_URL; if that is right, a proxy may stand between."
    return Finding(name, FAILED, f"what answers is not {name}: {why}", advice)


def check_telegram(settings: Settings, witness: Witness) -> Iterator[Finding]:
    """Check the token, and the bot's rights in the group."""
    token = settings.telegram_token
    if token is None:
        what = f"{PREFIX}TELEGRAM_TOKEN is not set: nobody is told anything"
        advice = "Get one from @BotFather, then run: buffettsbot init"
        yield Finding("telegram", FAILED, what, advice)
        return
    telegram = Telegram(
        witness, settings.telegram_url, token.get_secret_value(), group=settings.group_id
    )
    with closing(witness):
        try:
            bot = telegram.call("getMe")
            name, bot_id = bot["username"], bot["id"]
        except TelegramError as error:
            yield _trouble("telegram", error)
            return
        except (KeyError, TypeError):
            advice = f"Check {PREFIX}TELEGRAM_URL; a proxy may stand between."
            yield Finding("telegram", FAILED, "what answers is not Telegram", advice)
            return
        yield Finding("telegram", OK, f"@{name} answers in {milliseconds(witness.seconds)}")
        if settings.problems("group_id"):
            return  # the settings' own line says so
        try:
            yield _group(telegram, bot_id)
        except TelegramError as error:
            yield _trouble("group", error)


def _trouble(check: str, error: TelegramError) -> Finding:
    what, _, cure = str(error).partition(". ")
    if isinstance(error, Throttled):
        return Finding(check, WARNING, what, "Wait: what is queued is sent by itself afterwards.")
    if isinstance(error, Trouble):
        return Finding(check, UNKNOWN, what, NETWORK)
    if isinstance(error, Migrated):
        return Finding(check, FAILED, "the group has a new id", f"{what[0].upper()}{what[1:]}")
    if isinstance(error, Misconfigured):
        return Finding(check, FAILED, what, cure)
    return Finding(check, FAILED, what, f"Check {PREFIX}GROUP_ID.")


def _group(telegram: Telegram, bot_id: int) -> Finding:
    """Look at the group, and at the bot itself in it. Raises a TelegramError."""
    group = telegram.group
    if group is None:
        return Finding("group", OK, "none is configured: admins add and remove members by hand")
    chat = telegram.call("getChat", chat_id=group)
    if chat.get("id") != group:
        raise Migrated(chat.get("id"))
    title, kind = str(chat.get("title", "")), chat.get("type")
    if kind != "supergroup":
        advice = (
            "Only a supergroup lets those who paid come back: in its settings, make the history "
            f"visible to new members, then set its new id as {PREFIX}GROUP_ID."
        )
        return Finding("group", FAILED, f"{title!r} is a {kind}, not a supergroup", advice)
    me = telegram.call("getChatMember", chat_id=group, user_id=bot_id)
    missing = [words for right, words in RIGHTS.items() if me.get(right) is not True]
    if me.get("status") != "administrator":
        found = f"the bot is no administrator of {title!r} (but {me.get('status')})"
    elif missing:
        found = f"the bot may not {listed(missing)} in {title!r}"
    else:
        return Finding("group", OK, f"{title!r}: the bot may invite and remove members")
    rights = listed(list(RIGHTS.values()))
    advice = f"In the group, make the bot an administrator who may {rights}."
    return Finding("group", FAILED, found, advice)


def milliseconds(seconds: float) -> str:
    """Return a latency as people read it."""
    return f"{seconds * 1000:,.0f} ms" if seconds < 10 else counted(round(seconds), "second")
