"""What each kind of outbox row does at Telegram.

Most are a message. `remove` takes a member out of the group (ban, then unban, so that they may come
back), `welcome` and `renewal` make an invitation where the program runs the group.
"""

import logging
from collections.abc import Callable
from typing import Any

from buffettsbot.core.messages import Style, render
from buffettsbot.core.telegram import Migrated, Refused, Telegram

log = logging.getLogger(__name__)

_NOT_REMOVABLE = ("administrator of the chat", "can't remove chat owner")
_NOT_THERE = ("participant_id_invalid", "user not found", "user_not_participant")


def carry_out(telegram: Telegram, style: Style, row: Any, *, turn: Callable[[], None]) -> None:
    """Carry out an outbox row; `turn` is waited for before each call. Raises a TelegramError.

    A row that comes with a lease was in flight when somebody died: its message says so.
    """
    if row.kind == "remove":
        remove(telegram, row.chat_id, turn=turn)
        return
    payload = dict(row.payload)
    if telegram.group is not None and row.kind in ("welcome", "renewal"):
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


def remove(telegram: Telegram, user_id: int, *, turn: Callable[[], None]) -> None:
    """Take somebody out of the group so that they may come back; owners and admins stay."""
    try:
        turn()
        _in_group(telegram, "banChatMember", user_id=user_id)
        turn()
        _in_group(telegram, "unbanChatMember", user_id=user_id, only_if_banned=True)
    except Refused as error:
        words = str(error).lower()
        if not any(part in words for part in (*_NOT_REMOVABLE, *_NOT_THERE)):
            raise


def invite(telegram: Telegram, user_id: int, *, turn: Callable[[], None]) -> str:
    """Make an invitation that asks to join and names the member; return its link."""
    turn()
    made = _in_group(
        telegram, "createChatInviteLink", name=f"member {user_id}", creates_join_request=True
    )
    return str(made["invite_link"])


def _in_group(telegram: Telegram, method: str, **parameters: Any) -> Any:
    """Call a method on the group, following it to its new id if it has one."""
    try:
        return telegram.call(method, chat_id=telegram.group, **parameters)
    except Migrated as moved:
        telegram.group = moved.new_id
        return telegram.call(method, chat_id=telegram.group, **parameters)
