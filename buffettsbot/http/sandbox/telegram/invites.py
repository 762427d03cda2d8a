"""Bot API methods that let people in: invitations and join requests."""

import secrets
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
)
from buffettsbot.http.sandbox.telegram.world import Group, Link, Telegram


def create_link(world: Telegram, args: Args, bot_id: int, now: float) -> Body:
    """Make an invitation."""
    _to_invite(world, args, "chat invite link")
    link = Link(
        url=f"https://t.me/+{secrets.token_urlsafe(12)}",
        name=args.text("name")[:32],
        expire_date=args.integer("expire_date", 0),
        member_limit=args.integer("member_limit", 0, 99_999),
        creates_join_request=args.flag("creates_join_request"),
    )
    if link.member_limit and link.creates_join_request:
        text = "member limit can't be specified for links requiring administrator approval"
        raise bad_request(text)
    world.links[link.url] = link
    return _link(world, link, bot_id)


def revoke_link(world: Telegram, args: Args, bot_id: int, now: float) -> Body:
    """Make an invitation worthless."""
    _to_invite(world, args, "chat invite link")
    link = world.links.get(args.text("invite_link"))
    if link is None:
        raise bad_request("INVITE_HASH_EXPIRED")
    link.is_revoked = True
    return _link(world, link, bot_id)


def _link(world: Telegram, link: Link, bot_id: int) -> Body:
    optional = {"name": link.name}
    limits = {"expire_date": link.expire_date, "member_limit": link.member_limit}
    return {
        "invite_link": link.url,
        **{key: value for key, value in optional.items() if value},
        "creator": bot_user(world, bot_id),
        **{key: value for key, value in limits.items() if value},
        "creates_join_request": link.creates_join_request,
        "is_primary": False,
        "is_revoked": link.is_revoked,
    }


def _to_invite(world: Telegram, args: Args, what: str) -> Group:
    """Return the group. Raise unless the bot may let people in."""
    if chat_id(world, args) >= 0:
        raise bad_request("can't invite members to a private chat")
    group = the_group(world, args)
    if not group.may("can_invite_users"):
        raise bad_request(f"not enough rights to manage {what}")
    return group


def approve(world: Telegram, args: Args, bot_id: int, now: float) -> bool:
    """Let in someone who asked."""
    group, person = _asking(world, args)
    group.members[person] = "member"
    return True


def decline(world: Telegram, args: Args, bot_id: int, now: float) -> bool:
    """Turn away someone who asked."""
    _asking(world, args)
    return True


def _asking(world: Telegram, args: Args) -> tuple[Group, int]:
    """Take a join request off the list. Raise if there is none."""
    group = _to_invite(world, args, "chat join requests")
    person = person_id(world, args, "USER_ID_INVALID")
    if group.has(person):
        raise bad_request("USER_ALREADY_PARTICIPANT")
    if person not in world.join_requests:
        raise bad_request("HIDE_REQUESTER_MISSING")
    world.join_requests.discard(person)
    return group, person


METHODS: dict[str, Callable[[Telegram, Args, int, float], Any]] = {
    "createChatInviteLink": create_link,
    "revokeChatInviteLink": revoke_link,
    "approveChatJoinRequest": approve,
    "declineChatJoinRequest": decline,
}


def follow_link(world: Telegram, person: int, url: str, now: float) -> str:
    """Given someone who opens an invitation, return what came of it."""
    link, group = world.links.get(url), world.group
    if link is None or group is None or link.is_revoked or 0 < link.expire_date <= now:
        return "expired"
    if group.members.get(person) == "kicked":
        return "banned"
    if group.has(person):
        return "already-member"
    if link.creates_join_request:
        world.join_requests.add(person)
        return "requested"
    # The limit counts those who are in the group now: whoever leaves frees a place.
    if link.member_limit and sum(map(group.has, link.joined)) >= link.member_limit:
        return "expired"
    link.joined.add(person)
    group.members[person] = "member"
    return "joined"
