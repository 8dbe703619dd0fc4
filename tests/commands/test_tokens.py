"""/probs and /tokens show the tokens of a reply and of a text, with what the record says of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilingual_chat.commands.app import App, Page
from bilingual_chat.commands.table import execute
from bilingual_chat.commands.tokens import Character, group_bytes
from bilingual_chat.engines.protocol import Chunk
from bilingual_chat.messages.errors import BchatError
from tests.scripted import Script, ScriptedEngine, Shown, drain, make_app, make_session, tokenizer

REPLY = "猫は鱻cat"


class ProbableEngine(ScriptedEngine):
    """Each token has these probabilities: 50 %, and four others of 10 %, of which top_k removed the last two."""

    def complete(self, *arguments: Any, **named: Any) -> Any:
        for chunk in super().complete(*arguments, **named):
            others = [each for each in (300, 301, 302, 303, 304) if each != chunk.token_id][:4]
            top = ((chunk.token_id, -0.693), *((each, -2.303) for each in others))
            kept = ((chunk.token_id, -0.5), (others[0], -1.5), (others[1], -1.5))
            removed = ((others[2], "top_k"), (others[3], "top_k"))
            yield Chunk(chunk.token_id, -0.5, 0, chunk.finish, -0.693, 1.5, 1, top, kept, removed)


@pytest.fixture
def app(tmp_path: Path) -> tuple[App, Shown]:
    session, _ = make_session(tmp_path, engine=ProbableEngine([Script(REPLY), Script(REPLY)]))
    app, shown = make_app(session, tmp_path)
    drain(session.reply("?"))
    return app, shown


def test_off_a_terminal_every_token_is_a_row(app: tuple[App, Shown]) -> None:
    """Under the unmodified distribution and after the filters, labelled; the bytes of a character name it."""
    chat, shown = app
    chat.reader.has_editor = False
    execute("/probs", chat)
    head, *rows = shown.rows
    assert head[3:5] == ("unmodified", "after the filters")
    ids = [*tokenizer().encode(REPLY), tokenizer().eos_id]
    assert [row[2] for row in rows] == list(map(str, ids))
    assert all(row[3:] == ("50 %", "60.7 %", "1", "1.5") for row in rows)
    rare = [row[1] for row in rows if "鱻" in row[1]]
    assert rare == [f'<0x{byte:02X}> of "鱻"' for byte in "鱻".encode()]


def test_one_token_has_its_five_alternatives_and_the_filter_that_removed_each(app: tuple[App, Shown]) -> None:
    chat, shown = app
    chat.reader.has_editor = False
    execute("/probs １", chat)
    _, taken, *others = shown.rows
    assert taken[0] == "* 1"
    assert taken[3:] == ("50 %", "60.7 %")
    assert [row[4] for row in others] == ["22.3 %", "22.3 %", "removed by top_k", "removed by top_k"]
    assert [row[3] for row in others] == ["10 %"] * 4
    assert shown.said[-1].values["number"] == 1


def test_on_a_terminal_each_token_is_a_page(app: tuple[App, Shown]) -> None:
    """The text with the token marked; without colour the tenths of its probability stand behind unlikely ones."""
    chat, shown = app
    execute("/probs 3", chat)
    pages: list[Page] = chat.reader.pages  # type: ignore[attr-defined]
    assert len(pages) == len(tokenizer().encode(REPLY)) + 1
    for page in pages:
        here = [text for style, text in page.text if "here" in style]
        assert len(here) == 1
        assert here[0].endswith("[5]")
        assert len(page.rows) == 6
    assert "".join(text for _, text in pages[0].text).replace("[5]", "") == f"{REPLY}■"
    shown.has_color = True
    execute("/probs", chat)
    text = chat.reader.pages[0].text  # type: ignore[attr-defined]
    assert "".join(part for _, part in text) == f"{REPLY}■"
    assert {style.split()[0] for style, part in text if part} == {"shade-1"}


def test_what_cannot_be_shown_is_said(app: tuple[App, Shown], tmp_path: Path) -> None:
    chat, _ = app
    for line, key in (("/probs 99", "probs.number"), ("/probs x", "probs.number"), ("/probs 0", "probs.number")):
        with pytest.raises(BchatError) as caught:
            execute(line, chat)
        assert caught.value.key == key
        assert caught.value.sentence("ja")
    for engine, key in ((ScriptedEngine(["はい"]), "probs.unknown"), (None, "session.nothing-to-undo")):
        session, _ = make_session(tmp_path, engine=engine)
        other, _ = make_app(session, tmp_path)
        if engine:
            drain(session.reply("?"))
        with pytest.raises(BchatError) as caught:
            execute("/probs", other)
        assert caught.value.key == key


def test_what_a_server_does_not_tell_is_left_open(tmp_path: Path) -> None:
    """Its chunks have no entropy, no probability after the filters, and no distribution for the end."""

    class Served(ScriptedEngine):
        def complete(self, *arguments: Any, **named: Any) -> Any:
            for chunk in super().complete(*arguments, **named):
                known = {"raw_logprob": -0.1, "rank": 1, "top": ((chunk.token_id, -0.1), (300, -3.0))}
                yield Chunk(chunk.token_id, None, 0, chunk.finish, **({} if chunk.finish else known))

    session, _ = make_session(tmp_path, engine=Served(["猫"]))
    app, shown = make_app(session, tmp_path)
    drain(session.reply("?"))
    execute("/probs 1", app)
    page: Page = app.reader.pages[0]  # type: ignore[attr-defined]
    assert [row[3:] for row in page.rows[1:]] == [("90.5 %", ""), ("4.98 %", "")]
    assert "entropy ?" in page.heading
    assert "rank ?" in app.reader.pages[-1].heading  # type: ignore[attr-defined]
    app.reader.has_editor = False
    execute("/probs", app)
    assert shown.rows[-1][3:] == ("", "", "?", "?")


def test_a_text_is_shown_as_its_tokens(app: tuple[App, Shown]) -> None:
    chat, shown = app
    execute('/tokens "猫 鱻"', chat)
    ids = tokenizer().encode("猫 鱻")
    head, *rows = shown.rows
    assert head[2:] == ("id", "bytes")
    assert [row[2] for row in rows] == list(map(str, ids))
    assert bytes.fromhex("".join(row[3] for row in rows)) == "猫 鱻".encode()
    assert shown.said[-1].values == {"tokens": len(ids)}


PIECES = st.lists(
    st.sampled_from(["猫", "a", "", b"\xe9", b"\xb1", b"\xbb", b"\xe9\xb1\xbb", b"\xff", b"a", b"\xf0\x9f"])
)


@given(PIECES)
def test_each_token_is_in_one_group_and_the_groups_spell_the_text(pieces: list[str | bytes]) -> None:
    groups = group_bytes(pieces)
    assert [index for each in groups for index in range(each.start, each.end)] == list(range(len(pieces)))
    for each in groups:
        data = b"".join(piece.encode() if isinstance(piece, str) else piece for piece in pieces[each.start : each.end])
        assert each.text == data.decode(errors="ignore") or "<0x" in each.text
        assert each.end - each.start == 1 or all(isinstance(pieces[at], bytes) for at in range(each.start, each.end))


def test_the_bytes_of_one_character_are_one_group() -> None:
    assert group_bytes([b"\xe9", b"\xb1", b"\xbb", "a", b"\xf0"]) == (
        Character(0, 3, "鱻"),
        Character(3, 4, "a"),
        Character(4, 5, "<0xF0>"),
    )
