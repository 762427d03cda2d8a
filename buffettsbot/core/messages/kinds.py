"""Every kind of message: the values that its template may use, how long they get, and a sample."""

from typing import Any

_COMMON = ("community", "support", "zone")
_PERSON = (*_COMMON, "chat_id", "username", "name", "person")
_MEMBERSHIP = (*_PERSON, "granted", "plan", "price", "start", "end", "hash", "full_hash", "link")
_PAYMENT = (*_MEMBERSHIP, "reason", "reason_slug")

# Each kind of message, and the values its template may use.
FIELDS: dict[str, tuple[str, ...]] = {
    "reminder": (*_MEMBERSHIP, "days", "days_left"),
    "reminder-details": (*_MEMBERSHIP, "days", "days_left"),
    "welcome": (*_MEMBERSHIP, "invite_link"),
    "renewal": (*_MEMBERSHIP, "invite_link"),
    "invitation": (*_MEMBERSHIP, "invite_link"),
    "expired": _MEMBERSHIP,
    "payment-accepted": _PAYMENT,
    "payment-pending": _PAYMENT,
    "payment-refused": _PAYMENT,
    "admin-add": (*_MEMBERSHIP, "by_itself"),
    "admin-keep": (*_MEMBERSHIP, "by_itself"),
    "admin-delete": (*_MEMBERSHIP, "by_itself"),
    "admin-held": _PAYMENT,
    "admin-refused": _PAYMENT,
    "digest-remind": (*_COMMON, "told", "by_days", "people", "more"),
    "digest-expire": (*_COMMON, "ended"),
    "digest-deliver": (*_COMMON, "failed", "people", "more"),
    "pass-failed": (*_COMMON, "pass", "error"),
}
# What each kind is for: a text is of no use without one value of each of these.
_WHO = ("person", "name", "username", "chat_id")
NEEDED: dict[str, tuple[tuple[str, ...], ...]] = {
    "reminder": (("end", "days_left"),),
    "welcome": (("invite_link",),),
    "invitation": (("invite_link",),),
    "payment-pending": (("reason",),),
    "payment-refused": (("reason",),),
    "admin-add": (_WHO,),
    "admin-keep": (_WHO,),
    "admin-delete": (_WHO,),
    "admin-held": (_WHO, ("full_hash",)),
    "admin-refused": (_WHO,),
    "digest-remind": (("told", "by_days"),),
    "digest-expire": (("ended",),),
    "digest-deliver": (("failed", "people"),),
    "pass-failed": (("pass", "error"),),
}
NAMES = tuple(FIELDS)
PICTURED = "reminder"

# How many UTF-16 units of a value are shown. The longest of them all still fit into a message.
LONGEST_NAME = 128
LONGEST = {
    "name": LONGEST_NAME + 2,
    "person": 2 * LONGEST_NAME + 5,
    "community": 120,
    "support": 120,
    "start": 80,
    "end": 80,
    "full_hash": 80,
    "link": 200,
    "invite_link": 200,
    "reason": 300,
    "by_days": 800,
    "people": 2400,
    "error": 600,
}
LONGEST_OTHER = 40


def sample(kind: str, *, has_group: bool = True) -> dict[str, Any]:
    """Return an outbox row's data for a kind of message, to look at the message with.

    Without a group nobody is invited or removed by the program.
    """
    payload = _SAMPLES.get(kind, _SAMPLE)
    by_hand = {"by_itself": False, "invite_link": None}
    return dict(payload) if has_group else payload | by_hand


_HASH = "ea70f1b3c29d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7"
_SAMPLE: dict[str, Any] = {
    "chat_id": 987654321,
    "telegram_username": "ann_x",
    "first_name": "Ann",
    "last_name": "Example",
    "plan": "3 months",
    "price": 140,
    "transaction_hash": _HASH,
    "start_date": "2026-11-02T09:30:00+00:00",
    "end_date": "2027-01-31T09:30:00+00:00",
    "days": 7,
}
_REFUSED = _SAMPLE | {
    "reason": "underpaid",
    "amount": "139",
    "start_date": None,
    "end_date": None,
}
_SAMPLES: dict[str, dict[str, Any]] = {
    "welcome": _SAMPLE | {"invite_link": "https://t.me/+AbCdEfGhIjKlMnOp"},
    "invitation": _SAMPLE | {"invite_link": "https://t.me/+AbCdEfGhIjKlMnOp"},
    "payment-accepted": _SAMPLE | {"reason": "accepted"},
    "payment-pending": _SAMPLE | {"reason": "unconfirmed", "start_date": None, "end_date": None},
    "payment-refused": _REFUSED,
    "admin-add": _SAMPLE | {"by_itself": True},
    "admin-delete": _SAMPLE | {"by_itself": True},
    "admin-held": _SAMPLE | {"reason": "held-for-review", "start_date": None, "end_date": None},
    "admin-refused": _REFUSED,
    "digest-remind": {
        "told": 17,
        "by_days": {"7": 12, "3": 4, "1": 1},
        "people": [
            {"chat_id": 987654321, "telegram_username": "ann_x", "end_date": _SAMPLE["end_date"]},
            {
                "chat_id": 987654322,
                "first_name": "Ben",
                "last_name": "Example",
                "end_date": _SAMPLE["end_date"],
            },
        ],
    },
    "digest-expire": {"ended": 3},
    "digest-deliver": {
        "failed": 2,
        "people": [
            {
                "chat_id": 987654321,
                "telegram_username": "ann_x",
                "error": "Forbidden: bot was blocked by the user",
            },
            {
                "chat_id": 987654322,
                "telegram_username": None,
                "error": "Forbidden: user is deactivated",
            },
        ],
    },
    "pass-failed": {
        "pass": "buffettsbot-pass@settle.service",
        "error": "error: The database does not allow this. Check the rights of its user.",
    },
}
