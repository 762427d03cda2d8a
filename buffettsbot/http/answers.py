"""How clients are answered: a status and JSON, whatever happened."""

import json
from collections.abc import Callable
from typing import Any

from bottle import HTTPError, HTTPResponse, response

from buffettsbot.core.errors import (
    BuffettsbotError,
    NoMembership,
    Unavailable,
    UnknownPlan,
    UnknownUser,
)
from buffettsbot.http import shapes


def answer(status: int, body: Any, **headers: str) -> HTTPResponse:
    """Return a JSON response: a shape, or what is made of shapes."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    text = json.dumps(body, ensure_ascii=False, default=vars).encode()
    return HTTPResponse(text, status, {"Content-Type": "application/json", **named})


def refuse(status: int, message: str, **headers: str) -> HTTPResponse:
    """Return a JSON response that says why not."""
    return answer(status, shapes.Refusal(status=status, message=message), **headers)


_NOT_FOUND = {
    UnknownUser: shapes.UserNotFound(),
    UnknownPlan: shapes.PlanNotFound(),
    NoMembership: shapes.SubscriptionNotFound(),
}


def errors_as_json(callback: Callable[..., Any]) -> Callable[..., Any]:
    """Where every deliberate error becomes its status and one JSON object (bottle's plugin)."""

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return callback(*args, **kwargs)
        except (UnknownUser, UnknownPlan, NoMembership) as error:
            return answer(404, _NOT_FOUND[type(error)])
        except Unavailable as error:
            wait = error.retry_after
            away = shapes.Unavailable(message=str(error), retry_after=wait)
            return answer(503, away, Retry_After=str(wait))
        except BuffettsbotError as error:
            return refuse(error.http_status, str(error))

    return wrapper


WORDS = {
    404: "There is no such route. The API is described at /api/v1/openapi.json",
    405: "This route does not know this method.",
    500: "Something went wrong here; the log has the details. Try again.",
}


def plain_error(error: HTTPError) -> bytes:
    """Say bottle's own errors in JSON. Nothing of the exception leaves the house."""
    response.content_type = "application/json"
    message = WORDS.get(error.status_code, error.status_line)
    body = {"status": error.status_code, "success": False, "message": message}
    return json.dumps(body).encode()
