"""What stands for a payment: a transaction hash in its one spelling, or the name of a grant.

A hash is held as 64 lower-case hex digits; two that mean the same are then equal as strings.
"""

import re
from urllib.parse import unquote

from buffettsbot.core.errors import Invalid

# Where a payment has its hash, a membership that an admin granted has a name of its own.
GRANT = "grant-"

NO_HASH = (
    "This is not a transaction hash. Copy it again from the wallet that paid: "
    "64 characters, digits and the letters a to f."
)
OFF_CHAIN = (
    "This is a transfer within an exchange: it never reached the blockchain and has no hash. "
    "Ask the exchange for a withdrawal of USDT on the TRON network (TRC-20), and send its hash."
)

_RUN = re.compile(r"(?<![0-9a-fA-F])[0-9a-fA-F]{64}(?![0-9a-fA-F])")
_INVISIBLE = re.compile("[\xad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
_OFF_CHAIN = re.compile(r"\b(?:off-?chain|internal) transfer\b", re.ASCII | re.IGNORECASE)
_LONGEST_TEXT = 4096  # the longest that Telegram lets a person write


def parse_hash(text: str) -> str:
    """Given any text that holds one hash, return the hash in its one spelling.

    As people send it: in upper case, with `0x`, within a link or a sentence. Raises Invalid where
    there is none, or there are different ones.
    """
    found = hashes_in(text) if len(text) <= _LONGEST_TEXT else []
    if len(found) == 1:
        return found[0]
    raise Invalid(OFF_CHAIN if is_off_chain(text) else NO_HASH)


def hashes_in(text: str) -> list[str]:
    """Return the hashes that a text holds, each once: runs of 64 hex digits and not one more.

    A link may have percent signs before it; a page may break it with characters that nobody sees.
    """
    for spelled in (text, unquote(text), _INVISIBLE.sub("", text)):
        found = list(dict.fromkeys(run.lower() for run in _RUN.findall(spelled)))
        if found:
            return found
    return []


def is_off_chain(text: str) -> bool:
    """Whether this is what exchanges show in place of a hash when no transaction was made."""
    few = text[:_LONGEST_TEXT]
    return bool(_OFF_CHAIN.search(few)) and not hashes_in(few)
