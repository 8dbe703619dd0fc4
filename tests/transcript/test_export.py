"""Exports: the formats, and that the text reads the same in them."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.text.conversation import Conversation, FinishReason, Speaker, Turn, Utterance
from bilingual_chat.text.sanitize import outward
from bilingual_chat.transcript.export import FORMATS, export, to_html, to_jsonl, to_markdown
from bilingual_chat.transcript.loaded import Header, Loaded

HEADER = Header("id", "2025-08-02T10:15:00+09:00", "<sft>", "0.1.0")
HOSTILE = "<script>alert(1)</script> & \"q\" 'r' \x1b]0;x\x07 \u202e **b** # h\n- [x](javascript:1) `c`"
OPENING = (Utterance(Speaker.USER, "Hello"), Utterance(Speaker.SYSTEM, "Sure."))


def talk(*replies: str, finish: FinishReason = FinishReason.STOP) -> Loaded:
    return Loaded(
        HEADER, Conversation(OPENING, tuple(Turn("質問", reply, finish) for reply in replies)), pending_user="?"
    )


class Text(HTMLParser):
    """The text that a browser shows of each <p> and <pre>, and all tags."""

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


class Reading(HTMLParser):
    """Return the text that a page shows, with its structure written out: items, code spans, lines."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text = ""
        self.tags: list[str] = []
        self._numbers: list[int] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag in ("ul", "ol"):
            self._numbers.append(int(dict(attrs).get("start") or 1) if tag == "ol" else -1)
        if tag == "li":
            number = self._numbers[-1]
            self.text += f"\n{number}. " if number >= 0 else "\n- "
            self._numbers[-1] += number >= 0
        if tag == "code" and self.tags[-2:-1] != ["pre"]:
            self.text += "`"

    def handle_endtag(self, tag: str) -> None:
        if tag in ("p", "li", "pre"):
            self.text += "\n"
        if tag in ("ul", "ol"):
            self._numbers.pop()
        if tag == "code" and "pre" not in self.tags[-2:]:
            self.text += "`"

    def handle_data(self, data: str) -> None:
        self.text += data


def seen(text: str) -> str:
    """Return `text` without parts that a renderer may change: empty lines, fences, the sign of an item."""
    lines = [
        re.sub(r"^ *(?:[-*+]|(\d+)[.)]) (?=\S)", lambda m: f"{m[1]}. " if m[1] else "- ", line)
        for line in text.split("\n")
    ]
    return "\n".join(line for line in lines if line.strip() and not line.startswith("```"))


def read_reply(text: str) -> Reading:
    page = to_markdown(talk(text)).decode()
    written = page[page.rindex("**システム**") + len("**システム**") : page.rindex("**ユーザー**")]
    return Reading(MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(written))


MARKUP = st.text(st.sampled_from(list("ab漢 \n\t`*_#>-+=1.)[](){}<>|~&;!\\:@$\u3000\"'/")), max_size=30)


@given(MARKUP | st.text(max_size=20))
@example("- a\n- b\n\n1. c\n2) d")
@example("```py\ncode\n```")
@example("a\n===\nb\n---")
@example("<b>&amp;</b> http://x.y [a](b) ![c](d) \\* :skull:")
@example("    indented\n\ttab  two")
@example("07:26:56 `/help` snake_case __init__ 2*3*4")
@example("1. a\n1. b\n3. c")
@example("- a\n\n- b\n\n1. c\n\n2. d")
@settings(max_examples=300, deadline=None)
def test_markdown_renders_as_the_text_reads(text: str) -> None:
    """A renderer shows exactly the characters of the conversation."""
    shown = outward(text.replace("\r", "\n"))
    if shown.strip():
        assert seen(read_reply(text.replace("\r", "\n")).text) == seen(shown)


def test_markdown_keeps_lists_and_code_and_escapes_no_more_than_it_must() -> None:
    text = (
        "At 07:26:56, see `/help`:\n- one\n- two\n  - three\n\n1. a\n2. b\n```py\nx  =  *1*\n```\nsnake_case; (done)."
    )
    page = to_markdown(talk(text)).decode()
    assert "At 07:26:56, see `/help`:\n\n- one\n- two\n  - three\n\n" in page
    assert "1. a\n2. b\n\n```py\nx  =  *1*\n```\n\nsnake_case; (done).\n" in page
    tags = read_reply(text).tags
    assert (tags.count("li"), tags.count("pre"), tags.count("ul"), tags.count("ol")) == (5, 1, 2, 1)


def test_html_and_links_in_a_reply_stay_text() -> None:
    """No markup, and no picture is fetched."""
    tags = read_reply("<script>x</script> ![a](http://b/c.png) [d](javascript:e) <http://f>\n# g\n> h\n| i | j |").tags
    assert {"script", "img", "a", "h1", "blockquote", "table"}.isdisjoint(tags)


def test_markdown_names_speakers_and_ends_that_were_cut() -> None:
    """Origin, labels, and the finish reason of a reply that was cut."""
    text = to_markdown(talk("答え", finish=FinishReason.INTERRUPTED)).decode()
    assert text.startswith("# 質問\n\n\\<sft> · 2025")
    assert "**システム** *(interrupted)*\n\n答え\n" in text
    assert text.index("Sure.") < text.index("答え") < text.index("?")


SETTINGS = {"temperature": 0.7, "top_p": 0.9, "seed": 3}


@pytest.mark.parametrize("write", [to_markdown, to_html])
def test_an_export_says_settings_seeds_and_times_with_their_zone(
    write: Callable[[Loaded], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        first = Turn("a", "b", FinishReason.STOP, {"settings": SETTINGS, "seed": 3, "model": "sft"})
        other = Turn("c", "d", FinishReason.LENGTH, {"settings": {**SETTINGS, "top_p": 1.0}, "seed": 4, "model": "sft"})
        header = replace(HEADER, created="2025-08-02T01:15:00+00:00")
        page = write(Loaded(header, Conversation((), (first, other)))).decode().replace("\\", "")
    finally:
        monkeypatch.undo()
        time.tzset()
    assert "2025-08-02 10:15:00 UTC+09:00 (JST)" in page
    assert "model=sft temperature=0.7 top_p=0.9" in page
    assert "(seed=3)" in page
    assert "(length; seed=4 top_p=1)" in page


@pytest.mark.parametrize("created", ["", "yesterday", "0001-01-01T00:00:00+00:00", "9999-12-31T23:59:59-12:00", "\x1b"])
def test_a_time_that_is_none_is_shown_as_it_stands(created: str) -> None:
    to_markdown(Loaded(replace(HEADER, created=created), Conversation()))


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_conversations_own_export_is_replaced_as_it_grows(tmp_path: Path, suffix: str) -> None:
    """Not one that was changed by hand, and not that of another conversation."""
    path = tmp_path / f"x{suffix}"
    export(path, talk("a"))
    export(path, talk("a", "b"))
    assert path.read_bytes() == FORMATS[suffix](talk("a", "b"))
    path.write_bytes(path.read_bytes().replace(b"Sure", b"sure"))
    for loaded in (talk("a", "b"), replace(talk("c"), header=replace(HEADER, id="other"))):
        with pytest.raises(BchatError) as raised:
            export(path, loaded)
        assert raised.value.key == "transcript.exists"


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
    """The text itself, byte for byte; a turn without a reply is left out."""
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
    path.write_bytes(b"by somebody")
    export(path, talk("a \ud800"), overwrite=True)
    path.write_bytes(before := path.read_bytes() + b" ")
    with pytest.raises(BchatError) as raised:
        export(path, talk("b"))
    assert raised.value.key == "transcript.exists"
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
    """No exception and no text are lost."""
    empty = Loaded(HEADER, Conversation())
    assert json.loads(to_jsonl(empty)) == {"messages": []}
    assert to_markdown(empty).startswith(b"# bchat\n")
    assert b"<h1>bchat</h1>" in to_html(empty)
