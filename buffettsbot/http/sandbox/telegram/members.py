"""Bot API methods about who is in the group: looking, banning, lifting a ban."""

from collections.abc import Callable
from typing import Any

from buffettsbot.http.sandbox.telegram.calls import (
    Args,
    Body,
    bad_request,
    bot_user,
    chat_id,
    person_id,
    the_group,
    user,
)
from buffettsbot.http.sandbox.telegram.world import Group, Telegram

RIGHTS = (
    "can_manage_chat", "can_change_info", "can_delete_messages", "can_invite_users",
    "can_restrict_members", "can_pin_messages", "can_manage_topics", "can_promote_members",
    "can_manage_video_chats", "can_post_stories", "can_edit_stories", "can_delete_stories",
    "can_manage_tags", "is_anonymous", "can_manage_voice_chats",
)  # fmt: skip
PERMISSIONS = (
    "can_send_messages", "can_send_photos", "can_send_other_messages", "can_invite_users",
)  # fmt: skip
SHORTEST_BAN, LONGEST_BAN = 30, 366 * 86_400


def get_chat_member(world: Telegram, args: Args, bot_id: int, now: float) -> Body:
    """Say what someone is in a chat; a stranger to the group has `left`."""
    chat = chat_id(world, args, write=False)
    person = person_id(world, args, "PARTICIPANT_ID_INVALID" if chat < 0 else "member not found")
    if chat >= 0 or world.group is None:
        if person not in (chat, bot_id):
            raise bad_request("member not found")
        who = bot_user(world, bot_id) if person == bot_id else user(world, person)
        return {"user": who, "status": "member"}
    if person == bot_id:
        rights = _rights(world.group) if world.group.bot_status == "administrator" else {}
        return {"user": bot_user(world, bot_id), "status": world.group.bot_status, **rights}
    return _member(world, world.group, person)


def _member(world: Telegram, group: Group, person: int) -> Body:
    status = group.members.get(person, "left")
    member: Body = {"user": user(world, person), "status": status}
    if status == "creator":
        member["is_anonymous"] = False
    elif status == "administrator":
        member.update(_rights(None))
    elif status == "restricted":
        member["until_date"] = group.until.get(person, 0)
        member.update(dict.fromkeys(PERMISSIONS, False), is_member=True)
    elif status == "kicked":
        member["until_date"] = group.until.get(person, 0)
    return member


def _rights(group: Group | None) -> Body:
    rights: Body = {"can_be_edited": False, **dict.fromkeys(RIGHTS, False), "can_manage_chat": True}
    if group is not None:
        rights["can_invite_users"] = group.can_invite_users
        rights["can_restrict_members"] = group.can_restrict_members
    return rights


def _to_restrict(world: Telegram, args: Args, bot_id: int) -> tuple[Group, int]:
    """Return the group and the person. Raise unless the bot may ban this person."""
    group = the_group(world, args)
    person = person_id(world, args, "PARTICIPANT_ID_INVALID")
    if person == bot_id:
        raise bad_request("can't restrict self")
    if not group.may("can_restrict_members"):
        raise bad_request("not enough rights to restrict/unrestrict chat member")
    status = group.members.get(person)
    if status == "creator":
        raise bad_request("can't remove chat owner")
    if status == "administrator":
        raise bad_request("user is an administrator of the chat")
    return group, person


def ban(world: Telegram, args: Args, bot_id: int, now: float) -> bool:
    """Remove someone and keep them out; too short or too long a time means for ever."""
    group, person = _to_restrict(world, args, bot_id)
    until = args.integer("until_date")
    for_ever = not SHORTEST_BAN <= until - now <= LONGEST_BAN
    group.members[person] = "kicked"
    group.until[person] = 0 if for_ever else until
    world.join_requests.discard(person)
    return True


def unban(world: Telegram, args: Args, bot_id: int, now: float) -> bool:
    """Let someone come back; a present member is removed, unless `only_if_banned`."""
    chat = chat_id(world, args)
    if chat >= 0 or (world.group is not None and world.group.type == "group"):
        raise bad_request("method is available for supergroup and channel chats only")
    if args.flag("only_if_banned") and not _banned(world, args):
        return True
    group, person = _to_restrict(world, args, bot_id)
    group.members[person] = "left"
    return True


def _banned(world: Telegram, args: Args) -> bool:
    group = the_group(world, args)
    return group.members.get(person_id(world, args, "PARTICIPANT_ID_INVALID")) == "kicked"


METHODS: dict[str, Callable[[Telegram, Args, int, float], Any]] = {
    "getChatMember": get_chat_member,
    "banChatMember": ban,
    "unbanChatMember": unban,
}
