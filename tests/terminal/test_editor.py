"""The line editor, driven by the bytes of real keys."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.data_structures import Size
from prompt_toolkit.document import Document
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output import DummyOutput

from bilingual_chat.commands.app import App, Page
from bilingual_chat.messages.errors import BchatError
from bilingual_chat.terminal.editor import CommandCompleter, Editor
from bilingual_chat.terminal.editor.history import SharedHistory
from bilingual_chat.terminal.editor.pages import Pages
from bilingual_chat.terminal.linebreak import count_cells
from bilingual_chat.terminal.toolbar import Toolbar
from tests.runs import posix
from tests.scripted import make_app, make_session

ENTER, ALT_ENTER, CTRL_C, CTRL_D, CTRL_J, CTRL_R = "\r", "\x1b\r", "\x03", "\x04", "\n", "\x12"
UP, RIGHT, LEFT, ESCAPE, TAB = "\x1b[A", "\x1b[C", "\x1b[D", "\x1b", "\t"


@pytest.fixture
def app(tmp_path: Path) -> App:
    session, _ = make_session(None)
    return make_app(session, tmp_path)[0]


@pytest.fixture
def keys() -> Iterator[PipeInput]:
    with create_pipe_input() as pipe:
        yield pipe


@pytest.fixture
def editor(keys: PipeInput, tmp_path: Path) -> Editor:
    return Editor(tmp_path / "state" / "history", keys=keys, screen=DummyOutput())


def later(keys: PipeInput, *steps: tuple[Callable[[], Any], str]) -> None:
    """Type each text when its condition holds."""

    def type_them() -> None:
        for is_time, text in steps:
            until = time.monotonic() + 10
            while not is_time() and time.monotonic() < until:
                time.sleep(0.01)
            keys.send_text(text)

    threading.Thread(target=type_them, daemon=True).start()


# -- keys ---------------------------------------------------------------------------------------------


def test_bytes_in_another_encoding_are_refused_and_never_replaced(app: App, editor: Editor, keys: PipeInput) -> None:
    """A terminal in Shift_JIS; the next line is read as usual."""
    keys.send_bytes("猫です\r".encode("cp932"))
    with pytest.raises(BchatError) as refused:
        editor.read(app)
    assert refused.value.key == "encoding.terminal"
    keys.send_bytes("猫です💀\r".encode())
    assert editor.read(app) == "猫です💀"


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("hello" + ENTER, "hello"),
        ("こんにちは　世界" + ENTER, "こんにちは　世界"),
        ("one" + ALT_ENTER + "two" + ENTER, "one\ntwo"),
        ("one" + CTRL_J + "two" + ENTER, "one\ntwo"),
        ("\x1b[200~first\r\nsecond\rthird\n\x1b[201~" + ENTER, "first\nsecond\nthird"),
        ("abc" + CTRL_C + "def" + ENTER, "def"),
        ("/help" + ENTER, "/help"),
        (ENTER, ""),
    ],
)
def test_keys_make_a_message(app: App, editor: Editor, keys: PipeInput, typed: str, read: str) -> None:
    """Enter sends, Alt+Enter and Ctrl-J begin a line, a paste is one message, Ctrl-C clears."""
    keys.send_text(typed)
    assert editor.read(app) == read


def test_the_prefetch_gets_the_typed_text_but_no_commands(app: App, keys: PipeInput) -> None:
    heard: list[str | None] = []
    app.prefetch.typed = heard.append  # type: ignore[method-assign]
    editor = Editor(None, keys=keys, screen=DummyOutput())
    keys.send_text("猫？" + "\x7f" + CTRL_C + "／ｔ" + CTRL_C + "a" + ENTER)
    assert editor.read(app) == "a"
    changes = [text for at, text in enumerate(heard) if at == 0 or text != heard[at - 1]]
    assert changes == ["猫", "猫？", "猫", "", None, "", "a"]


def test_ctrl_c_on_an_empty_line_interrupts_and_ctrl_d_ends(app: App, editor: Editor, keys: PipeInput) -> None:
    keys.send_text(CTRL_C)
    with pytest.raises(KeyboardInterrupt):
        editor.read(app)
    keys.send_text(CTRL_D)
    with pytest.raises(EOFError):
        editor.read(app)


def test_a_prefilled_line_can_be_changed_and_sent(app: App, editor: Editor, keys: PipeInput) -> None:
    keys.send_text("!" + ENTER)
    assert editor.read(app, "old text") == "old text!"


def test_ctrl_c_gives_a_prefilled_line_up(app: App, editor: Editor, keys: PipeInput) -> None:
    """Not only its text: the next message must not replace the old one."""
    keys.send_text("!" + CTRL_C + CTRL_D)
    with pytest.raises(KeyboardInterrupt):
        editor.read(app, "old text")


def test_a_line_is_fit_to_keep(app: App, editor: Editor, keys: PipeInput) -> None:
    """A paste may contain any character."""
    keys.send_text("\x1b[200~a\x00b\x1b[201~" + ENTER)
    assert editor.read(app) == "ab"


def test_what_cannot_act_in_a_reply_cannot_act_in_the_line() -> None:
    from prompt_toolkit.layout.screen import Char

    for character in "\x1b\x9b\u202e\u200b\u2066\ufeff":
        assert Char(character).char not in ("", character)
        assert Char(character).width > 0


def test_a_question_is_answered_and_ctrl_c_is_no_answer(app: App, editor: Editor, keys: PipeInput) -> None:
    keys.send_text("3" + ENTER)
    assert editor.ask("Which? ") == "3"
    for key in (CTRL_C, CTRL_D):
        keys.send_text(key)
        assert editor.ask("Which? ") == ""


def test_a_signal_ends_the_line(app: App, editor: Editor, keys: PipeInput) -> None:
    """Act like a signal handler; twice, as when a terminal closes."""
    later(keys, (editor.is_reading, ""), (lambda: [editor.leave(SystemExit(7)) for _ in "12"], ""))
    with pytest.raises(SystemExit):
        editor.read(app)
    assert not editor.is_reading()


def test_loading_begins_after_the_first_prompt_is_painted(app: App, keys: PipeInput) -> None:
    editor = Editor(None, keys=keys, screen=DummyOutput())
    assert app.loader.is_loading
    later(keys, (lambda: not app.loader.is_loading, "x" + ENTER))
    assert editor.read(app) == "x"


# -- drafts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("draft" + CTRL_C + UP + ENTER, "draft"),
        ("one" + CTRL_J + "two" + CTRL_C + UP + ENTER, "one\ntwo"),
        ("first" + CTRL_C + "second" + CTRL_C + UP + UP + ENTER, "first"),
        ("first" + CTRL_C + "second" + CTRL_C + UP + ENTER, "second"),
        ("draft" + CTRL_C + "  " + CTRL_C + UP + ENTER, "draft"),
        ("draft" + CTRL_C + UP + "!" + CTRL_C + UP + ENTER, "draft!"),
        ("draft" + CTRL_C + UP + "!" + CTRL_C + UP + UP + ENTER, "draft"),
        ("draft" + CTRL_C + UP + CTRL_C + UP + UP + ENTER, "draft"),
    ],
)
def test_a_draft_that_ctrl_c_put_away_comes_back(
    app: App, editor: Editor, keys: PipeInput, typed: str, read: str
) -> None:
    keys.send_text(typed)
    assert editor.read(app) == read


def test_a_draft_below_the_line_that_is_sent_is_kept(app: App, editor: Editor, keys: PipeInput) -> None:
    """Type, go up to an earlier line, and send that one."""
    keys.send_text("earlier" + CTRL_C + "draft" + UP + ENTER)
    assert editor.read(app) == "earlier"
    assert editor._history.get_strings() == ["draft", "earlier"]


def test_an_edit_that_was_given_up_comes_back_on_the_next_line(app: App, editor: Editor, keys: PipeInput) -> None:
    keys.send_text("!" + CTRL_C)
    with pytest.raises(KeyboardInterrupt):
        editor.read(app, "old text")
    buffer = editor._session.default_buffer
    later(keys, (lambda: len(buffer._working_lines) == 2, UP + ENTER))
    assert editor.read(app) == "old text!"


def test_a_draft_enters_the_history_file_when_it_is_sent_and_not_before(
    app: App, editor: Editor, keys: PipeInput, tmp_path: Path
) -> None:
    file = tmp_path / "state" / "history"
    keys.send_text("secret" + CTRL_C + "said" + ENTER)
    editor.read(app)
    assert list(SharedHistory(file).load_history_strings()) == ["said"]
    buffer = editor._session.default_buffer
    later(keys, (lambda: len(buffer._working_lines) == 3, UP + UP + ENTER))
    assert editor.read(app) == "secret"
    assert list(SharedHistory(file).load_history_strings()) == ["secret", "said"]
    assert editor._history.get_strings() == ["said", "secret"]


# -- history ------------------------------------------------------------------------------------------


def test_earlier_lines_come_back(app: App, keys: PipeInput, tmp_path: Path) -> None:
    """With Up, as a suggestion that → accepts, and by Ctrl-R; from a file of an earlier bchat."""
    history = SharedHistory(tmp_path / "history")
    for line in ("first one", "second\nof two lines", "third"):
        history.store_string(line)

    def editor() -> Editor:
        return Editor(tmp_path / "history", keys=keys, screen=DummyOutput())

    reading = editor()
    buffer = reading._session.default_buffer
    later(keys, (lambda: len(buffer._working_lines) == 4, UP + UP + ENTER))
    assert reading.read(app) == "second\nof two lines"

    reading = editor()
    buffer = reading._session.default_buffer
    later(keys, (lambda: len(buffer._working_lines) == 5, "fir"), (lambda: buffer.suggestion, RIGHT + ENTER))
    assert reading.read(app) == "first one"

    reading = editor()
    buffer = reading._session.default_buffer
    later(keys, (lambda: len(buffer._working_lines) == 6, CTRL_R + "thi"), (lambda: True, ENTER), (lambda: True, ENTER))
    assert reading.read(app) == "third"


def test_ctrl_c_leaves_the_search_not_the_chat(app: App, editor: Editor, keys: PipeInput) -> None:
    keys.send_text("text" + CTRL_R + CTRL_C)
    later(keys, (editor.is_reading, "!" + ENTER))
    assert editor.read(app) == "text!"


def test_the_history_file_is_private_and_keeps_lines_together(
    app: App, editor: Editor, keys: PipeInput, tmp_path: Path
) -> None:
    keys.send_text("one" + ALT_ENTER + "+two" + ENTER)
    editor.read(app)
    file = tmp_path / "state" / "history"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert list(SharedHistory(file).load_history_strings()) == ["one\n+two"]


def test_hostile_lines_come_back_as_they_are_kept(tmp_path: Path) -> None:
    lines = ["a\r\nb", "\ud83d\ude00", "x\u2028y", "# no comment", "+plus", " ", "\n\n"]
    history = SharedHistory(tmp_path / "history")
    for line in lines:
        history.store_string(line)
    kept = ["a\nb", "😀", "x\u2028y", "# no comment", "+plus", " ", "\n\n"]
    assert list(SharedHistory(tmp_path / "history").load_history_strings()) == kept[::-1]


def test_a_torn_entry_spoils_no_other(tmp_path: Path) -> None:
    """The disk became full in the middle of an entry."""
    file = tmp_path / "history"
    SharedHistory(file).store_string("whole")
    with file.open("ab") as torn:
        torn.write("\n# 2026\n+日本".encode()[:-1])
    SharedHistory(file).store_string("next")
    assert list(SharedHistory(file).load_history_strings()) == ["next", "日\ufffd", "whole"]


def test_of_a_huge_history_the_end_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bilingual_chat.terminal.editor.history.HISTORY_LIMIT", 100)
    history = SharedHistory(tmp_path / "history")
    for number in range(100):
        history.store_string(f"entry\n{number}")
    read = list(SharedHistory(tmp_path / "history").load_history_strings())
    assert read[0] == "entry\n99"
    assert set(read) <= {f"entry\n{number}" for number in range(100)}


def test_without_a_history_file_the_chat_works(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    history = SharedHistory(tmp_path / "file" / "history")
    history.store_string("x")
    assert list(history.load_history_strings()) == []


@posix
@pytest.mark.parametrize("kind", ["symlink_to", "hardlink_to"])
def test_the_history_is_not_written_through_a_link(tmp_path: Path, kind: str) -> None:
    other = tmp_path / "other"
    other.write_text("precious")
    getattr(tmp_path / "history", kind)(other)
    history = SharedHistory(tmp_path / "history")
    history.store_string("said")
    assert other.read_text() == "precious"
    assert list(history.load_history_strings()) == ["said"]
    assert {path.name for path in tmp_path.iterdir()} == {"other", "history"}


WRITER = """
import sys
from pathlib import Path
from bilingual_chat.terminal.editor.history import SharedHistory
from bilingual_chat.terminal.editor.pages import Pages
from bilingual_chat.terminal.linebreak import count_cells
from bilingual_chat.terminal.toolbar import Toolbar
history, who = SharedHistory(Path(sys.argv[1])), int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for number in range(100):
    history.store_string(f"{who}:{number}\\nsecond {who}\\n日本語 {'x' * who * 50}")
"""


@pytest.mark.slow
def test_four_processes_share_a_history_without_a_damaged_entry(tmp_path: Path) -> None:
    """prompt_toolkit's own FileHistory damaged 24 of 800."""
    path = tmp_path / "history"
    commands = [[sys.executable, "-c", WRITER, str(path), str(who)] for who in range(4)]
    writers = [subprocess.Popen(each, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for each in commands]
    for writer in writers:
        assert writer.stdout
        writer.stdout.readline()
    for writer in writers:
        assert writer.stdin
        writer.stdin.write(b"go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate()
    read = sorted(SharedHistory(path).load_history_strings())
    assert read == sorted(f"{w}:{n}\nsecond {w}\n日本語 {'x' * w * 50}" for w in range(4) for n in range(100))


def test_the_toolbar_fits_the_width_of_the_screen(app: App, keys: PipeInput, monkeypatch: pytest.MonkeyPatch) -> None:
    widths: list[int] = []
    monkeypatch.setattr(Toolbar, "text", lambda self, width: widths.append(width) or "")
    editor = Editor(None, keys=keys, screen=DummyOutput())
    keys.send_text("hello" + ENTER)
    editor.read(app)
    assert set(widths) == {DummyOutput().get_size().columns}


# -- completion ---------------------------------------------------------------------------------------


def completions(app: App, text: str) -> dict[str, str]:
    """{resulting line: remark}"""
    found = CommandCompleter(app).get_completions(Document(text, len(text)), CompleteEvent())
    return {text[: len(text) + each.start_position] + each.text: each.display_meta_text for each in found}


def test_commands_are_completed_with_their_descriptions(app: App) -> None:
    assert completions(app, "/tem") == {"/temperature": "randomness of sampling (0: always the most likely token)"}
    assert "/exit" in completions(app, "/")
    assert all(completions(app, "/").values())


def test_a_full_width_slash_and_letters_are_completed_too(app: App) -> None:
    assert list(completions(app, "／ｔｅｍ")) == ["／temperature"]


def test_descriptions_speak_the_language_in_force(app: App) -> None:
    app.screen.lang = "ja"
    assert completions(app, "/undo") == {"/undo": "最後のやり直しや選択、または最後の往復を取り消す"}


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("/preset gre", "/preset greedy"),
        ("／preset　ｇｒｅ", "／preset　greedy"),
        ("/set top_", "/set top_p"),
        ("/retry temperature=0.2 to", "/retry temperature=0.2 top_k="),
        ("/retry temperature=0.2,see", "/retry temperature=0.2,seed="),
        ("/retry cre", "/retry creative"),
        ("/compare calm cre", "/compare calm creative"),
        ("/compare temperature=0.2、ca", "/compare temperature=0.2、calm"),
        ("/help un", "/help undo"),
        ("/model de", "/model demo"),
        ("/lang j", "/lang ja"),
        ("/prompt i", "/prompt ids"),
    ],
)
def test_arguments_are_completed(app: App, typed: str, expected: str) -> None:
    found = completions(app, typed)
    assert expected in found
    assert found[expected]


def test_after_the_name_of_a_setting_comes_its_value(app: App) -> None:
    assert completions(app, "/set temperature ") == {}


@pytest.mark.parametrize("typed", ["こんにちは", "he", "say /he", "//he", "", "/nosuch x", "/set\nto", "/undo x"])
def test_words_of_a_message_are_left_alone(app: App, typed: str) -> None:
    assert completions(app, typed) == {}


def test_file_names_are_completed_and_cannot_act(app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "会話　一.json").write_text("")
    (tmp_path / "evil\x1b]0;t\x07.json").write_text("")
    (tmp_path / "folder").mkdir()
    found = list(CommandCompleter(app).get_completions(Document("/load ", 6), CompleteEvent()))
    assert [each.text for each in found] == ["evil\x1b]0;t\x07.json", "folder", "会話　一.json"]
    assert [each.display_text for each in found] == ["evil␛]0;t␇.json", "folder/", "会話　一.json"]
    assert list(completions(app, "/save 会話　")) == ["/save 会話　一.json"]


def test_what_cannot_be_listed_is_not_offered(app: App, tmp_path: Path) -> None:
    """A directory that is a file; a NUL in a path."""
    (tmp_path / "file").write_text("")
    app.conversations = tmp_path / "file"
    assert completions(app, "/resume ") == {}
    assert completions(app, "/load \0") == {}


def test_conversations_are_looked_at_once_a_line(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at every key: there may be thousands."""
    from bilingual_chat.transcript import history

    looks: list[Path] = []
    monkeypatch.setattr(history, "list_conversations", lambda directory, report: looks.append(directory) or [])
    completer = CommandCompleter(app)
    for text in ("/resume ", "/resume 2", "/resume 20"):
        list(completer.get_completions(Document(text, len(text)), CompleteEvent()))
    assert len(looks) == 1
    list(CommandCompleter(app).get_completions(Document("/resume ", 8), CompleteEvent()))
    assert len(looks) == 2


def test_the_menu_opens_for_a_command_and_enter_takes_what_is_chosen(app: App, editor: Editor, keys: PipeInput) -> None:
    buffer = editor._session.default_buffer
    is_open = lambda: buffer.complete_state is not None  # noqa: E731
    later(keys, (editor.is_reading, "/unknown" + "\x08" * 5), (is_open, TAB + ENTER), (lambda: not is_open(), ENTER))
    assert editor.read(app) == "/undo"


@pytest.mark.parametrize(
    ("typed", "chosen"),
    [
        (ENTER, 1),
        (RIGHT + ENTER, 2),
        (RIGHT * 2 + ENTER, 0),
        (LEFT * 3 + ENTER, 1),
        ("3" + ENTER, 2),
        ("9x0" + ENTER, 1),
        (ESCAPE, None),
        ("q", None),
        (CTRL_C, None),
        (RIGHT + CTRL_D, None),
    ],
)
def test_pages_are_flipped_with_arrows_or_by_number(
    editor: Editor, keys: PipeInput, typed: str, chosen: int | None
) -> None:
    later(keys, (editor.is_reading, typed))
    assert editor.flip(3, "page {}".format, 1, "keys") == chosen
    assert not editor.is_reading()


def test_a_signal_ends_the_flipping_of_pages(editor: Editor, keys: PipeInput) -> None:
    later(keys, (editor.is_reading, ""), (lambda: [editor.leave(SystemExit(7)) for _ in "1"], ""))
    with pytest.raises(SystemExit):
        editor.flip(3, str, 0, "keys")


@pytest.mark.parametrize("lines", [1, 3, 10])
def test_a_page_fits_the_screen_and_cannot_act(lines: int, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = DummyOutput()
    monkeypatch.setattr(screen, "get_size", lambda: Size(rows=lines, columns=20))
    shown = Pages(2, lambda index: "\x1b[2J" + "日本語の長い文章。" * 40, 0, "← → Esc")._lines(screen)
    text = "".join(part for _, part, *_ in shown)
    assert "\x1b" not in text
    assert text.endswith("← → Esc")
    assert text.count("\n") < max(lines, 2)
    assert max(map(count_cells, text.split("\n"))) < 20
    assert "…" in text


@pytest.mark.parametrize("here", [0, 30, 59])
def test_of_a_long_page_the_token_that_is_looked_at_stays_on_the_screen(
    here: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Styles follow their text through the line breaks; the table below keeps its room."""
    screen = DummyOutput()
    monkeypatch.setattr(screen, "get_size", lambda: Size(rows=12, columns=30))
    words = [("shade-1" + " here" * (at == here), f"語{at} ") for at in range(60)]
    shown = Pages(1, lambda index: Page(words, "heading", [("a", "b")], "note"), 0, "keys")._lines(screen)
    text = "".join(part for _, part, *_ in shown)
    assert f"語{here}" == "".join(part for style, part, *_ in shown if "class:here" in style).strip()
    assert text.count("\n") < 12
    assert text.endswith("\n\nheading\na  b\nnote\nkeys")
