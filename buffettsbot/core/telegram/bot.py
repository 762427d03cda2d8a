"""The Bot API: one call at a time, and every refusal sorted into what to do about it.

Texts of errors change, so they are matched by part, in lower case; see the project's Telegram
facts, sections 1 to 5 and 8. No error holds the token, which is part of the URL.
"""

import json
from pathlib import Path
from typing import Any

from buffettsbot.core.errors import BadSettings
from buffettsbot.core.wire import NoAnswer, Reply, Wire


class TelegramError(Exception):
    """A call that did not succeed; its text is for people."""


class Throttled(TelegramError):
    """Too fast: `retry_after` seconds must pass before the next call."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"Telegram wants a pause of {retry_after:.0f} s")
        self.retry_after = retry_after


class Trouble(TelegramError):
    """Telegram or the way to it is in trouble; `sent` when the call may have been carried out."""

    def __init__(self, why: str, *, sent: bool) -> None:
        super().__init__(why)
        self.sent = sent


class Refused(TelegramError):
    """It will never work for this person or chat."""


class Migrated(TelegramError):
    """The group has a new id."""

    def __init__(self, new_id: int) -> None:
        super().__init__(f"the group is a supergroup now: set BUFFETTSBOT_GROUP_ID={new_id}")
        self.new_id = new_id


class Misconfigured(TelegramError):
    """Nothing will work until a person fixes the token or the bot's rights."""


_GROUP_TROUBLE = (
    "not enough rights",
    "chat_admin_required",
    "bot was kicked",
    "bot is not a member",
    "the group chat was deleted",
    "method is available for supergroup",
    "member list is inaccessible",
)


class Telegram:
    """A bot, by its token. `group`: calls about this chat have to work, or something is amiss."""

    def __init__(self, wire: Wire, url: str, token: str, *, group: int | None = None) -> None:
        self._wire = wire
        self._base = f"{url.rstrip('/')}/bot{token}/"
        self.group = group

    def call(self, method: str, *, photo: Path | None = None, **parameters: Any) -> Any:
        """Call a method; return its result. `photo` is uploaded. Raises a TelegramError."""
        try:
            if photo is None:
                reply = self._wire.ask("POST", self._base + method, json=parameters)
            else:
                files = {"photo": (photo.name, photo.read_bytes(), "image/png")}
                texts = {name: str(value) for name, value in parameters.items()}
                reply = self._wire.ask("POST", self._base + method, data=texts, files=files)
        except NoAnswer as silence:
            raise Trouble(f"Telegram does not answer: {silence}", sent=silence.sent) from None
        body = _object(reply)
        if body.get("ok") is True:
            return body.get("result")
        raise self._error(reply, body, about_group=parameters.get("chat_id") == self.group)

    def _error(self, reply: Reply, body: dict[str, Any], *, about_group: bool) -> TelegramError:
        given = body.get("parameters")
        parameters: dict[str, Any] = given if isinstance(given, dict) else {}
        text = str(body.get("description", ""))[:200]
        code = body.get("error_code", reply.status)
        if code == 429:
            return Throttled(_seconds(parameters.get("retry_after"), reply))
        if isinstance(parameters.get("migrate_to_chat_id"), int):
            return Migrated(parameters["migrate_to_chat_id"])
        if code in (401, 404):
            return Misconfigured(
                "Telegram refuses the bot's token. Ask @BotFather for the right one and set "
                "BUFFETTSBOT_TELEGRAM_TOKEN."
            )
        if not isinstance(code, int) or code >= 500 or code in (200, 409):
            return Trouble(f"Telegram is in trouble (status {code})", sent=False)
        words = text.lower()
        if any(part in words for part in _GROUP_TROUBLE) or (
            about_group and "chat not found" in words
        ):
            return no_rights(text)
        return Refused(text or f"status {code}")


def no_rights(why: str) -> Misconfigured:
    """The error for a bot that may not do its work in the group."""
    return Misconfigured(
        f"The bot may not do its work in the group ({why}). Make it an administrator "
        "there who may invite users and restrict members, and check BUFFETTSBOT_GROUP_ID."
    )


def _object(reply: Reply) -> dict[str, Any]:
    try:
        body = json.loads(reply.body)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        # A proxy or a captive portal spoke, not Telegram.
        return {"ok": False, "error_code": 500 if reply.status == 200 else reply.status}
    return body


def _seconds(given: object, reply: Reply) -> float:
    header = reply.headers.get("retry-after", "")
    if isinstance(given, int) and given > 0:
        return float(given)
    return float(header) if header.isascii() and header.isdigit() and header != "0" else 1.0


def ask_telegram(token: str, url: str) -> str | None:
    """Return the bot's name, None when Telegram cannot be asked now. Raises BadSettings when it
    refuses the token."""
    try:
        return f"@{Telegram(Wire(), url, token).call('getMe')['username']}"
    except Misconfigured as error:
        raise BadSettings(str(error)) from None
    except (TelegramError, KeyError, TypeError):
        return None
