"""Encodings: text in another one is named, refused and never replaced; valid UTF-8 is never suspected."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.text import encodings

TEXTS = [
    "こんにちは",
    "日本語で話してください。",
    "東京特許許可局",
    "VR とは何ですか？",
    "Hello, 世界",
    "①番です\n二行目です\n",
]
CODECS = {
    "cp932": "Shift_JIS",
    "euc_jis_2004": "EUC-JP",
    "iso2022_jp_2004": "ISO-2022-JP",
    "utf-16-le": "UTF-16LE",
    "utf-16-be": "UTF-16BE",
    "utf-32-le": "UTF-32LE",
    "utf-32-be": "UTF-32BE",
}
# The older code tables lack these characters.
LACKS = {("①番です\n二行目です\n", "iso2022_jp_2004")}


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("text", TEXTS)
def test_text_in_another_encoding_is_named_with_an_option_that_reads_it(text: str, codec: str) -> None:
    if (text, codec) in LACKS:
        pytest.skip("iso2022_jp writes it with a table of its own")
    data = text.encode(codec)
    assert encodings.likely_encoding(data) == CODECS[codec]
    with pytest.raises(BchatError) as refused:
        encodings.decode(data)
    assert (refused.value.key, refused.value.status) == ("encoding.likely", ExitStatus.DATA)
    assert encodings.decode(data, str(refused.value.values["option"])) == text


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("text", TEXTS)
def test_a_byte_order_mark_decides(text: str, codec: str) -> None:
    assert encodings.decode(text.encode(codec)) == text
    assert encodings.decode(text.encode(codec), codec.removesuffix("-sig")) == text


@given(
    st.text(
        alphabet=st.characters(
            exclude_categories=["Cs", "Cc"], include_characters="\t\r\n", exclude_characters="\ufeff"
        )
    )
)
def test_valid_utf8_is_never_suspected(text: str) -> None:
    assert encodings.decode(text.encode()) == text
    assert encodings.likely_encoding(text.encode()) == ""
    assert encodings.decode_argument(text) == text


@given(st.binary(max_size=40))
def test_nothing_is_ever_replaced(data: bytes) -> None:
    """Everything accepted as UTF-8 is UTF-8, byte for byte."""
    if data.startswith(tuple(bom for bom, _ in encodings._BOMS)):
        return
    try:
        text = encodings.decode(data)
    except BchatError:
        return
    assert text.encode() == data.removeprefix(b"\xef\xbb\xbf")


@pytest.mark.parametrize(
    "data", [b"a\0b", b"abc\0", b"\0" * 8, b"\x1b[0m", b"\x1b$x", b"\xe9t\xe9 [", "こんにちは".encode()[:-1], b"\xff"]
)
def test_no_encoding_is_guessed_without_a_sign_of_one(data: bytes) -> None:
    assert encodings.likely_encoding(data) == ""


def test_half_a_character_is_refused_and_not_dropped() -> None:
    for data, encoding in [("こんにちは".encode()[:-1], None), ("こんにちは".encode("cp932")[:-1], "shift_jis")]:
        with pytest.raises(BchatError) as refused:
            encodings.decode(data, encoding)
        assert refused.value.key in ("encoding.not-utf8", "encoding.not-that")


def test_a_wrong_encoding_garbles_nothing() -> None:
    """Shift_JIS can read most of UTF-8, as mojibake."""
    text = "これはペンです。"
    assert "縺薙ｌ" in text.encode().decode("cp932", "replace")
    for encoding in ("shift_jis", "euc-jp", "utf-16", "utf-16-le", "utf-16-be"):
        with pytest.raises(BchatError) as refused:
            encodings.decode((text + "あ" * (len(text) % 2)).encode(), encoding)
        assert refused.value.key == "encoding.not-that"


@pytest.mark.parametrize("name", ["", "zzz", "rot13", "hex", "idna", "a\0b", "../x", "x" * 10_000])
def test_an_encoding_that_is_not_one_is_refused(name: str) -> None:
    with pytest.raises(BchatError) as refused:
        encodings.find_codec(name)
    assert (refused.value.key, refused.value.status) == ("encoding.unknown", ExitStatus.USAGE)


@pytest.mark.parametrize("name", ["Shift_JIS", "SJIS", "cp932", "Windows-31J", "EUC-JP", "utf8", "UTF-16LE", "latin-1"])
def test_the_usual_names_are_known(name: str) -> None:
    assert encodings.decode(b"H\0e\0l\0l\0o\0" if "16" in name else b"Hello", name) == "Hello"


def test_a_word_of_the_command_line_keeps_its_bytes() -> None:
    word = "こんにちは".encode("cp932").decode("utf-8", "surrogateescape")
    with pytest.raises(BchatError) as refused:
        encodings.decode_argument(word)
    assert refused.value.values["name"] == "Shift_JIS"
    assert encodings.decode_argument(word, "sjis") == "こんにちは"
    assert encodings.decode_argument("こんにちは", "sjis") == "こんにちは"
