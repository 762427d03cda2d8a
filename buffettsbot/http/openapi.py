"""What the API says of itself: OpenAPI 3.1, made of the routes, their docstrings, the models."""

import inspect
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bottle import HTTPResponse
from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from buffettsbot import __version__
from buffettsbot.http.bodies import FORMS, Body
from buffettsbot.http.examples import ANSWERS, BODIES, COMMON, PARAMETERS, Told
from buffettsbot.http.guard import OPEN_TO_ALL
from buffettsbot.http.shapes import Shape

DESCRIPTION = """
For the community's bot. A customer pays USDT straight to the owner's wallet and hands the bot the
transaction hash; this API checks it against the blockchain and sells the membership.

**The usual way of a bot**

1. `POST /api/v1/users/` when somebody presses Start, and whenever their name may have changed.
2. `GET /api/v1/plans/` to show what is on sale.
3. `POST /api/v1/subscriptions/` with the hash that the customer sends.
4. `GET /api/v1/subscriptions/` to show how long they are in.
5. `POST /api/v1/join-requests/` when somebody asks to join the group, if this program runs it
   (BUFFETTSBOT_GROUP_ID).

**Every path works with and without its trailing slash.** JSON in, JSON out, UTF-8; a body has at
most 64 KiB and needs `Content-Type: application/json`. The same fields are taken from a form, too
(`application/x-www-form-urlencoded`, `multipart/form-data`). A field that stands twice makes a body
invalid; fields unknown here are ignored. Answers may get new fields: ignore those you don't know.

**People** are named by `chat_id`, which never changes, or by `telegram_username`, which may move to
somebody else. Prefer `chat_id`.

**Errors** are always JSON. Two forms: `{"<field>": ["<why>"]}` when fields are wrong, otherwise an
object with a `message`. Beside what each route lists: a path that does not exist is 404, a method
it does not know 405, a malformed HTTP request 400, headers over 256 KiB 431; all have the form
`Refusal`. While the database is away the answer is 503 with `Retry-After`; nothing was lost, send
the same again.

**Repeating is safe.** The same registration or the same claim again is answered the same and
changes nothing.
"""
TAGS = {
    "users": "Who is known.",
    "subscriptions": "Who is in, and how one gets in.",
    "plans": "What is on sale.",
    "service": "For those who run it.",
}
SERVER = "The service on its own host; BUFFETTSBOT_BIND says where it listens."
BEARER = (
    "BUFFETTSBOT_API_TOKEN. Where none is set, the service listens only on loopback or a unix "
    "socket, and asks for none."
)
REFERENCE = "#/components/schemas/{model}"


@dataclass(frozen=True)
class Route:
    """Who answers a method of a path, and the model that is read first and handed to them.

    The path is served with and without its trailing slash. The docstring of who answers is the
    route's description.
    """

    method: str
    path: str
    answering: Callable[..., HTTPResponse]
    tag: str
    body: type[Body] | None = None


def document(routes: Iterable[Route]) -> bytes:
    """Return the OpenAPI document of the routes, as JSON."""
    schemas = Schemas()
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    described = {
        "openapi": "3.1.0",
        "info": {
            "title": "buffettsbot",
            "version": __version__,
            "summary": "Memberships of a private Telegram group, bought with TRC-20 USDT.",
            "description": DESCRIPTION.strip(),
        },
        "servers": [{"url": "http://127.0.0.1:8000", "description": SERVER}],
        "security": [{"bearer": []}],
        "tags": [{"name": name, "description": words} for name, words in TAGS.items()],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": BEARER}
            },
            "responses": {
                str(status): _response(told, schemas, {}) for status, told in COMMON.items()
            },
            "schemas": schemas.known,
        },
    }
    return json.dumps(described, ensure_ascii=False, default=vars).encode()


class Untitled(GenerateJsonSchema):
    """pydantic's schemas without what says nothing: fields' names as titles, and defaults."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Never."""
        return False

    def default_schema(self, schema: Any) -> dict[str, Any]:
        """Return the schema of the field alone."""
        return self.generate_inner(schema["schema"])


class Schemas:
    """The schemas that the document has named so far, by name."""

    def __init__(self) -> None:
        self.known: dict[str, Any] = {}

    def of(self, model: type) -> dict[str, Any]:
        """Return a reference to the schema of a body's model, or of an answer's shape."""
        if model.__name__ not in self.known:
            schema = TypeAdapter(model).json_schema(
                mode="validation" if issubclass(model, BaseModel) else "serialization",
                ref_template=REFERENCE,
                schema_generator=Untitled,
            )
            self.known |= schema.pop("$defs", {}) | {model.__name__: schema}
        return {"$ref": REFERENCE.format(model=model.__name__)}

    def of_errors(self, name: str, fields: Iterable[str]) -> dict[str, Any]:
        """Return a reference to the schema of what is said of wrong fields."""
        whys = {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1}
        wrong = {"type": "object", "properties": dict.fromkeys(fields, whys), "minProperties": 1}
        self.known[name] = wrong
        return {"$ref": REFERENCE.format(model=name)}

    def of_example(self, example: Any, unshaped: dict[str, Any]) -> dict[str, Any]:
        """Return the schema of an answer by its example: `unshaped` if it is of no shape.

        A status in it is the one that this answer always has.
        """
        if isinstance(example, list):
            return {"type": "array", "items": self.of(type(example[0]))}
        if not isinstance(example, Shape):
            return {"type": "string"} if isinstance(example, str) else unshaped
        shape = self.of(type(example))
        if not hasattr(example, "status"):
            return shape
        return {"allOf": [shape], "properties": {"status": {"const": example.status}}}


def _operation(route: Route, schemas: Schemas) -> dict[str, Any]:
    name = route.answering.__name__
    title = name.title().replace("_", "")
    summary, _, description = str(inspect.getdoc(route.answering)).partition("\n\n")
    parameters = PARAMETERS.get(name, {})
    operation: dict[str, Any] = {
        "operationId": title[0].lower() + title[1:],
        "tags": [route.tag],
        "summary": summary.replace("\n", " ").removesuffix("."),
        "description": description,
        "parameters": [{"name": name, "in": "query"} | rest for name, rest in parameters.items()],
    }
    if route.path == OPEN_TO_ALL:
        operation["security"] = []
    if route.body:
        body = {"schema": schemas.of(route.body), "examples": _named(BODIES[name])}
        forms = dict.fromkeys(FORMS, {"schema": body["schema"]})
        content = {"application/json": body} | forms
        operation["requestBody"] = {"required": True, "content": content}
    fields = route.body.model_fields if route.body else parameters
    unshaped = schemas.of_errors(f"{title}Errors", fields) if fields else {"type": "object"}
    responses = {status: {"$ref": f"#/components/responses/{status}"} for status in _common(route)}
    for status, told in ANSWERS[name].items():
        responses[status] = _response(told, schemas, unshaped)
    operation["responses"] = {str(status): responses[status] for status in sorted(responses)}
    return operation


def _common(route: Route) -> Iterator[int]:
    """Yield the statuses of `COMMON` that a route may answer."""
    yield 500
    if route.path != OPEN_TO_ALL:
        yield 401
    if route.tag != "service":  # these answer without the database, too
        yield 503
    if route.body:
        yield from (409, 413, 415)


def _response(told: Told, schemas: Schemas, unshaped: dict[str, Any]) -> dict[str, Any]:
    kinds = [schemas.of_example(example, unshaped) for example in told.examples.values()]
    different = [kind for at, kind in enumerate(kinds) if kind not in kinds[:at]]
    schema = different[0] if len(different) == 1 else {"anyOf": different}
    media_type = "text/plain" if schema == {"type": "string"} else "application/json"
    content = {media_type: {"schema": schema, "examples": _named(told.examples)}}
    return {"description": told.meaning, "headers": told.headers, "content": content}


def _named(examples: Mapping[str, Any]) -> dict[str, Any]:
    return {name: {"value": example} for name, example in examples.items()}
