"""Keys that are typed ahead, and signals in every state, under real shells on a real terminal."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import time
from pathlib import Path

import pytest

from bilingual_chat.messages import TABLE
from tests.pseudo_terminal import CTRL_C, CTRL_D, ENTER, Terminal, at_prompt, begin, process_id, turns, was_put_back
from tests.runs import scripted

pytestmark = pytest.mark.slow
pexpect = pytest.importorskip("pexpect")
CTRL_Z, CTRL_QUIT = "\x1a", "\x1c"
PASTE = "\x1b[200~{}\x1b[201~"
REPLY = "one two three four five six seven eight"
LONG = " ".join([REPLY] * 3)
STATES = ["prompt", "loading", "prefill", "reply"]
SHELLS = [
    pytest.param([name, *options], id=name, marks=pytest.mark.skipif(not shutil.which(name), reason="not here"))
    for name, *options in (("bash", "--norc", "-i"), ("dash", "-i"))
]


def users(home: Path) -> list[str]:
    return [user for user, _, _ in turns(home)]


@pytest.mark.parametrize(
    ("typed", "sent", "left"),
    [
        ("second" + ENTER + "third" + ENTER, ["second", "third"], ""),
        ("/settings" + ENTER + "after a command" + ENTER, ["after a command"], ""),
        ("こんにちは" + ENTER + "書きかけ", ["こんにちは"], "書きかけ"),
        ("acd\x1b[D\x1b[Db\x1b[F" + ENTER, ["abcd"], ""),
        (PASTE.format("two\rlines") + ENTER, ["two\nlines"], ""),
        (("/temp 0" + " " * 90 + ENTER) * 50 + "end" + ENTER, ["end"], ""),
    ],
    ids=["lines", "command", "japanese", "arrows", "paste", "long"],
)
@pytest.mark.parametrize("place", ["reply", "loading", "prefill"])
def test_what_is_typed_ahead_is_unseen_and_the_next_input(
    place: str, typed: str, sent: list[str], left: str, home: Path
) -> None:
    terminal = _in_state(place)
    terminal.type(typed)
    terminal.wait_for(REPLY)
    until = time.monotonic() + 30
    while users(home) != ["Hi", *sent]:
        terminal.listen()
        assert time.monotonic() < until, (terminal.text, users(home))
    terminal.wait_for(lambda text: f"\n> {left}".rstrip() in text[text.rfind("\n>") :] if left else at_prompt(text))
    assert f"\n{REPLY}\n" in terminal.text or len(typed) > 200
    terminal.type(CTRL_C + CTRL_D)
    assert terminal.leave() == 0


def _in_state(place: str, reply: str = REPLY, **more: object) -> Terminal:
    """A chat whose reply to "Hi" is waited for, is prepared, or comes."""
    script: dict[str, object] = {"replies": [reply, *["Next."] * 9], "step_s": 0.1}
    script |= {"load_s": 2} if place == "loading" else {"passes": 8, "step_s": 0.2} if place == "prefill" else {}
    terminal = begin(**script, **more)
    terminal.type("Hi" + ENTER)
    terminal.wait_for(
        {"loading": TABLE["chat.waiting"].en, "prefill": "is reading the conversation", "reply": "\none two"}[place]
    )
    return terminal


def test_ctrl_c_keeps_what_was_typed_ahead(home: Path) -> None:
    terminal = _in_state("reply", LONG)
    terminal.type("second" + ENTER + "unfinished")
    time.sleep(0.2)
    terminal.type(CTRL_C)
    terminal.wait_for("(stopped)")
    terminal.wait_for("> unfinished")
    terminal.type(CTRL_C + CTRL_D)
    assert terminal.leave() == 0
    assert users(home) == ["Hi", "second"]


def test_what_is_typed_before_the_first_prompt_is_sent(home: Path) -> None:
    """The terminal still makes a newline of Return then."""
    terminal = Terminal(scripted(replies=["Yes.", "Again."]))
    terminal.type("Hello!" + ENTER + "And?" + ENTER)
    terminal.wait_for("Again.")
    terminal.wait_for(at_prompt)
    terminal.type(CTRL_D)
    assert terminal.leave() == 0
    assert users(home) == ["Hello!", "And?"]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("place", STATES)
@pytest.mark.parametrize("how", ["key", "SIGTSTP", "SIGSTOP"])
def test_ctrl_z_suspends_and_fg_restores_the_line_and_the_terminal(
    shell: list[str], place: str, how: str, home: Path, tmp_path: Path
) -> None:
    terminal, pid = _in_an_interactive_shell(shell, place)
    ahead = "ahead" + ENTER + "left"
    if place == "prompt" or how != "SIGSTOP":  # which nobody can prepare for: the shell reads what is typed ahead
        terminal.type("draft" if place == "prompt" else ahead)
    if place == "prompt":
        terminal.wait_for("> draft")
    time.sleep(0.1)
    terminal.type(CTRL_Z) if how == "key" else os.kill(pid, getattr(signal, how))
    terminal.wait_for(lambda text: "Stopped" in text and "\n$" in text)
    terminal.type("echo al''ive\n")
    terminal.wait_for("alive\n$")
    assert "left" not in terminal.text
    terminal.type("fg\n")
    if place != "prompt":
        if how == "SIGSTOP":
            terminal.wait_for(lambda text: os.tcgetpgrp(terminal.child.child_fd) == pid)
            time.sleep(0.3)
            terminal.type(ahead)
        terminal.wait_for("Next.")
        terminal.wait_for("> left")
        assert users(home) == ["Hi", "ahead"]
        assert turns(home)[0][1] == LONG
    terminal.wait_for(lambda text: re.search("> (draft|left)$", text, re.MULTILINE) is not None)
    terminal.type(" goes on" + ENTER)
    terminal.wait_for(lambda text: bool(_journals(home)) and users(home)[-1:] in (["draft goes on"], ["left goes on"]))
    terminal.wait_for(at_prompt)
    _leave_to_the_shell(terminal)


def _journals(home: Path) -> list[Path]:
    return list((home / ".local/share/bchat").glob("*.jsonl"))


def _in_an_interactive_shell(shell: list[str], place: str) -> tuple[Terminal, int]:
    script: dict[str, object] = {"replies": [LONG, *["Next."] * 9], "step_s": 0.1}
    script |= {"load_s": 3} if place == "loading" else {"passes": 8, "step_s": 0.3} if place == "prefill" else {}
    terminal = Terminal(shell, PS1="$ ", ENV="", columns=120)
    terminal.wait_for("$")
    terminal.type("stty -a; " + shlex.join(["env", *scripted(**script)]) + "\n")
    terminal.wait_for(at_prompt)
    if place != "prompt":
        terminal.type("Hi" + ENTER)
        waited = {"loading": TABLE["chat.waiting"].en, "prefill": "is reading the conversation", "reply": "\none two"}
        terminal.wait_for(waited[place])
    return terminal, os.tcgetpgrp(terminal.child.child_fd)


def _leave_to_the_shell(terminal: Terminal) -> None:
    """And the shell has its terminal as it was."""
    terminal.type(CTRL_C + CTRL_D)
    terminal.wait_for(lambda text: text.endswith("$"))
    terminal.type("stty -a | grep -c -- '-echo '; echo do''ne\n")
    terminal.wait_for("done\n$")
    assert "\n0\ndone" in terminal.text
    terminal.type("exit\n")
    terminal.leave()


@pytest.mark.parametrize("place", STATES)
@pytest.mark.parametrize("name", ["SIGQUIT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGALRM"])
def test_a_signal_that_ends_leaves_everything_whole(name: str, place: str, home: Path, tmp_path: Path) -> None:
    terminal = begin(noting=tmp_path) if place == "prompt" else _in_state(place, LONG, noting=tmp_path)
    os.kill(process_id(tmp_path), getattr(signal, name))
    assert terminal.leave() == 128 + getattr(signal, name)
    assert was_put_back(tmp_path)
    assert "Traceback" not in terminal.text
    if place in ("prefill", "reply"):
        assert [(user, finish) for user, _, finish in turns(home)] == [("Hi", "interrupted")]


@pytest.mark.parametrize("place", STATES)
@pytest.mark.parametrize("shell", SHELLS)
def test_ctrl_backslash_ends_with_everything_kept(shell: list[str], place: str, home: Path) -> None:
    terminal, _ = _in_an_interactive_shell(shell, place)
    terminal.type(CTRL_QUIT)
    terminal.wait_for(lambda text: text.endswith("$"))
    terminal.type("echo status $?; stty -a | grep -c -- '-echo '; echo do''ne\n")
    terminal.wait_for("status 131\n0\ndone\n$")
    if place in ("prefill", "reply"):
        assert [(user, finish) for user, _, finish in turns(home)] == [("Hi", "interrupted")]
    terminal.type("exit\n")
    terminal.leave()


@pytest.mark.parametrize("shell", SHELLS)
def test_a_suspended_chat_that_is_killed_ends_and_leaves_the_terminal_to_the_shell(
    shell: list[str], home: Path
) -> None:
    terminal, _ = _in_an_interactive_shell(shell, "reply")
    terminal.type(CTRL_Z)
    terminal.wait_for(lambda text: "Stopped" in text and text.endswith("$"))
    terminal.type("kill %1; kill -CONT %1; wait; echo do''ne\n")
    terminal.wait_for("done\n$")
    # dash may come back from `wait` before the process has ended.
    terminal.wait_for(lambda _: [(user, finish) for user, _, finish in turns(home)] == [("Hi", "interrupted")])
    terminal.type("exit\nexit\n")  # dash still speaks of a stopped job
    terminal.leave()
