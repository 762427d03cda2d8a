"""Answers before they become bottle's; those of failing services are in `replies.toml`."""

import json
import tomllib
from dataclasses import dataclass, field
from http import HTTPStatus
from importlib.resources import files
from typing import Any

JSON, HTML = "application/json", "text/html"


@dataclass(frozen=True)
class Reply:
    """An answer before it becomes bottle's."""

    status: int = 200
    body: bytes = b"{}"
    content_type: str = JSON
    headers: dict[str, str] = field(default_factory=dict)


def nginx_page(status: int) -> Reply:
    """Return the page with which nginx answers in place of the service behind it."""
    title = f"{status} {HTTPStatus(status).phrase}"
    page = (
        f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n"
        f"<center><h1>{title}</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
    )
    return Reply(status, page.encode(), HTML)


def _canned(status: int = 200, body: str | None = None, content_type: str = JSON) -> Reply:
    return nginx_page(status) if body is None else Reply(status, body.encode(), content_type)


def _table(name: str) -> dict[str, dict[str, Any]]:
    return tomllib.loads((files(__package__) / name).read_text("utf-8"))


def _canned_by_service() -> dict[str, dict[str, Reply]]:
    """Return every service's canned answers by the names of the faults."""
    said = _table("replies.toml")
    everywhere, chain = said.pop("anywhere"), said.pop("chain")
    common = {
        "tronscan": everywhere | chain,
        "trongrid": everywhere | chain,
        "telegram": everywhere,
    }
    return {
        service: {name: _canned(**reply) for name, reply in (common[service] | own).items()}
        for service, own in said.items()
    }


CANNED = _canned_by_service()
RECORDED = _table("recorded.toml")


def dump(value: object) -> bytes:
    """Given a body, return it as JSON without blanks."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
