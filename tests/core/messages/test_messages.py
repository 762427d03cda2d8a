"""Messages: every text that people receive, whatever their names, and an owner's own versions."""

import json
import os
import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from helpers import clean_env
from hypothesis import given, settings
from hypothesis import strategies as st

from buffettsbot.core.chain.judge import Reason
from buffettsbot.core.errors import Invalid
from buffettsbot.core.messages import markup, owners
from buffettsbot.core.messages import template as template_module
from buffettsbot.core.messages import values as values_module
from buffettsbot.core.messages.kinds import FIELDS, NAMES, NEEDED, sample
from buffettsbot.core.messages.owners import check
from buffettsbot.core.messages.render import Message, render
from buffettsbot.core.messages.words import LANGUAGES, TEXTS, Style, shipped_words
from buffettsbot.http.sandbox import running_sandbox
from buffettsbot.http.sandbox.telegram import text as telegram

EXPLORER = "https://tronscan.org/#/transaction/"
BERLIN = ZoneInfo("Europe/Berlin")
STYLE = Style("en", BERLIN, "The Value Club", "@help", EXPLORER)

HOSTILE = [
    "<b>Ann</b>",
    "</b></a>",
    '"><a href="https://evil.example">',
    "&lt;&amp;&#60;",
    "${support} $name {0} %s",
    "👨\u200d👩\u200d👧\u200d👦🏳️\u200d🌈",
    "שלום \u202eevil\u202c",
    "𝔘" * 64,
    "\U0001f600" * 64,
    "\ud800lone\udfff",
    "a\nb\x00c\u2028d",
    "\u0301" * 64,
    "   ",
    "",
]

kinds = pytest.mark.parametrize("kind", NAMES)
languages = pytest.mark.parametrize("language", LANGUAGES)
hostile = pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))


def limit(kind: str) -> int:
    return 1024 if kind == "reminder" else 4096


def shown(message: Message) -> str:
    """What a reader sees, by the sandbox's parser, which is not the one under test."""
    assert message.text == message.text.encode().decode()  # no lone surrogate
    return telegram.plain_html(message.text)


def fine(kind: str, message: Message) -> str:
    seen = shown(message)
    assert seen.strip() == seen
    assert 0 < telegram.utf16_length(seen) <= limit(kind)
    assert (message.picture is not None) == (kind == "reminder")
    assert "${" not in message.text or "${support}" in message.text  # a name may look like one
    return seen


def own(directory: Path, name: str, text: str | bytes) -> Style:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return replace(STYLE, directory=directory)


# --- the texts that come with the program


@kinds
@languages
@pytest.mark.parametrize("again", [False, True])
def test_every_message_renders(kind: str, language: str, again: bool) -> None:
    style = replace(STYLE, language=language)
    message = render(kind, sample(kind), style, again=again)
    seen = fine(kind, message)
    assert message.warnings == ()
    assert seen.endswith(shipped_words(language).word("again")) == again


@kinds
@languages
def test_every_message_is_in_its_language(kind: str, language: str) -> None:
    seen = fine(kind, render(kind, sample(kind), replace(STYLE, language=language)))
    assert bool(re.search("[а-яё]", seen)) == (language == "ru")


@kinds
@languages
def test_an_empty_payload_still_says_something(kind: str, language: str) -> None:
    style = Style(language, BERLIN, "", None, EXPLORER)
    fine(kind, render(kind, {}, style))
    fine(kind, render(kind, dict.fromkeys(sample(kind)), style))


@kinds
@languages
@hostile
def test_any_name_is_shown_as_it_is(kind: str, language: str, name: str) -> None:
    people = [{"chat_id": 7, "telegram_username": name, "error": name}]
    payload = sample(kind) | {"first_name": name, "last_name": name, "error": name}
    style = Style(language, BERLIN, name, name, EXPLORER)
    seen = fine(kind, render(kind, payload | {"people": people}, style))
    if kind == "admin-add" and name.isprintable() and name.strip():
        assert f"{name} {name}" in seen


@kinds
@pytest.mark.parametrize("name", HOSTILE[:3])
def test_no_name_makes_a_link_or_a_tag(kind: str, name: str) -> None:
    calm = render(kind, sample(kind) | {"first_name": "Ann", "last_name": None}, STYLE)
    wild = render(kind, sample(kind) | {"first_name": name, "last_name": None}, STYLE)
    assert re.findall("<[^>]*>", wild.text) == re.findall("<[^>]*>", calm.text)


def test_right_to_left_letters_do_not_reorder_the_line() -> None:
    text = render("admin-add", sample("admin-add") | {"first_name": "שלום"}, STYLE).text
    assert "\u2068שלום\u2069" in text
    text = render("admin-add", sample("admin-add") | {"first_name": "x\u202ey"}, STYLE).text
    assert "\u202e" not in text


_text = st.text(st.characters(), max_size=400) | st.text("𝔘&<\"'\u0301\u200d", max_size=9000)
_scalar = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | _text
_anything = st.recursive(_scalar, lambda inner: st.lists(inner, max_size=4), max_leaves=6)
_person = st.dictionaries(
    st.sampled_from(["chat_id", "telegram_username", "error"]), _anything, max_size=3
)
_payload = st.dictionaries(
    st.sampled_from(sorted({key for name in NAMES for key in sample(name)} | {"invite_link"})),
    _anything,
) | st.fixed_dictionaries(
    {
        "people": st.lists(_person, max_size=40),
        "by_days": st.dictionaries(_text | st.integers(0, 400).map(str), _anything),
    }
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(NAMES), st.sampled_from(LANGUAGES), _payload, _text, st.booleans())
def test_the_limits_hold_for_any_payload(
    kind: str, language: str, payload: dict[str, Any], name: str, again: bool
) -> None:
    style = Style(language, BERLIN, name, name, EXPLORER)
    fine(kind, render(kind, sample(kind) | payload, style, again=again))


@kinds
@languages
def test_the_longest_values_fit(kind: str, language: str) -> None:
    template = (TEXTS / language / f"{kind}.html").read_text("utf-8")
    for values in owners._extremes(kind):
        template_module.fill(kind, template, values, "\n\n" + "x" * 100)


@given(st.text(max_size=300), st.integers(1, 200))
def test_shortening_keeps_characters_whole(text: str, units: int) -> None:
    short = markup.shorten(text, units)
    assert telegram.utf16_length(short) == markup.utf16_length(short) <= units
    assert short == text or (short.endswith("…") and text.startswith(short[:-1]))


@languages
@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_a_sentence(language: str, reason: Reason) -> None:
    sentence = shipped_words(language).reason(reason)
    assert sentence.endswith(".")
    assert bool(re.search("[а-яё]", sentence)) == (language == "ru")
    payload = sample("payment-refused") | {"reason": str(reason)}
    style = replace(STYLE, language=language)
    for kind in ("payment-refused", "payment-pending"):
        assert sentence in shown(render(kind, payload, style))


SLUGS = {str(reason) for reason in Reason}
WORDS_OF_SLUGS = {word for slug in SLUGS for word in slug.split("-")} - {"usdt"}


@pytest.mark.parametrize("kind", NAMES)
def test_no_person_reads_a_slug(kind: str) -> None:
    payload = sample(kind) | ({"error": "…"} if kind == "pass-failed" else {})
    for reason in Reason if "reason" in FIELDS[kind] else [Reason.ACCEPTED]:
        for language in LANGUAGES:
            style = replace(STYLE, language=language, community="наше")
            text = render(kind, payload | {"reason": str(reason)}, style).text
            read = re.sub(r"<code>.*?</code>|<[^>]*>", "", text).lower()
            assert not [slug for slug in SLUGS if "-" in slug and slug in read]
            assert "underpaid" not in read
            if language == "ru":
                assert not WORDS_OF_SLUGS & set(re.findall("[a-z]+", read))


@languages
def test_the_samples_agree_on_who_invites_and_removes(language: str) -> None:
    for has_group in (True, False):
        texts = [
            shown(
                render(kind, sample(kind, has_group=has_group), replace(STYLE, language=language))
            )
            for kind in ("admin-add", "admin-delete")
        ]
        nothing = "there is nothing to do" if language == "en" else "делать ничего не нужно"
        assert [nothing in text for text in texts] == [has_group] * 2
        welcome = render("welcome", sample("welcome", has_group=has_group), STYLE)
        assert ("Join the group" in welcome.text) == has_group


@languages
def test_the_reminders_digest_names_people(language: str) -> None:
    style = replace(STYLE, language=language)
    end = "2027-01-31T09:30:00+00:00"
    people = [
        {"chat_id": n, "telegram_username": None, "first_name": f"Ann{n}", "end_date": end}
        for n in range(25)
    ]
    payload = {"told": 25, "by_days": {"7": 25}, "people": people[:20]}
    seen = shown(render("digest-remind", payload, style))
    assert "Ann19" in seen
    assert seen.count("Ann") == seen.count("2027, 10:30 (Europe/Berlin)") == 20
    assert ("… and 5 more" if language == "en" else "… и ещё 5") in seen
    all_named = shown(render("digest-remind", payload | {"told": 20}, style))
    assert "…" not in all_named
    longest = [one | {"first_name": "x" * 128, "last_name": "y" * 128} for one in people[:20]]
    assert shown(render("digest-remind", payload | {"people": longest}, style)).count("•") == 21
    of_an_older_release = {"told": 25, "by_days": {"7": 25}}
    assert "•" in shown(render("digest-remind", of_an_older_release, style))


@languages
def test_a_refused_customer_hears_what_arrived(language: str) -> None:
    text = shown(
        render("payment-refused", sample("payment-refused"), replace(STYLE, language=language))
    )
    assert "139 USDT" in text
    assert "140 USDT" in text
    old = sample("payment-refused") | {"amount": None}  # queued by an older release
    assert "139" not in shown(render("payment-refused", old, replace(STYLE, language=language)))


def test_both_languages_have_the_same_words_and_values() -> None:
    english, russian = (shipped_words(language).sections for language in LANGUAGES)
    assert {s: set(w) for s, w in english.items()} == {s: set(w) for s, w in russian.items()}
    assert set(english["reasons"]) == set(Reason)
    for kind in NAMES:
        placeholders = [
            sorted(
                template_module._PLACEHOLDER.findall(
                    (TEXTS / one / f"{kind}.html").read_text("utf-8")
                )
            )
            for one in LANGUAGES
        ]
        assert placeholders[0] == placeholders[1], kind
        assert {name for _, name in placeholders[0]} <= set(FIELDS[kind])


def test_no_shipped_file_is_without_a_message() -> None:
    for language in LANGUAGES:
        files = {path.name for path in (TEXTS / language).iterdir()}
        assert files == {f"{kind}.html" for kind in NAMES} | {"words.ini"}


# --- what they say


def test_the_exact_end_is_named_in_the_zone() -> None:
    payload = sample("reminder") | {"end_date": "2026-12-31T23:30:00+00:00"}
    assert "1 January 2027, 00:30 (Europe/Berlin)" in shown(render("reminder", payload, STYLE))
    russian = replace(STYLE, language="ru")
    assert "1 января 2027, 00:30 (Europe/Berlin)" in shown(render("reminder", payload, russian))


@pytest.mark.parametrize(
    ("language", "days", "words"),
    [
        ("en", 1, "less than 1 day to go"),
        ("en", 7, "less than 7 days to go"),
        ("ru", 1, "меньше 1 дня"),
        ("ru", 3, "меньше 3 дней"),
        ("ru", 11, "меньше 11 дней"),
        ("ru", 21, "меньше 21 дня"),
    ],
)
def test_days_are_counted_in_the_language(language: str, days: int, words: str) -> None:
    style = replace(STYLE, language=language)
    assert words in shown(render("reminder", sample("reminder") | {"days": days}, style))


def test_welcome_with_and_without_an_invitation() -> None:
    link = "https://t.me/+AbC"
    invited = render("welcome", sample("welcome") | {"invite_link": link}, STYLE)
    assert f'<a href="{link}">' in invited.text
    assert "admin" not in shown(invited)
    alone = render("welcome", sample("welcome") | {"invite_link": None}, STYLE)
    assert "An admin will add you" in shown(alone)
    assert "href" not in alone.text


@pytest.mark.parametrize("by_itself", [True, 1])  # SQLite's JSON says 1
def test_admins_hear_whether_the_program_acts(by_itself: object) -> None:
    payload = sample("admin-delete")
    assert "removes them by itself" in shown(
        render("admin-delete", payload | {"by_itself": by_itself}, STYLE)
    )
    for no in (False, 0, None):
        assert "please remove" in shown(render("admin-delete", payload | {"by_itself": no}, STYLE))


@pytest.mark.parametrize(
    ("kind", "sign"), [("admin-add", "🟢"), ("admin-keep", "🟡"), ("admin-delete", "🔴")]
)
def test_admin_notices_carry_everything(kind: str, sign: str) -> None:
    message = render(kind, sample(kind), STYLE)
    seen = shown(message)
    assert seen.startswith(sign)
    facts = ("Ann Example", "@ann_x", "987654321", "3 months", "140 USDT", "2 November", "31 Jan")
    assert all(fact in seen for fact in facts)
    assert f'href="{EXPLORER}{sample(kind)["transaction_hash"]}"' in message.text


def test_a_grant_has_no_link_and_no_price() -> None:
    payload = sample("admin-delete") | {
        "transaction_hash": "grant-7-1",
        "plan": None,
        "price": None,
    }
    message = render("admin-delete", payload, STYLE)
    assert "tronscan" not in message.text
    assert "Plan" not in message.text
    assert "USDT" not in message.text


def test_a_digest_names_the_first_and_counts_the_rest() -> None:
    people = [{"chat_id": n, "telegram_username": None, "error": "e" * 999} for n in range(500)]
    seen = shown(render("digest-deliver", {"failed": 500, "people": people[:20]}, STYLE))
    assert seen.count("•") == values_module.MOST_PEOPLE
    assert f"others: {500 - values_module.MOST_PEOPLE}" in seen


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(Invalid, match="no message 'nope'"):
        render("nope", {}, STYLE)


# --- pictures


@pytest.mark.parametrize(
    ("days", "picture"), [(1, 1), (2, 3), (3, 3), (4, 7), (7, 7), (14, 7), (None, 7), ("3", 3)]
)
def test_the_picture_follows_closeness(days: object, picture: int) -> None:
    message = render("reminder", sample("reminder") | {"days": days}, STYLE)
    assert message.picture == owners.PICTURES / f"reminder-{picture}.png"


@pytest.mark.parametrize("days", owners.CLOSENESS)
def test_shipped_pictures_are_what_telegram_takes(days: int) -> None:
    path = owners.PICTURES / f"reminder-{days}.png"
    owners._check_picture(path)
    assert path.stat().st_size < 150_000


def png(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", width, height) + b"\x08\2\0\0\0"


def test_an_owner_has_pictures_of_their_own(tmp_path: Path) -> None:
    style = own(tmp_path, "reminder-14.png", png(800, 600))
    own(tmp_path, "en/reminder-3.jpg", b"\xff\xd8\xff\xe0" + b"x" * 40)
    assert check(style) == []
    for days, name in ((14, "reminder-14.png"), (3, "en/reminder-3.jpg"), (2, "en/reminder-3.jpg")):
        message = render("reminder", sample("reminder") | {"days": days}, style)
        assert message.picture == tmp_path / name
        assert message.warnings == ()


@pytest.mark.parametrize(
    "data", [b"", b"GIF89a", png(0, 5), png(9000, 9000), png(4000, 10), png(5, 5)[:20]]
)
def test_a_broken_picture_is_not_sent(tmp_path: Path, data: bytes) -> None:
    style = own(tmp_path, "reminder-7.png", data)
    message = render("reminder", sample("reminder") | {"days": 7}, style)
    assert message.picture == owners.PICTURES / "reminder-7.png"
    assert "reminder-7.png" in message.warnings[0]
    assert [finding.path.name for finding in check(style)] == ["reminder-7.png"]


# --- an owner's own texts


@pytest.mark.parametrize("name", ["welcome.html", "en/welcome.html"])
def test_an_owners_text_is_used(tmp_path: Path, name: str) -> None:
    text = "\ufeffCiao <b>${name}</b>, only $5 {&} more!\r\n\r\n\r\n${invite_link}\r\n"
    style = own(tmp_path, name, text)
    message = render("welcome", sample("welcome"), style)
    link = sample("welcome")["invite_link"]
    assert message.text == f"Ciao <b>Ann</b>, only $5 {{&}} more!\n\n{link}"
    assert message.warnings == ()
    assert check(style) == []
    russian = render("welcome", sample("welcome"), replace(style, language="ru"))
    assert russian.text.startswith("Ciao") == (name == "welcome.html")


@pytest.mark.parametrize("kind", NEEDED)
def test_a_text_that_lacks_what_it_is_for_is_found(tmp_path: Path, kind: str) -> None:
    needed = [" ".join(f"${{{name}}}" for name in choices) for choices in NEEDED[kind]]
    for missing in range(len(needed)):
        rest = needed[:missing] + needed[missing + 1 :]
        flags = "".join(f"${{?{name}}}" for name in NEEDED[kind][missing])
        style = own(tmp_path, f"{kind}.html", f"Hello {flags}\n{' '.join(rest)}")
        (finding,) = check(style)
        assert all(f"${{{name}}}" in finding.problem for name in NEEDED[kind][missing])
        message = render(kind, sample(kind), style)
        assert (message.text.startswith("Hello"), message.warnings) == (True, ())
    for choice in range(max(map(len, NEEDED[kind]))):
        one_each = [choices[min(choice, len(choices) - 1)] for choices in NEEDED[kind]]
        values = " ".join(f"${{{name}}}" for name in one_each)
        assert check(own(tmp_path, f"{kind}.html", f"Hello\n{values}")) == []
    assert {name for choices in NEEDED[kind] for name in choices} <= set(FIELDS[kind])


def test_a_link_is_not_missed_where_nobody_is_invited(tmp_path: Path) -> None:
    style = own(tmp_path, "welcome.html", "Hello ${name}, we add you by hand.")
    assert check(replace(style, has_group=False)) == []
    (finding,) = check(style)
    assert finding.problem == "It lacks ${invite_link}, which this message is for."


def test_every_value_is_documented_with_its_example() -> None:
    page = (Path(__file__).parents[3] / "docs" / "settings.md").read_text("utf-8")
    rows = re.findall(r"^\| `\$\{(\w+)\}` \| (.+?) \| .+? \|$", page, re.MULTILINE)
    documented = {name: example.strip("`") for name, example in rows}
    style = replace(STYLE, community="The Value Club", support="@help")
    examples = dict[str, set[str]]()
    for kind in NAMES:
        values = values_module.values_of(kind, sample(kind), style, shipped_words("en"))
        for name, value in values.items():
            examples.setdefault(name, {""}).add(value.split("\n")[0])
    assert sorted(documented) == sorted(examples)
    for name, example in documented.items():
        assert example in examples[name] or examples[name] == {""}, name
    needed = re.findall(r"^\| `([a-z-]+)` \| (.+) \|$", page, re.MULTILINE)
    assert {kind: re.findall(r"\w+(?=\})", values) for kind, values in needed} == {
        kind: [name for choices in every for name in choices] for kind, every in NEEDED.items()
    }


def test_the_text_of_the_language_comes_first(tmp_path: Path) -> None:
    own(tmp_path, "welcome.html", "general")
    style = own(tmp_path, "en/welcome.html", "special")
    assert render("welcome", sample("welcome"), style).text == "special"


BROKEN: dict[str, str | bytes] = {
    "empty": "",
    "blank": " \n\t\n",
    "unknown value": "Hello ${nmae}",
    "value of another message": "${reason}",
    "value without braces": "Hello $name",
    "value misspelt": "Hello ${Name}",
    "value unfinished": "Hello ${name",
    "value of another language": "Hi {first_name}",
    "value of a template engine": "Hi {{ name }}",
    "value of the original": "Hi %(name)s",
    "unclosed": "<b>Hello",
    "unopened": "Hello</b>",
    "crossed": "<b><i>Hello</b></i>",
    "unsupported": "<h1>Hello</h1>",
    "line break tag": "Hello<br>there",
    "span": '<span style="color:red">Hello</span>',
    "emoji": "<tg-emoji>👍</tg-emoji>",
    "bare bracket": "1 < 2",
    "unfinished tag": "Hello <a href=",
    "tag over a vanishing line": "<b>Hello ${name}\nthere</b>",
    "only tags": "<b></b>",
    "not UTF-8": "Привет".encode("cp1251"),
    "too long": "x" * 4097,
    "far too long": "x" * 100_000,
    "too long in UTF-16": "\U0001f600" * 2049,
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("place", ["", "en/"])
def test_a_broken_text_is_never_silence(tmp_path: Path, name: str, place: str) -> None:
    style = own(tmp_path, f"{place}welcome.html", BROKEN[name])
    message = render("welcome", sample("welcome"), style)
    assert message.text == render("welcome", sample("welcome"), STYLE).text
    (warning,) = message.warnings
    assert "welcome.html" in warning
    assert "shipped text" in warning
    (finding,) = check(style)
    assert finding.path == tmp_path / f"{place}welcome.html"


def test_a_caption_is_shorter_than_a_text(tmp_path: Path) -> None:
    style = own(tmp_path, "reminder.html", "x" * 1025)
    own(tmp_path, "reminder-details.html", "x" * 1025)
    assert [finding.path.name for finding in check(style)] == ["reminder.html"]
    assert len(render("reminder", sample("reminder"), style).warnings) == 1
    assert render("reminder-details", sample("reminder-details"), style).text == "x" * 1025


def test_what_only_fits_short_names_is_found(tmp_path: Path) -> None:
    style = own(tmp_path, "reminder.html", "x" * 900 + "${name}")
    assert render("reminder", sample("reminder"), style).warnings == ()
    assert len(check(style)) == 1
    long = render("reminder", sample("reminder") | {"first_name": "𝔘" * 64}, style)
    assert len(long.warnings) == 1
    assert "Value Club" in long.text


def test_a_text_that_vanishes_with_its_values_is_replaced(tmp_path: Path) -> None:
    style = own(tmp_path, "welcome.html", "${invite_link}")
    assert render("welcome", sample("welcome"), style).warnings == ()
    message = render("welcome", sample("welcome") | {"invite_link": None}, style)
    assert len(message.warnings) == 1
    assert "Welcome" in message.text
    assert len(check(style)) == 1


def test_an_unreadable_text_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "welcome.html").mkdir()
    (tmp_path / "renewal.html").symlink_to("renewal.html")
    os.mkfifo(tmp_path / "expired.html")
    style = replace(STYLE, directory=tmp_path)
    assert {f.path.name for f in check(style)} == {"welcome.html", "renewal.html", "expired.html"}
    for kind in ("welcome", "renewal", "expired"):
        assert "${" not in render(kind, sample(kind), style).text


def test_a_missing_directory_is_warned_of(tmp_path: Path) -> None:
    style = replace(STYLE, directory=tmp_path / "nowhere")
    for kind in ("welcome", "reminder"):
        message = render(kind, sample(kind), style)
        assert message.text == render(kind, sample(kind), STYLE).text
        assert len(message.warnings) == 1
    assert "no such directory" in check(style)[0].problem


def test_stray_files_are_found(tmp_path: Path) -> None:
    style = own(tmp_path, "welcom.html", "Hello")
    own(tmp_path, "welcome.txt", "Hello")
    own(tmp_path, "fr/welcome.html", "Salut")
    own(tmp_path, ".welcome.html.swp", "x")
    own(tmp_path, "ru/welcome.html", "Привет\n${invite_link}")
    assert [f.path.name for f in check(style)] == ["fr", "welcom.html", "welcome.txt"]


def test_an_owner_changes_some_words(tmp_path: Path) -> None:
    style = own(tmp_path, "en/words.ini", "[reasons]\nunderpaid = Too little, <sorry>.\n")
    assert check(style) == []
    message = render("payment-refused", sample("payment-refused"), style)
    assert "Too little, <sorry>." in shown(message)
    assert message.warnings == ()


@pytest.mark.parametrize(
    "text",
    [
        "underpaid = x",
        "[reasons]\nunderpaid =\n",
        "[reasons]\nnope = x\n",
        "[nope]\nx = y\n",
        "[words]\nmonths = one two\n",
        "[words]\ndate = {nope}\n",
        "[words]\ndate = {day\n",
        "[words]\nless-than = {0}\n",
        "[words]\narrived = {price} of {nope}\n",
        "[words]\nday = day\n",
        "[words]\nagain = a\nagain = b\n",
        "\xff".encode("latin-1"),
    ],
)
def test_broken_words_are_replaced(tmp_path: Path, text: str | bytes) -> None:
    style = own(tmp_path, "words.ini", text)
    message = render("payment-refused", sample("payment-refused"), style)
    assert message.text == render("payment-refused", sample("payment-refused"), STYLE).text
    assert len(message.warnings) == 1
    assert len(check(style)) == 1


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(["<b>", "</b>", "<a href='x'>", "</a>", "<", ">", "&lt;", "&#x41;"])
                | st.text(max_size=4)))  # fmt: skip
def test_what_passes_here_passes_at_telegram(pieces: list[str]) -> None:
    source = "".join(pieces)
    try:
        seen = markup.plain(source)
    except Invalid:
        return
    assert telegram.plain_html(source) == seen


# --- at Telegram


@pytest.fixture(scope="module")
def bot() -> Iterator[httpx.Client]:
    with running_sandbox() as url, httpx.Client(base_url=f"{url}/bot1:x/") as client:
        yield client


def send(bot: httpx.Client, message: Message) -> dict[str, Any]:
    if message.picture is None:
        data = {"chat_id": "7", "text": message.text, "parse_mode": "HTML"}
        answer = bot.post("sendMessage", data=data)
    else:
        data = {"chat_id": "7", "caption": message.text, "parse_mode": "HTML"}
        files = {"photo": message.picture.read_bytes()}
        answer = bot.post("sendPhoto", data=data, files=files)
    told: dict[str, Any] = answer.json()
    return told


@kinds
@languages
def test_telegram_takes_every_message(bot: httpx.Client, kind: str, language: str) -> None:
    for name in ["Ann", *HOSTILE]:
        style = Style(language, BERLIN, name, name, EXPLORER)
        payload = sample(kind) | {"first_name": name, "last_name": name}
        answer = send(bot, render(kind, payload, style, again=True))
        assert answer["ok"], (name, answer)


# --- the command line


def run(*words: str, **chosen: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "buffettsbot", "messages", *words],
        env=clean_env("sqlite:////nowhere/at/all.db", **chosen)
        | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
    )


@languages
def test_preview_shows_every_message(language: str) -> None:
    done = run("preview", "--json", language=language, support="@help")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert [row["name"] for row in rows] == list(NAMES)
    assert {row["language"] for row in rows} == {language}
    people = run("preview", "--language", language, support="@help")
    assert people.returncode == 0
    for row in rows:
        assert f"── {row['name']} ──" in people.stdout
        assert shown(Message(row["text"])).splitlines()[0] in people.stdout
    assert "<b>" not in people.stdout


def test_preview_of_one_and_of_none() -> None:
    done = run("preview", "welcome")
    assert "Welcome!" in done.stdout
    assert "Renewed" not in done.stdout
    nope = run("preview", "nope")
    assert nope.returncode == 4
    assert "no message 'nope'" in nope.stderr
    assert nope.stdout == ""
    assert run("preview", "--language", "fr").returncode == 2


def test_preview_warns_of_what_is_broken(tmp_path: Path) -> None:
    own(tmp_path, "welcome.html", "<b>Hello")
    done = run("preview", "welcome", messages_dir=tmp_path)
    assert done.returncode == 0
    assert "Welcome!" in done.stdout
    assert "never closed" in done.stderr


def test_check_finds_what_is_broken(tmp_path: Path) -> None:
    own(tmp_path, "renewal.html", "Thank you, ${name}!")
    fine = run("check", messages_dir=tmp_path)
    assert (fine.returncode, fine.stdout) == (0, "")
    own(tmp_path, "welcome.html", "<b>Hello")
    broken = run("check", "--json", messages_dir=tmp_path)
    assert broken.returncode == 4
    (finding,) = json.loads(broken.stdout)
    assert finding["path"] == str(tmp_path / "welcome.html")
    assert "never closed" in finding["problem"]
    people = run("check", messages_dir=tmp_path)
    assert people.returncode == 4
    assert "never closed" in people.stdout
    assert run("check", messages_dir=tmp_path / "nowhere").returncode == 4
    nothing = run("check", "--json")
    assert (nothing.returncode, json.loads(nothing.stdout)) == (0, [])
