"""Exports: the formats, and that the text reads the same in them."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from bilingual_chat.conversation import Conversation, FinishReason, Speaker, Turn, Utterance
from bilingual_chat.errors import BchatError, ExitStatus
from bilingual_chat.transcript import Header, Loaded
from bilingual_chat.transcript.export import FORMATS, export, to_html, to_jsonl, to_markdown
from bilingual_chat.untrusted import outward

HEADER = Header("id", "2025-08-02T10:15:00+09:00", "<sft>", "0.1.0")
HOSTILE = "<script>alert(1)</script> & \"q\" 'r' \x1b]0;x\x07 \u202e **b** # h\n- [x](javascript:1) `c`"
OPENING = (Utterance(Speaker.USER, "Hello"), Utterance(Speaker.SYSTEM, "Sure."))


def talk(*replies: str, finish: FinishReason = FinishReason.STOP) -> Loaded:
    return Loaded(
        HEADER, Conversation(OPENING, tuple(Turn("質問", reply, finish) for reply in replies)), pending_user="?"
    )


class Text(HTMLParser):
    """What a browser would show of each <p> and <pre>, and every tag there is."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.blocks: list[str] = []
        self.tags: list[str] = []
        self._inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag in ("p", "pre"):
            self._inside = True
            self.blocks.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag not in ("p", "pre")

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.blocks[-1] += data


def rendered(markdown: str) -> Text:
    return Text(MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(markdown))


def reply_in(page: Text) -> str:
    """The text between the last reply's label and the words after it."""
    labels = [number for number, block in enumerate(page.blocks) if block in ("システム", "ユーザー")]
    *_, begin, end = labels
    blocks = page.blocks[begin + 1 : end]
    return blocks[0].removesuffix("\n") if page.tags.count("pre") else "\n\n".join(blocks)


MARKUP = st.text(st.sampled_from(list("ab漢 \n\t`*_#>-+=1.)[](){}<>|~&;!\\:@$\u3000\"'/")), max_size=30)


@given(MARKUP | st.text(max_size=20))
@example("- a\n- b\n\n1. c\n2) d")
@example("```py\ncode\n```")
@example("a\n===\nb\n---")
@example("<b>&amp;</b> http://x.y [a](b) ![c](d) \\* :skull:")
@example("    indented\n\ttab  two")
@settings(max_examples=150, deadline=None)
def test_markdown_renders_as_the_text_reads(text: str) -> None:
    """A renderer shows the very characters that were said, whatever they look like."""
    shown = outward(text.replace("\r", "\n"))
    if not shown.strip() or shown in ("システム", "ユーザー"):
        return
    page = rendered(to_markdown(talk(text.replace("\r", "\n"))).decode())
    assert reply_in(page) == shown


def test_markdown_names_speakers_and_ends_that_were_cut() -> None:
    """Origin, labels, the reason of an end that was not the model's."""
    text = to_markdown(talk("答え", finish=FinishReason.INTERRUPTED)).decode()
    assert text.startswith("# 質問\n\n\\<sft\\> · 2025")
    assert "**システム** *(interrupted)*\n\n答え\n" in text
    assert text.index("Sure.") < text.index("答え") < text.index("?")


def test_html_shows_the_text_and_runs_nothing() -> None:
    """Everything is escaped, nothing is fetched, languages are marked for screen readers and fonts."""
    page = to_html(talk(HOSTILE, "日本語")).decode()
    parsed = Text(page)
    assert {"script", "a", "b", "img", "code"}.isdisjoint(parsed.tags)
    assert outward(HOSTILE) in parsed.blocks
    assert "\x1b" not in page
    assert '<html lang="ja">' in page
    assert '<p lang="ja" dir="auto">日本語</p>' in page
    assert '<p lang="en" dir="auto">Sure.</p>' in page
    assert "&lt;sft&gt;" in page
    assert "default-src 'none'" in page


def test_jsonl_is_one_object_in_the_fields_shape() -> None:
    """The text itself, byte for byte; a turn without a reply teaches nothing."""
    data = to_jsonl(talk(HOSTILE, "", "漢字\u2028"))
    assert data.count(b"\n") == 1
    assert "漢字" in data.decode()
    assert json.loads(data) == {
        "messages": [
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "Sure."},
            {"role": "user", "content": "質問"},
            {"role": "assistant", "content": HOSTILE},
            {"role": "user", "content": "質問"},
            {"role": "assistant", "content": "漢字\u2028"},
        ]
    }


@pytest.mark.parametrize("suffix", FORMATS)
def test_an_export_never_replaces_a_file_without_asking(tmp_path: Path, suffix: str) -> None:
    """An export may have been edited since; lone surrogates do not stop it."""
    path = tmp_path / f"x{suffix.upper()}"
    export(path, talk("a \ud800"))
    before = path.read_bytes()
    with pytest.raises(BchatError) as raised:
        export(path, talk("b"))
    assert raised.value.key == "transcript.not-ours"
    assert path.read_bytes() == before
    export(path, talk("b"), overwrite=True)
    assert path.read_bytes() == FORMATS[suffix](talk("b"))
    assert path.stat().st_mode & 0o777 == 0o600


def test_another_suffix_is_a_usage_error_that_names_those_there_are(tmp_path: Path) -> None:
    """Nothing is written."""
    for name in ("x.htm", "x", ".md"):
        with pytest.raises(BchatError) as raised:
            export(tmp_path / name, talk("a"))
        assert (raised.value.key, raised.value.status) == ("transcript.suffix", ExitStatus.USAGE)
        assert ".md, .html, .jsonl" in raised.value.sentence("ja")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_conversation_exports_too() -> None:
    """No exception, no words."""
    empty = Loaded(HEADER, Conversation())
    assert json.loads(to_jsonl(empty)) == {"messages": []}
    assert to_markdown(empty).startswith(b"# bchat\n")
    assert b"<h1>bchat</h1>" in to_html(empty)
