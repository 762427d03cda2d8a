"""Who may call: whoever sends the API token. Without one set, everyone who can connect."""

import hmac
from collections.abc import Callable

from bottle import request
from pydantic import SecretStr

from buffettsbot.http.answers import refuse

OPEN_TO_ALL = "/healthz"
UNAUTHORIZED = "Send the header Authorization: Bearer <token>, with the service's API token."


def guard(token: SecretStr | None) -> Callable[[], None]:
    """Return what is to run before each request; it raises (as a response) 401."""
    wanted = token.get_secret_value().encode() if token else None

    def check() -> None:
        if wanted is None or request.path.rstrip("/") == OPEN_TO_ALL:
            return
        sent = request.environ.get("HTTP_AUTHORIZATION", "").encode("latin-1")  # its bytes
        scheme, _, given = sent.partition(b" ")
        is_right = hmac.compare_digest(given.strip(), wanted)
        if scheme.lower() != b"bearer" or not is_right:
            raise refuse(401, UNAUTHORIZED, WWW_Authenticate="Bearer")

    return check
