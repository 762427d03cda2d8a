"""What a database driver says of the original's database, in sentences for people."""

import contextlib
import re
from collections.abc import Iterator

from sqlalchemy.exc import DBAPIError

from buffettsbot.core.errors import BuffettsbotError, Invalid, NotAllowed, NotFound, Unavailable


@contextlib.contextmanager
def explained(name: str) -> Iterator[None]:
    """Raise what a driver complains of as an error of ours, which has no secret in it.

    `name`: the original's URL without its password. Raises Invalid, NotAllowed, NotFound,
    Unavailable.
    """
    try:
        yield
    except DBAPIError as error:
        raise _explain(str(error.orig), name) from None


def _explain(words: str, name: str) -> BuffettsbotError:
    if re.search(r"not a database|malformed", words):
        return Invalid(
            f"This is not the original's database: {name} is no SQLite file, or damaged."
        )
    if re.search(r"permission denied|unable to open", words):
        return NotAllowed(f"The original's database {name} may not be read by this user.")
    if re.search(r"authentication failed|no password", words):
        return NotAllowed(f"The original's database {name} refuses the login.")
    if re.search(r"database .* does not exist", words):
        return NotFound(f"The server has no such database: {name}. Check its name.")
    return Unavailable(
        f"The original's database {name} does not answer. Check that it runs and that the URL is "
        "right, then try again; what was imported so far stays, the rest follows."
    )
