"""Everything that goes wrong on purpose.

* BuffettsbotError
  - NotFound       404   no such thing
    - UnknownUser        nobody of that name or id is registered
    - UnknownPlan        that period is not on sale
    - NoMembership       they have none that runs
  - Conflict       409   it exists already, or is in the way
  - Invalid        422   the value itself is wrong
  - NotAllowed     403   it may not be done
  - BadSettings    422   settings are missing or malformed; all of them are named
  - Unavailable    503   the database, TRON or Telegram is away; try again

Each message is a sentence for a person: what happened, and what to do next. No secret is in one.
"""


class BuffettsbotError(Exception):
    """A deliberate error; `slug` is for programs, `http_status` for every shell."""

    slug = "error"
    http_status = 500

    @property
    def exit_code(self) -> int:
        """4 when the answer is no, 5 when it is not now: the status' hundreds digit."""
        return self.http_status // 100


class NotFound(BuffettsbotError):
    slug = "not-found"
    http_status = 404


class UnknownUser(NotFound):
    slug = "unknown-user"


class UnknownPlan(NotFound):
    slug = "unknown-plan"


class NoMembership(NotFound):
    slug = "no-membership"


class Conflict(BuffettsbotError):
    slug = "conflict"
    http_status = 409


class Invalid(BuffettsbotError):
    slug = "invalid"
    http_status = 422


class NotAllowed(BuffettsbotError):
    slug = "not-allowed"
    http_status = 403


class BadSettings(BuffettsbotError):
    slug = "bad-settings"
    http_status = 422


class Unavailable(BuffettsbotError):
    """`retry_after`: the seconds after which it is worth trying again."""

    slug = "unavailable"
    http_status = 503

    def __init__(self, message: str, retry_after: int = 5) -> None:
        super().__init__(message)
        self.retry_after = retry_after
