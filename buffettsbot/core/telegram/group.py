"""The private group at Telegram: who is in it, who is let in, invited, turned away, taken out.

What is done already counts as done; the answers are those of the project's Telegram facts,
section 5. Everything here raises a TelegramError when it did not come to pass.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from buffettsbot.core.telegram.bot import Migrated, Refused, Telegram, Trouble, no_rights

_NOT_REMOVABLE = ("administrator of the chat", "can't remove chat owner")
_NOT_THERE = ("participant_id_invalid", "user not found", "user_not_participant")
_IN_ALREADY = "user_already_participant"
_REQUEST_GONE = "hide_requester_missing"


@dataclass(frozen=True)
class Presence:
    """What somebody is to the group: Telegram's word for it, and what it means."""

    status: str
    is_in: bool
    is_bot: bool = False

    @property
    def is_admin(self) -> bool:
        """Whether they run the group: nobody takes them out."""
        return self.status in ("creator", "administrator")


def look_up(telegram: Telegram, user_id: int) -> Presence:
    """Return what somebody is to the group; whom Telegram does not know there has `left`."""
    try:
        member = _call_in_group(telegram, "getChatMember", user_id=user_id)
    except Refused as error:
        if _says(error, *_NOT_THERE):
            return Presence("left", is_in=False)
        raise
    status, user = str(_fields(member).get("status")), member.get("user")
    is_in = status in ("creator", "administrator", "member") or (
        status == "restricted" and member.get("is_member") is True
    )
    return Presence(status, is_in, isinstance(user, dict) and user.get("is_bot") is True)


def check_rights(telegram: Telegram, *rights: str) -> None:
    """Raise Misconfigured unless the bot is an administrator of the group with these rights.

    Of anybody else Telegram need not say who is in: it promises that to administrators only.
    """
    bot = _fields(telegram.call("getMe"))
    member = _fields(_call_in_group(telegram, "getChatMember", user_id=bot.get("id")))
    if member.get("status") != "administrator":
        raise no_rights(f"it is {member.get('status')}, no administrator")
    lacking = [right for right in rights if member.get(right) is not True]
    if lacking:
        raise no_rights(f"it lacks {' and '.join(lacking)}")


def approve(telegram: Telegram, user_id: int) -> bool:
    """Let in somebody who asked; return whether they are in now: their request may be gone."""
    try:
        _call_in_group(telegram, "approveChatJoinRequest", user_id=user_id)
    except Refused as error:
        if _says(error, _REQUEST_GONE):
            return False
        if not _says(error, _IN_ALREADY):
            raise
    return True


def decline(telegram: Telegram, user_id: int) -> None:
    """Turn away somebody who asked. Where Telegram refuses, there is no request to decline."""
    try:
        _call_in_group(telegram, "declineChatJoinRequest", user_id=user_id)
    except Refused:
        return


def remove(telegram: Telegram, user_id: int, *, turn: Callable[[], None]) -> None:
    """Take somebody out of the group so that they may come back; owners and admins stay."""
    try:
        turn()
        _call_in_group(telegram, "banChatMember", user_id=user_id)
        turn()
        _call_in_group(telegram, "unbanChatMember", user_id=user_id, only_if_banned=True)
    except Refused as error:
        if not _says(error, *_NOT_REMOVABLE, *_NOT_THERE):
            raise


def invite(telegram: Telegram, user_id: int, *, turn: Callable[[], None]) -> str:
    """Make an invitation that asks to join and names the member; return its link."""
    turn()
    made = _call_in_group(
        telegram, "createChatInviteLink", name=f"member {user_id}", creates_join_request=True
    )
    return str(made["invite_link"])


def _fields(result: Any) -> dict[str, Any]:
    if not isinstance(result, dict):
        raise Trouble("Telegram's answer is garbled", sent=False)
    return result


def _says(error: Refused, *parts: str) -> bool:
    words = str(error).lower()
    return any(part in words for part in parts)


def _call_in_group(telegram: Telegram, method: str, **parameters: Any) -> Any:
    """Call a method on the group, following it to its new id if it has one."""
    try:
        return telegram.call(method, chat_id=telegram.group, **parameters)
    except Migrated as moved:
        telegram.group = moved.new_id
        return telegram.call(method, chat_id=telegram.group, **parameters)
