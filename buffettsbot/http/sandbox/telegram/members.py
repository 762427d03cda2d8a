"""Bot API methods about who is in the group: looking, banning, lifting a ban."""

from buffettsbot.http.sandbox.replies import RECORDED
from buffettsbot.http.sandbox.telegram.calls import BotCall, bad_request
from buffettsbot.http.sandbox.telegram.world import Body, Group

SHORTEST_BAN, LONGEST_BAN = 30, 366 * 86_400


def get_chat_member(call: BotCall) -> Body:
    """Say what someone is in a chat; a stranger to the group has `left`."""
    world, chat = call.world, call.chat(write=False)
    person = call.person("PARTICIPANT_ID_INVALID" if chat < 0 else "member not found")
    who = call.bot() if person == call.bot_id else world.user(person)
    if chat >= 0 or world.group is None:
        if person not in (chat, call.bot_id):
            raise bad_request("member not found")
        return {"user": who, "status": "member"}
    if person == call.bot_id:
        body = {"user": who, "status": world.group.bot_status}
        is_administrator = world.group.bot_status == "administrator"
        return body | RECORDED["administrator"] | world.group.rights() if is_administrator else body
    return {"user": who, **_membership(world.group, person)}


def _membership(group: Group, person: int) -> Body:
    status = group.members.get(person, "left")
    until = {"until_date": group.until.get(person, 0)}
    more: dict[str, Body] = {
        "creator": {"is_anonymous": False},
        "administrator": RECORDED["administrator"],
        "restricted": until | RECORDED["restricted"],
        "kicked": until,
    }
    return {"status": status, **more.get(status, {})}


def _to_restrict(call: BotCall) -> tuple[Group, int]:
    """Return the group and the person. Raise unless the bot may ban this person."""
    group, person = call.group(), call.person()
    if person == call.bot_id:
        raise bad_request("can't restrict self")
    if not group.may("can_restrict_members"):
        raise bad_request("not enough rights to restrict/unrestrict chat member")
    status = group.members.get(person)
    if status == "creator":
        raise bad_request("can't remove chat owner")
    if status == "administrator":
        raise bad_request("user is an administrator of the chat")
    return group, person


def ban(call: BotCall) -> bool:
    """Remove someone and keep them out; too short or too long a time means for ever."""
    group, person = _to_restrict(call)
    until = call.args.integer("until_date")
    for_ever = not SHORTEST_BAN <= until - call.now <= LONGEST_BAN
    group.members[person] = "kicked"
    group.until[person] = 0 if for_ever else until
    call.world.join_requests.discard(person)
    return True


def unban(call: BotCall) -> bool:
    """Let someone come back; a present member is removed, unless `only_if_banned`."""
    group = call.group()
    if group.type == "group":
        raise bad_request("method is available for supergroup and channel chats only")
    if call.args.flag("only_if_banned") and group.members.get(call.person()) != "kicked":
        return True
    group, person = _to_restrict(call)
    group.members[person] = "left"
    return True
