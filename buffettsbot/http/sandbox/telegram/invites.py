"""Bot API methods that let people in: invitations and join requests."""

import secrets

from buffettsbot.http.sandbox.telegram.calls import BotCall, bad_request
from buffettsbot.http.sandbox.telegram.world import Body, Group, Link, Telegram


def create_link(call: BotCall) -> Body:
    """Make an invitation."""
    _to_invite(call, "chat invite link")
    link = Link(
        url=f"https://t.me/+{secrets.token_urlsafe(12)}",
        name=call.args.text("name")[:32],
        expire_date=call.args.integer("expire_date", 0),
        member_limit=call.args.integer("member_limit", 0, 99_999),
        creates_join_request=call.args.flag("creates_join_request"),
    )
    if link.member_limit and link.creates_join_request:
        text = "member limit can't be specified for links requiring administrator approval"
        raise bad_request(text)
    call.world.links[link.url] = link
    return _link(call, link)


def revoke_link(call: BotCall) -> Body:
    """Make an invitation worthless."""
    _to_invite(call, "chat invite link")
    link = call.world.links.get(call.args.text("invite_link"))
    if link is None:
        raise bad_request("INVITE_HASH_EXPIRED")
    link.is_revoked = True
    return _link(call, link)


def _link(call: BotCall, link: Link) -> Body:
    body = {
        "invite_link": link.url,
        "name": link.name or None,
        "creator": call.bot(),
        "expire_date": link.expire_date or None,
        "member_limit": link.member_limit or None,
        "creates_join_request": link.creates_join_request,
        "is_primary": False,
        "is_revoked": link.is_revoked,
    }
    return {key: value for key, value in body.items() if value is not None}


def _to_invite(call: BotCall, what: str) -> Group:
    """Return the group. Raise unless the bot may let people in."""
    if call.chat() >= 0:
        raise bad_request("can't invite members to a private chat")
    group = call.group()
    if not group.may("can_invite_users"):
        raise bad_request(f"not enough rights to manage {what}")
    return group


def approve(call: BotCall) -> bool:
    """Let in someone who asked."""
    group, person = _asking(call)
    group.members[person] = "member"
    return True


def decline(call: BotCall) -> bool:
    """Turn away someone who asked."""
    _asking(call)
    return True


def _asking(call: BotCall) -> tuple[Group, int]:
    """Take a join request off the list. Raise if there is none."""
    group, person = _to_invite(call, "chat join requests"), call.person("USER_ID_INVALID")
    if group.has(person):
        raise bad_request("USER_ALREADY_PARTICIPANT")
    if person not in call.world.join_requests:
        raise bad_request("HIDE_REQUESTER_MISSING")
    call.world.join_requests.discard(person)
    return group, person


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
