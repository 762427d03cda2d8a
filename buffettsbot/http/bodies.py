"""What clients send: a JSON object or a form that makes a model, or a 4xx that says what is wrong.

A model's fields are what its route needs. What is wrong is told by the name of the field, of all
fields at once: of types in the original's sentences, of what only the core knows in the core's.
"""

import json
from collections.abc import Callable
from io import BytesIO
from typing import Annotated, Any, TypeVar

from bottle import HTTPError, request
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
)
from pydantic_core import PydanticCustomError

from buffettsbot.core.errors import Invalid
from buffettsbot.core.members.users import (
    LONGEST_NAME,
    parse_chat_id,
    parse_display_name,
    parse_username,
)
from buffettsbot.http import shapes
from buffettsbot.http.answers import answer, refuse

LARGEST_BODY = 64 * 1024
MOST_DIGITS = 18
TOO_LARGE = "The body is larger than 64 KiB."
NO_JSON = "The body is not valid JSON."
NO_FORM = "The body is not a valid form."
NOT_CALLED_JSON = "Send JSON, with the header Content-Type: application/json."
FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")

# By the type of pydantic's error; what the core says comes with the error.
SENTENCES = {
    "missing": "This field is required.",
    "null": "This field may not be null.",
    "blank": "This field may not be blank.",
    "string_type": "Not a valid string.",
    "no_integer": "A valid integer is required.",
    "too_large": "This number is too large.",
}


# Values


def _whole_number(value: object) -> int:
    digits = str(value) if isinstance(value, int) else value
    if not isinstance(digits, str) or not digits.isascii() or not digits.isdecimal():
        raise PydanticCustomError("no_integer", "no integer")
    if len(digits) > MOST_DIGITS:
        raise PydanticCustomError("too_large", "too large")
    return int(digits)


def _not_blank(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("blank", "blank")
    return text


def _by_the_core(parse: Callable[[Any], object]) -> AfterValidator:
    """Parse as the core does; what it says of a value is told, and also when that is blank."""

    def parsed(value: Any) -> object:
        try:
            return parse(value)
        except Invalid as error:
            kind = "core" if str(value).strip() else "blank"
            raise PydanticCustomError(kind, "{core}", {"core": str(error)}) from None

    return AfterValidator(parsed)


Digits = Annotated[str, Field(pattern="^[0-9]{1,16}$")]
WholeNumber = Annotated[
    int, BeforeValidator(_whole_number, json_schema_input_type=shapes.ChatId | Digits)
]
ChatId = Annotated[WholeNumber, _by_the_core(parse_chat_id)]
Username = Annotated[str, _by_the_core(parse_username)]
DisplayName = Annotated[
    str, _by_the_core(parse_display_name), Field(json_schema_extra={"maxLength": LONGEST_NAME})
]
Text = Annotated[str, AfterValidator(_not_blank)]


# Models


class Body(BaseModel):
    """What is sent. Fields unknown here are ignored; the words below a field describe it."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class NewUser(Body):
    """A person, as Telegram tells of them."""

    chat_id: ChatId
    """The Telegram user's id, as a number or as its digits."""
    telegram_username: Username | None
    """In any case; a leading `@` and quotes around it are taken off. Null when they have none."""
    first_name: DisplayName | None = None
    last_name: DisplayName | None = None


class Customer(Body):
    """Who is meant: by chat id, or else by name."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [{"required": ["chat_id"]}, {"required": ["telegram_username"]}]
        }
    )

    chat_id: WholeNumber | None = None
    """The Telegram user's id, as a number or as its digits. Counts before the name."""
    telegram_username: str = Field("", validate_default=True, examples=["ann", "@ann"])
    """In any case; a leading `@` and quotes around it are taken off."""

    @field_validator("telegram_username", mode="wrap")
    @classmethod
    def _needed_without_a_chat_id(
        cls, name: object, as_text: ValidatorFunctionWrapHandler, info: ValidationInfo
    ) -> str:
        if info.data.get("chat_id") is None:
            return _not_blank(as_text(name))
        return "" if name is None else as_text(name)

    @property
    def person(self) -> int | str:
        """The chat id, or else the name."""
        return self.telegram_username if self.chat_id is None else self.chat_id


class NewClaim(Customer):
    """A payment that somebody says is theirs, and what it is to buy."""

    plan: Text = Field(examples=["1 month"])
    """The period to buy, as `GET /api/v1/plans/` names it; `12 months` or `3months` are understood
    too."""
    transaction_hash: Text
    """64 hex digits in any case, or any text that holds them once, such as a link: send on what the
    customer wrote."""


class JoinRequest(Body):
    """Somebody who asks to join the group."""

    chat_id: ChatId
    """The `from.id` of Telegram's `chat_join_request`, as a number or as its digits."""


# Reading

Model = TypeVar("Model", bound=Body)


def read(model: type[Model]) -> Model:
    """Return the request's JSON object, or form, as a model.

    Raises (as a response) 413, 415 or 400 when there is neither to speak of, and the 400 that names
    every field that is wrong.
    """
    body = _fields()
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise answer(400, _wrong_fields(body, error)) from None


def _wrong_fields(body: dict[str, Any], error: ValidationError) -> dict[str, list[str]]:
    """Return the sentences by field: first where types are wrong, then what the core says."""
    wrong: dict[str, list[str]] = {}
    for each in sorted(error.errors(), key=lambda each: each["type"] == "core"):
        name, kind = str(each["loc"][0]), each["type"]
        if name not in body:
            kind = "missing"
        elif body[name] is None:
            kind = "null"
        sentences = [SENTENCES.get(kind), each.get("ctx", {}).get("core")]
        wrong[name] = [sentence for sentence in sentences if sentence]
    return wrong


def _fields() -> dict[str, Any]:
    if request.content_length > LARGEST_BODY:
        raise refuse(413, TOO_LARGE)
    kind = request.content_type.partition(";")[0].strip().lower()
    if kind not in FORMS and kind != "application/json" and not kind.endswith("+json"):
        raise refuse(415, NOT_CALLED_JSON)
    raw = request.environ["wsgi.input"].read(LARGEST_BODY + 1)
    if len(raw) > LARGEST_BODY:
        raise refuse(413, TOO_LARGE)
    return _form(raw) if kind in FORMS else _object(raw)


def _form(raw: bytes) -> dict[str, Any]:
    request.environ |= {"wsgi.input": BytesIO(raw), "CONTENT_LENGTH": str(len(raw))}
    try:
        fields = list(request.POST.decode("utf-8").allitems())
    except (HTTPError, LookupError, ValueError):
        raise refuse(400, NO_FORM) from None
    if len(dict(fields)) < len(fields):
        raise refuse(400, "A field stands twice in the form.")
    return dict(fields)


def _object(raw: bytes) -> dict[str, Any]:
    try:
        body = json.loads(
            raw.decode("utf-8"), object_pairs_hook=_without_doubles, parse_constant=_no_constant
        )
    except _Doubled:
        raise refuse(400, "A field stands twice in the JSON object.") from None
    except (ValueError, RecursionError):
        raise refuse(400, NO_JSON) from None
    if not isinstance(body, dict):
        raise refuse(400, "The body must be a JSON object.")
    return body


class _Doubled(ValueError):
    """A field stands twice: which one counts?"""


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    body = dict(pairs)
    if len(body) < len(pairs):
        raise _Doubled
    return body


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
