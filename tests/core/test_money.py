"""USDT as whole micro-USDT: exact in, exact out, and nothing else in between."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffettsbot.core.errors import Invalid
from buffettsbot.core.money import from_usdt, to_usdt


@pytest.mark.parametrize(
    ("text", "micro"),
    [
        ("0", 0),
        ("1", 1_000_000),
        ("50", 50_000_000),
        ("12.5", 12_500_000),
        ("0.000001", 1),
        ("12.500000", 12_500_000),
        ("999999999.999999", 999_999_999_999_999),
    ],
)
def test_decimal_usdt_becomes_micro_usdt(text: str, micro: int) -> None:
    assert from_usdt(text) == micro


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "x",
        "1,5",
        "1 000",
        "50 USDT",
        "$50",
        "0.0000001",
        "1.0000000000000000000000000000000001",
        "nan",
        "sNaN",
        "inf",
        "-Infinity",
        "1e1000000",
        "1e999999999999",
        "1e-999999",
        "1e999990",
        "9" * 40,
        "9" * 5000,
        "\ud800",
        "\0",
    ],
)
def test_anything_else_is_refused_with_a_short_sentence(text: str) -> None:
    started = time.monotonic()
    with pytest.raises(Invalid, match="not an amount of USDT") as caught:
        from_usdt(text)
    assert len(str(caught.value)) < 200
    assert time.monotonic() - started < 1


@pytest.mark.parametrize(
    ("micro", "text"),
    [
        (0, "0"),
        (1, "0.000001"),
        (12_500_000, "12.5"),
        (10_000_000, "10"),
        (100, "0.0001"),
        (-500_000, "-0.5"),
        (2**256 - 1, str((2**256 - 1) // 10**6) + f".{(2**256 - 1) % 10**6}"),
    ],
)
def test_micro_usdt_becomes_decimal_usdt_without_needless_zeros(micro: int, text: str) -> None:
    assert to_usdt(micro) == text


@given(st.integers(0, 2**63 - 1))
def test_there_and_back_is_exact(micro: int) -> None:
    assert from_usdt(to_usdt(micro)) == micro


@given(st.text())
def test_no_text_at_all_makes_it_crash(text: str) -> None:
    try:
        assert isinstance(from_usdt(text), int)
    except Invalid as error:
        assert str(error).endswith("decimals.")
