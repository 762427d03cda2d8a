"""What each kind of outbox row does at Telegram.

Most are a message. `remove` takes a member out of the group (ban, then unban, so that they may come
back); those that invite make a link where the program runs the group.
"""

import logging
from collections.abc import Callable
from typing import Any

from buffettsbot.core.members.notices import INVITING
from buffettsbot.core.messages.render import render
from buffettsbot.core.messages.words import Style
from buffettsbot.core.telegram.bot import Telegram
from buffettsbot.core.telegram.group import invite, remove

log = logging.getLogger(__name__)


def carry_out(telegram: Telegram, style: Style, row: Any, *, turn: Callable[[], None]) -> None:
    """Carry out an outbox row; `turn` is waited for before each call. Raises a TelegramError.

    A row that comes with a lease was in flight when somebody died: its message says so.
    """
    if row.kind == "remove":
        remove(telegram, row.chat_id, turn=turn)
        return
    payload = dict(row.payload)
    if telegram.group is not None and row.kind in INVITING:
        payload["invite_link"] = invite(telegram, row.chat_id, turn=turn)
    if telegram.group is not None and row.kind in ("admin-add", "admin-keep"):
        payload["by_itself"] = True
    message = render(row.kind, payload, style, again=row.leased_until is not None)
    for warning in message.warnings:
        log.warning("%s", warning)
    turn()
    if message.picture is None:
        telegram.call(
            "sendMessage",
            chat_id=row.chat_id,
            text=message.text,
            parse_mode="HTML",
            link_preview_options={"is_disabled": True},
        )
    else:
        telegram.call(
            "sendPhoto",
            photo=message.picture,
            chat_id=row.chat_id,
            caption=message.text,
            parse_mode="HTML",
        )
