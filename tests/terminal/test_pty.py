"""Whole chats on a real terminal: keys, screen, and the terminal's modes afterwards."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import pytest

from bilingual_chat.messages import TABLE
from tests.pseudo_terminal import (
    CTRL_C,
    CTRL_D,
    ENTER,
    PATIENCE_S,
    Terminal,
    at_prompt,
    begin,
    in_a_shell,
    is_loaded,
    process_id,
    turns,
    was_put_back,
)
from tests.runs import real, scripted

pytestmark = pytest.mark.slow  # whole sessions on a terminal

pexpect = pytest.importorskip("pexpect")


def test_a_chat_from_the_banner_to_the_end(home: Path, tmp_path: Path) -> None:
    """Message, reply with line breaks of the screen, command, Ctrl-D."""
    terminal = begin(replies=["Hello. How are you today?", "はい、日本語でも話せます。"], columns=24, noting=tmp_path)
    assert "demo model" in terminal.text
    terminal.ask("Hi", "Hello. How are you\ntoday?\n")
    terminal.ask("日本語は？", "はい、日本語でも話せま\nす。")
    terminal.ask("／ｕｎｄｏ", "Undone: 日本語は？")
    assert terminal.quit() == 0
    assert was_put_back(tmp_path)
    assert turns(home) == [("Hi", "Hello. How are you today?", "stop")]


def test_a_retry_that_is_stopped_leaves_the_reply_and_undo_does_too(home: Path) -> None:
    terminal = begin(replies=["Hello.", "One two three four five six seven.", "Good-bye."], step_s=0.4)
    terminal.ask("Hi", "Hello.\n")
    terminal.type("/retry" + ENTER)
    terminal.wait_for("One")
    terminal.type(CTRL_C)
    terminal.wait_for("(stopped; the earlier reply stays, /replies lists all)")
    terminal.wait_for(at_prompt)
    terminal.ask("/undo", "(back to reply 1 of 2")
    assert terminal.quit() == 0
    assert turns(home) == [("Hi", "Hello.", "stop")]


@pytest.mark.parametrize("arguments", [(), ("ask", "Hello?")], ids=["chat", "ask"])
def test_how_far_a_long_prompt_is_read_shows_until_the_reply_begins(home: Path, arguments: tuple[str, ...]) -> None:
    script = {"replies": ["Yes.", "No."], "passes": 4, "step_s": 0.5}
    terminal = Terminal(scripted(*arguments, **script)) if arguments else begin(**script)
    if not arguments:
        terminal.type("Hello?" + ENTER)
    for percent in (20, 40, 60, 80):  # as it came: on a busy machine one may be gone before anybody looks
        terminal.wait_for_raw(f"(the model is reading the conversation, {percent} %)".encode())
    terminal.wait_for("Yes.")
    assert "reads" not in terminal.text
    if arguments:
        assert terminal.leave() == 0
        return
    terminal.wait_for(at_prompt)
    terminal.type("Again?" + ENTER)
    terminal.wait_for("Again?\n(the model is reading the conversation")
    terminal.type(CTRL_C)
    terminal.wait_for("(stopped)")
    terminal.wait_for(at_prompt)
    assert "reads" not in terminal.text
    assert terminal.quit() == 0
    assert turns(home) == [("Hello?", "Yes.", "stop"), ("Again?", "", "interrupted")]


def test_typed_text_is_prefilled_and_the_toolbar_shows_it(home: Path, tmp_path: Path) -> None:
    """Keys are typed while the model loads; afterwards none."""

    def until_heard(words: str) -> None:
        until = time.monotonic() + PATIENCE_S
        while not (heard.exists() and words in heard.read_text(encoding="utf-8")):
            assert time.monotonic() < until
            terminal.listen()

    heard = tmp_path / "heard"
    terminal = begin(replies=["Yes."], heard=str(heard), load_s=1)
    terminal.type("What is the Japanese word for cat?")
    until_heard("What is the Japanese word")
    terminal.type(ENTER)
    terminal.wait_for("Yes.")
    terminal.wait_for(at_prompt)
    terminal.type("And what is the one for dog?")
    until_heard("And what is the one")
    terminal.wait_for("prefilling")
    terminal.wait_for(lambda text: "reading" not in text)
    terminal.type(CTRL_C + CTRL_D)
    assert terminal.leave() == 0
    assert [user for user, _, _ in turns(home)] == ["What is the Japanese word for cat?"]


def test_hostile_replies_do_not_act(home: Path) -> None:
    hostile = "\x1b]0;evil\x07\x1b[2Jabc\rxyz\u202e[red]\x9b31m"
    terminal = begin(replies=[hostile])
    terminal.ask("Hi", "␛]0;evil␇␛[2Jabc␍xyz‹U+202E›[red]‹U+009B›31m")
    assert b"\x1b]" not in terminal.raw
    assert b"\x1b[2J" not in terminal.raw
    terminal.type("/exit" + ENTER)
    assert terminal.leave() == 0
    assert turns(home) == [("Hi", hostile, "stop")]


@pytest.mark.slow
def test_an_old_message_cannot_act_in_the_line(tmp_path: Path) -> None:
    """/edit of a conversation from another author."""
    file = tmp_path / "evil.json"
    file.write_text(
        '[{"speaker": "ユーザー", "text": "x\\u001b]0;evil\\u0007\\u202ey"}, {"speaker": "システム", "text": "b"}]'
    )
    terminal = begin("--load", str(file))
    terminal.type("/edit" + ENTER)
    terminal.wait_for("> x␛]0;evil␇‹U+202E›y")
    assert b"\x1b]" not in terminal.raw
    assert "\u202e" not in terminal.raw.decode()
    terminal.type(CTRL_C)
    terminal.wait_for(at_prompt)
    assert terminal.quit() == 0


def test_keys_typed_during_a_reply_wait_for_the_next_line(home: Path) -> None:
    """They do not mix with it, and Return among them stays Return."""
    terminal = begin(replies=["one two three four five six seven eight", "Second."], step_s=0.05)
    terminal.type("Hi" + ENTER)
    terminal.wait_for("one two")
    terminal.type("typed early" + ENTER)
    terminal.wait_for("one two three four five six seven eight\n")
    terminal.wait_for("Second.")
    assert terminal.text.count("typed early") == 1
    terminal.wait_for(at_prompt)
    assert terminal.quit() == 0
    assert [user for user, _, _ in turns(home)] == ["Hi", "typed early"]


def test_ctrl_c_stops_a_reply_clears_a_line_and_twice_leaves(home: Path, tmp_path: Path) -> None:
    terminal = begin(noting=tmp_path, replies=["one two three four five " * 20], step_s=0.05)
    terminal.type("Hi" + ENTER)
    terminal.wait_for("one two")
    terminal.type(CTRL_C)
    terminal.wait_for("(stopped)")
    terminal.wait_for(at_prompt)
    assert "^C" not in terminal.text
    terminal.type("some words")
    terminal.wait_for("> some words")
    terminal.type(CTRL_C)
    terminal.wait_for(at_prompt)
    terminal.type(CTRL_C)
    terminal.wait_for(TABLE["chat.how-to-leave"].en)
    terminal.wait_for(at_prompt)
    terminal.type(CTRL_C)
    assert terminal.leave() == 130
    assert was_put_back(tmp_path)
    ((_, reply, finish),) = turns(home)
    assert finish == "interrupted"
    assert reply.startswith("one two")


@pytest.mark.slow
def test_a_resize_in_mid_reply_loses_nothing() -> None:
    words = " ".join(f"word{number}" for number in range(30))
    terminal = begin(replies=[words], step_s=0.01, columns=40)
    terminal.type("Hi" + ENTER)
    terminal.wait_for("word5")
    terminal.child.setwinsize(40, 60)
    terminal.screen.resize(columns=60)
    terminal.wait_for("word29")
    terminal.wait_for(at_prompt)
    assert "".join(words.split()) in "".join(terminal.text.split())
    assert terminal.quit() == 0


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("SIGTERM", "prompt"),
        ("SIGHUP", "reply"),
        pytest.param("SIGHUP", "prompt", marks=pytest.mark.slow),
        pytest.param("SIGTERM", "reply", marks=pytest.mark.slow),
    ],
)
def test_a_signal_closes_the_transcript_and_puts_the_terminal_back(
    name: str, place: str, home: Path, tmp_path: Path
) -> None:
    terminal = begin(noting=tmp_path, replies=["one two three four five " * 20], step_s=0.05)
    terminal.type("Hi" + ENTER)
    terminal.wait_for("one two")
    if place == "prompt":
        terminal.type(CTRL_C)
        terminal.wait_for("(stopped)")
        terminal.wait_for(at_prompt)
    number = getattr(signal, name)
    os.kill(process_id(tmp_path), number)
    assert terminal.leave() == 128 + number
    assert was_put_back(tmp_path)
    assert [finish for _, _, finish in turns(home)] == ["interrupted"]
    assert "Traceback" not in terminal.text


@pytest.mark.parametrize("place", ["prompt", pytest.param("reply", marks=pytest.mark.slow)])
def test_a_terminal_that_is_closed_leaves_a_whole_transcript(place: str, home: Path) -> None:
    """Not only SIGHUP: afterwards every read and write fails."""
    terminal = begin(replies=["one two three four five " * 20], step_s=0.05)
    terminal.type("Hi" + ENTER)
    terminal.wait_for("one two")
    if place == "prompt":
        terminal.type(CTRL_C)
        terminal.wait_for("(stopped)")
        terminal.wait_for(at_prompt)
    status = terminal.close()
    assert status == 129
    assert [finish for _, _, finish in turns(home)] == ["interrupted"]
    assert not list((home / ".local/state/bchat").glob("*.log"))


def test_a_message_sent_while_the_model_loads_waits_its_turn(home: Path) -> None:
    terminal = begin(replies=["Here I am."], load_s=0.5)
    terminal.wait_for("loading …")
    terminal.type("Hi" + ENTER)
    terminal.wait_for(TABLE["chat.waiting"].en)
    terminal.wait_for("Here I am.")
    terminal.wait_for(at_prompt)
    terminal.wait_for(is_loaded)
    assert terminal.quit() == 0
    assert len(turns(home)) == 1


@pytest.mark.slow
def test_the_toolbar_sees_that_the_model_is_there() -> None:
    """Automatically, without a key."""
    terminal = begin(load_s=0.3)
    terminal.wait_for(is_loaded)
    assert terminal.quit() == 0


def test_ctrl_c_while_the_model_loads_returns_to_the_prompt(home: Path, tmp_path: Path) -> None:
    terminal = begin(noting=tmp_path, load_s=3, replies=["Here I am."])
    terminal.type("Hi" + ENTER)
    terminal.wait_for(TABLE["chat.waiting"].en)
    terminal.type(CTRL_C)
    terminal.wait_for(TABLE["chat.stopped-unanswered"].en)
    terminal.wait_for(at_prompt)
    terminal.ask("/retry", "Here I am.")
    assert terminal.quit() == 0
    assert was_put_back(tmp_path)
    assert turns(home) == [("Hi", "Here I am.", "stop")]


@pytest.mark.slow
def test_a_model_that_does_not_load_is_reported_and_the_prompt_returns() -> None:
    terminal = begin(load_error="/models/broken")
    terminal.wait_for("not loaded")
    terminal.ask("Hi", "The model in /models/broken is incomplete")
    assert terminal.text.count("/models/broken") == 1
    assert terminal.quit() == 0


def test_something_unforeseen_leaves_the_terminal_whole(home: Path, tmp_path: Path) -> None:
    terminal = begin(noting=tmp_path, replies=[None])
    terminal.type("Hi" + ENTER)
    terminal.wait_for("Unexpected error (RuntimeError)")
    assert terminal.leave() == 1
    assert "Traceback" not in terminal.text
    assert was_put_back(tmp_path)
    assert [finish for _, _, finish in turns(home)] == ["failed"]


def test_a_dumb_terminal_is_a_plain_reader(home: Path) -> None:
    """Banner, prompt and Ctrl-C as on other terminals, and no cursor movement."""
    terminal = Terminal(scripted(replies=["one two three four five " * 20, "Hello."], step_s=0.05), TERM="dumb")
    terminal.wait_for(at_prompt)
    assert "demo model" in terminal.text
    terminal.type("Hi\n")
    terminal.wait_for("one two")
    terminal.type(CTRL_C)
    terminal.wait_for("(stopped)\n>")
    terminal.type("half a line")
    terminal.wait_for("> half a line")
    terminal.type(CTRL_C)
    terminal.wait_for("> half a line^C\n>")
    terminal.type(CTRL_C)
    terminal.wait_for("\n> ^C\n>")
    terminal.type("again\n")
    terminal.wait_for("> again\nHello.\n>")
    terminal.type("/edit\n")
    terminal.wait_for("> /edit\nThe next line replaces your last message.\nagain\n>")
    assert terminal.quit() == 0
    assert b"\x1b" not in terminal.raw
    ((_, part, finish), second) = turns(home)
    assert (part[:7], finish) == ("one two", "interrupted")
    assert second == ("again", "Hello.", "stop")


@pytest.mark.slow
def test_leaving_while_torch_is_being_imported_is_no_crash(tmp_path: Path) -> None:
    """Python aborted with status 134 when it ended under the thread."""
    for delay in (0.2, 0.5, 0.8, 1.2):
        terminal = Terminal(in_a_shell(tmp_path, real()))
        terminal.wait_for(at_prompt)
        time.sleep(delay)
        assert terminal.quit() == 0
        assert was_put_back(tmp_path)


@pytest.mark.slow
def test_the_embedded_model_answers_and_keys_have_their_echo_meanwhile() -> None:
    """For any reply. Latency belongs in a benchmark: a busy machine must not fail a test."""
    terminal = Terminal(real())
    terminal.type("x")
    terminal.wait_for("> x")
    typed = "x"
    while not is_loaded(terminal.text) and len(typed) < 60:
        typed += "y"
        terminal.type("y")
        terminal.wait_for("> " + typed)
        time.sleep(0.05)
    terminal.type(CTRL_C + "Hello" + ENTER)
    terminal.wait_for(" tok/s", seconds=60)
    assert terminal.quit() == 0


@pytest.mark.parametrize(
    ("lang", "columns", "wanted"),
    [
        (
            "en",
            80,
            """[1] calm                                 [2] seed=7 temperature=1.5
One two three.                           One two 四 three.
complete · N s              complete · N s
[1] calm                                 [2] seed=7 temperature=1.5
One two three.                           One two [四 ]three.
[…] differs from reply [1]; [-] stands where only reply [1] has words.
The conversation is unchanged; /take 2, say, keeps reply 2.
>""",
        ),
        (
            "ja",
            40,
            """[1] calm
One two three.
完了 · N 秒
[2] seed=7 temperature=1.5
One two 四 three.
完了 · N 秒
[1] calm
One two three.
[2] seed=7 temperature=1.5
One two [四 ]three.
[…] は返答 [1] と違う部分、[-] は返答
[1] にだけ語句がある所です。
会話は変わっていません。たとえば /take 2
で 2 番の返答を採用できます。
>""",
        ),
    ],
)
def test_replies_are_compared_side_by_side_where_they_fit(home: Path, lang: str, columns: int, wanted: str) -> None:
    terminal = begin("--lang", lang, replies=["Hello.", "One two three.", "One two 四 three."], columns=columns)
    terminal.ask("Hi", "Hello.\n")
    terminal.ask("/compare calm seed=7,temperature=1.5 --diff", wanted.split("\n")[-2])
    shown = terminal.text[terminal.text.index("[1] calm") :]
    assert re.sub(r"\d+ (tokens|トークン) · \d\.\d", "N", shown).startswith(wanted)
    assert terminal.quit() == 0


def test_ctrl_c_in_a_comparison_keeps_the_partial_replies_and_the_terminal(home: Path, tmp_path: Path) -> None:
    terminal = begin(replies=["Hello.", "one two three " * 30, "four five six " * 30], step_s=0.02, noting=tmp_path)
    terminal.ask("Hi", "Hello.\n")
    terminal.type("/compare calm creative" + ENTER)
    terminal.wait_for("one two three one")
    terminal.type(CTRL_C)
    terminal.wait_for(TABLE["chat.stopped-beside"].en)
    terminal.wait_for(at_prompt)
    assert terminal.text.count("stopped by you") == 2
    terminal.type("/replies" + ENTER)
    terminal.wait_for("* 1 of 2")
    terminal.type("\x1b[C")
    terminal.wait_for("2 of 2")
    terminal.type(ENTER)
    terminal.wait_for("(reply 2 of 2)")
    terminal.wait_for(at_prompt)
    assert "Enter keeps" not in terminal.text
    assert terminal.quit() == 0
    assert was_put_back(tmp_path)
