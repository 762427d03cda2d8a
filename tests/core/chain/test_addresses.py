"""TRON's notation: the addresses' vectors, and a hash in all its spellings."""

import time

import pytest
from helpers import hash_of
from hypothesis import given
from hypothesis import strategies as st

from buffettsbot.core.chain.tron.addresses import NETWORKS, encode_address, parse_address
from buffettsbot.core.errors import Invalid
from buffettsbot.core.hashes import hashes_in, parse_hash

HASH = "e046c2bb63fa65a4a3d94228fd8fd87e1fb0c2ffa3780ef722846c532c326b0a"

# The project's TRON facts, B.8 and B.2.
VECTORS = {
    "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t": "41a614f803b6fd780986a42c78ec9c7f77e6ded13c",
    "TLwLTBk5k9nVNM3FK6yP8bXWsu6aTczcag": "41784ec5627ac5c3f8de4117175db192c1b9e809c1",
    "TKJZwhq98wdYxpqxySYaTbwZkNp2vMtVhW": "416662845825e0dff4b36b876f18f0eef8ee8c47b5",
    "TNXoiAJ3dct8Fjg4M9fkLFh9S2v9TXc32G": "4189cbcb2372e1c2fbc00f24895a406a0c722c89f3",
    "TYPrKF2sevXuE86Xo3Y2mhFnjseiUcybny": "41f5fbe5e8725957174014dca1dc4fed54e970a2f8",
    "TTRmEA73gpoxK2KRmhL7GtcYLh88VefYss": "41bf7fdaa6d6282a1727485bf48c591f5a5a43efb9",
    "TXYZopYRdj2D9XRtbG411XZZ3kM5VkAeBf": "41eca9bc828a3005b9a3b909f2cc5c2a54794de05f",
    "TG3XXyExBkPp9nzdajDZsozEu4BkaSJozs": "4142a1e39aefa49290f2b3f9ed688d7cecf86cd6e0",
    "T9yD14Nj9j7xAB4dbGeiX9h8unkKHxuWwb": "41" + "0" * 40,
}


@pytest.mark.parametrize(("text", "digits"), VECTORS.items())
def test_an_address_means_the_same_in_base58_and_in_every_form_of_hex(
    text: str, digits: str
) -> None:
    for spelling in (text, digits, digits.upper(), "0x" + digits, digits[2:], "0x" + digits[2:]):
        assert parse_address(spelling) == text
    assert parse_address(f"  {text}\n") == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "T",
        "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6T",
        "tr7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t",
        "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6",
        "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6tt",
        "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6u",
        "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6\0",
        "ТR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t",
        "42a614f803b6fd780986a42c78ec9c7f77e6ded13c",
        "41 614f803b6fd780986a42c78ec9c7f77e6ded13c",
        "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa",
        "0xdAC17F958D2ee523a2206206994597C13D831ec",
        "' OR 1=1 --",
        "\ud800" * 34,
    ],
)
def test_what_is_no_address_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(Invalid, match="is not a TRON address"):
        parse_address(text)


@given(
    st.integers(0, 33), st.sampled_from("123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvw")
)
def test_one_wrong_letter_breaks_the_checksum(position: int, letter: str) -> None:
    good = "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t"
    wrong = good[:position] + letter + good[position + 1 :]
    if wrong != good:
        with pytest.raises(Invalid):
            parse_address(wrong)


@given(st.binary(min_size=20, max_size=20))
def test_every_twenty_bytes_survive_the_round_trip(twenty: bytes) -> None:
    text = encode_address(twenty)
    assert (len(text), text[0]) == (34, "T")
    assert parse_address(text) == parse_address("41" + twenty.hex()) == text


def test_a_network_names_valid_addresses_and_https_hosts() -> None:
    assert set(NETWORKS) == {"mainnet", "nile", "shasta"}
    for network in NETWORKS.values():
        assert parse_address(network.usdt_contract) == network.usdt_contract
        for url in (network.tronscan_url, network.trongrid_url, network.explorer_url):
            assert url.startswith("https://")


@pytest.mark.parametrize(
    "text",
    [
        HASH,
        HASH.upper(),
        HASH.title(),
        "0x" + HASH,
        "0X" + HASH.upper(),
        f"  {HASH}\r\n",
        f"https://tronscan.org/#/transaction/{HASH}",
        f"https://tronscan.org/#/transaction/0x{HASH.upper()}",
        f"https://tronscan.io/#/transaction/{HASH}?lang=ru",
        f"https://tronscan.org/#/transaction/{HASH}/",
        f"https://www.tronscan.org/#/transaction/{HASH}",
        f"http://tronscan.org/transaction/{HASH}",
        f"https://nile.tronscan.org/#/transaction/{HASH}",
        f"https://apilist.tronscan.org/api/transaction-info?hash={HASH}",
        f"https://www.oklink.com/trx/tx/{HASH}",
        f"https://www.google.com/url?q=https%3A%2F%2Ftronscan.org%2F%23%2Ftransaction%2F{HASH}&sa=D",
        f"Here is my transaction: {HASH}",
        f"TXID: {HASH}",
        f"hash={HASH}",
        f"Вот мой хеш:{HASH}, спасибо",
        f"{HASH}.",
        f"<{HASH}>",
        f"\u200b{HASH}\u200b",
        f"\ufeff{HASH}",
        f"\u2068{HASH}\u2069",
        f"TXID\u200b:\u200b{HASH}",
        f"{HASH[:32]}\u200b{HASH[32:]}",
        f"{HASH}\nhttps://tronscan.org/#/transaction/{HASH.upper()}",
        f"49 USDT to TKJZwhq98wdYxpqxySYaTbwZkNp2vMtVhW in block 61234567, {HASH}",
        f"Off-chain transfer 230000000001? No: {HASH}",
        f"{HASH}{'!' * 4000}",
        f"0x0x{HASH}",
        f"{HASH}\0",
    ],
)
def test_every_spelling_of_a_hash_is_the_same_hash(text: str) -> None:
    assert parse_hash(text) == HASH


@pytest.mark.parametrize("network", NETWORKS)
def test_the_explorers_own_link_of_every_network_is_understood(network: str) -> None:
    assert parse_hash(NETWORKS[network].explorer_url + HASH) == HASH


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        HASH[:63],
        HASH + "0",
        "0x" + HASH[:62],
        HASH[:63] + "g",
        HASH[:32] + " " + HASH[32:],
        HASH[:63] + "\0",
        HASH[:63] + "٣",
        "".join(chr(ord(c) + 0xFEE0) for c in HASH),
        "'; DROP TABLE payment; --",
        HASH[:60] + "'--;",
        "grant-7",
        f"https://tronscan.org/#/transaction/{HASH[:63]}",
        f"https://tronscan.org/#/transaction/{HASH}0",
        f"https://tronscan.org/#/transaction/0{HASH}",
        f"https://tronscan.org/#/transaction/a{HASH}",
        f"https://tronscan.org/#/transaction/{HASH}a",
        HASH + "\n" + hash_of(1),
        f"{HASH} or {hash_of(1)}?",
        f"TXID{HASH}",
        f"{HASH}{HASH}",
        f"{HASH}\u200b{HASH[:1]}{'!' * 5000}",
        "\ud800" * 64,
    ],
)
def test_what_is_no_hash_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(Invalid, match="not a transaction hash"):
        parse_hash(text)


@pytest.mark.parametrize(
    "unit", ["a", "0", "f" * 64, " ", "https://tronscan.org/", "a.", "#/", "\n", "T", "1"]
)
def test_ten_megabytes_are_refused_at_once(unit: str) -> None:
    text = unit * (10_000_000 // len(unit))
    started = time.monotonic()
    for parse in (parse_hash, parse_address):
        with pytest.raises(Invalid):
            parse(text)
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("unit", ["a", "a.", "#/", "=", "/a", "transaction/"])
def test_no_link_within_the_limit_takes_long_to_refuse(unit: str) -> None:
    for prefix in ("https://", "https://tronscan.org/"):
        started = time.monotonic()
        with pytest.raises(Invalid):
            parse_hash((prefix + unit * 4096)[:4096])
        assert time.monotonic() - started < 0.5


@pytest.mark.parametrize(
    "text",
    [
        "Off-chain transfer 230000000001",
        "off-chain transfer 230000000001",
        "  Offchain transfer 230000000001.",
        "TXID: Internal transfer 230000000001",
        "Off-chain transfer " + HASH[:63],
        "Off-chain transfer " + HASH[:63] + "!" * 9000,
    ],
)
def test_a_transfer_within_an_exchange_is_told_from_a_mistake(text: str) -> None:
    with pytest.raises(Invalid, match="Ask the exchange for a withdrawal"):
        parse_hash(text)


HEX = "0123456789abcdefABCDEF"
AROUND = st.text(max_size=80).filter(lambda text: len(text) < 64 or not hashes_in(text))
DIGITS = st.text(HEX, min_size=64, max_size=64)


@given(AROUND, DIGITS, AROUND)
def test_words_around_a_hash_do_not_matter(before: str, digits: str, after: str) -> None:
    text = f"{before}|{digits}|{after}"
    assert parse_hash(text) == digits.lower()


@given(AROUND, DIGITS, AROUND, DIGITS)
def test_of_two_hashes_none_is_chosen(before: str, one: str, between: str, other: str) -> None:
    text = f"{before}|{one}|{between}|{other}"
    if one.lower() == other.lower():
        assert parse_hash(text) == one.lower()
        return
    assert hashes_in(text) == [one.lower(), other.lower()]
    with pytest.raises(Invalid):
        parse_hash(text)


@given(st.text(HEX, max_size=200))
def test_hex_digits_alone_are_a_hash_when_there_are_64(digits: str) -> None:
    assert hashes_in(digits) == [digits.lower()] * (len(digits) == 64)


@given(st.text())
def test_no_text_at_all_makes_the_parsers_crash(text: str) -> None:
    for parse in (parse_hash, parse_address):
        try:
            parse(text)
        except Invalid as error:
            assert len(str(error)) < 400


def test_an_error_never_repeats_a_long_text() -> None:
    with pytest.raises(Invalid) as caught:
        parse_address("T" * 10_000)
    assert len(str(caught.value)) < 200


def test_two_hashes_stay_two() -> None:
    assert parse_hash(hash_of(1)) != parse_hash(hash_of(2))
