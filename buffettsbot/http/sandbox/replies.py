"""What a failing service answers, letter by letter where a recording of it exists."""

import json
from dataclasses import dataclass
from http import HTTPStatus

JSON, HTML, PLAIN = "application/json", "text/html", "text/plain; charset=utf-8"
DEFAULT_WAIT = {"tronscan": 19, "trongrid": 27, "telegram": 5}


@dataclass(frozen=True)
class Reply:
    """An answer before it becomes bottle's."""

    status: int = 200
    body: bytes = b"{}"
    content_type: str = JSON
    retry_after: int | None = None
    location: str | None = None


def nginx(status: int) -> str:
    title = f"{status} {HTTPStatus(status).phrase}"
    return (
        f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n"
        f"<center><h1>{title}</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
    )


def _telegram(code: int, description: str) -> tuple[int, str, str]:
    return code, JSON, json.dumps({"ok": False, "error_code": code, "description": description})


SUSPENDED = "the query server is suspended for @ s"
IN_BAND = json.dumps({"Error": f"request rate exceeded the allowed_rps(3), and {SUSPENDED}."})
PER_KEY = json.dumps({"Error": f"The key exceeds the frequency limit(15), and {SUSPENDED}"})
BUSY = {"Error": "class java.lang.IllegalAccessException : lack of computing resources"}
LITE = "this API is closed because this node is a lite fullnode"

# fault: (status, content type, body); "@" in a body is the seconds to wait
ANYWHERE: dict[str, tuple[int, str, str]] = {
    "403-html": (403, HTML, nginx(403)),
    "500": (500, JSON, '{"message":"Internal Server Error"}'),
    "502-html": (502, HTML, nginx(502)),
    "503": (503, HTML, nginx(503)),
    "empty": (200, JSON, ""),
    "empty-string": (200, JSON, '""'),
    "empty-object": (200, JSON, "{}"),
    "null": (200, JSON, "null"),
    "array": (200, JSON, "[]"),
    "html": (200, HTML, "<!doctype html>\n<html><body>Just a moment...</body></html>\n"),
    "text": (200, PLAIN, LITE),
}
CHAIN: dict[str, tuple[int, str, str]] = {
    "400-empty": (400, JSON, ""),
    "403-daily": (403, JSON, '{"Error":"Exceed the user daily usage"}'),
    "403-key": (403, JSON, '{"Error":"ApiKey not exists"}'),
    "404": (404, JSON, '{"Error":"this API is unavailable due to config"}'),
    "429-in-band": (200, JSON, IN_BAND),
    "busy": (200, JSON, json.dumps(BUSY)),
}
TOO_QUICK = {"code": 403, "message": "request too quickly, please retry later."}
BLOCKED = f"request rate exceeded the allowed_rps(3), and {SUSPENDED}"
CANNED: dict[str, dict[str, tuple[int, str, str]]] = {
    "tronscan": {
        **ANYWHERE,
        **CHAIN,
        "403-json": (403, JSON, json.dumps(TOO_QUICK)),
        "401-key": (401, JSON, '{"message":"invalid api key"}'),
        "429": (429, JSON, '{"message":"Too Many Requests"}'),
    },
    "trongrid": {
        **ANYWHERE,
        **CHAIN,
        "403-json": (
            403,
            JSON,
            json.dumps({"Success": False, "Error": BLOCKED, "StatusCode": 403}),
        ),
        "429": (429, JSON, PER_KEY),
    },
    "telegram": {
        **ANYWHERE,
        "401": _telegram(401, "Unauthorized"),
        "403-json": _telegram(403, "Forbidden: bot was blocked by the user"),
        "404": _telegram(404, "Not Found"),
        "429": (
            429,
            JSON,
            '{"ok":false,"error_code":429,"description":"Too Many Requests: retry after @",'
            '"parameters":{"retry_after":@}}',
        ),
        "500": _telegram(500, "Internal Server Error: restart"),
    },
}


def dump(value: object) -> bytes:
    """Given a body, return it as JSON without blanks."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
