"""What stands for a payment: a transaction hash in its one spelling, or the name of a grant.

A hash is held as 64 lower-case hex digits; two that mean the same are then equal as strings.
"""

import re

from buffettsbot.core.errors import Invalid

# Where a payment has its hash, a membership that an admin granted has a name of its own.
GRANT = "grant-"

_HASH = re.compile(r"(?:0[xX])?([0-9a-fA-F]{64})", re.ASCII)
_HASH_IN_LINK = re.compile(
    r"https?://(?:[a-z]+\.)*tronscan\.(?:org|io)/(?:[#/a-zA-Z?=&_-]*[/=])?(?:0x)?([0-9a-fA-F]{64})"
    r"(?:[/?#][!-~]*)?",
    re.ASCII,
)
_LONGEST_HASH_TEXT = 300


def parse_hash(text: str) -> str:
    """Given a hash in any spelling (upper case, `0x…`, a tronscan link), return it in its one.

    Raises Invalid for anything else.
    """
    bare = text.strip() if len(text) <= _LONGEST_HASH_TEXT else ""
    match = _HASH.fullmatch(bare) or _HASH_IN_LINK.fullmatch(bare)
    if match is None:
        raise Invalid(
            "This is not a transaction hash. Copy it again from the wallet that paid: "
            "64 characters, digits and the letters a to f."
        )
    return match[1].lower()
