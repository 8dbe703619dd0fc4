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
SHELLS = {"bash": ["bash", "--norc", "-i"], "dash": ["dash", "-i"]}
TYPED = {
    "lines": ("second" + ENTER + "third" + ENTER, ["second", "third"], ""),
    "command": ("/settings" + ENTER + "after a command" + ENTER, ["after a command"], ""),
    "japanese": ("こんにちは" + ENTER + "書きかけ", ["こんにちは"], "書きかけ"),
    "arrows": ("acd\x1b[D\x1b[Db\x1b[F" + ENTER, ["abcd"], ""),
    "paste": (PASTE.format("two\rlines") + ENTER, ["two\nlines"], ""),
    "long": (("/temp 0" + " " * 90 + ENTER) * 50 + "end" + ENTER, ["end"], ""),
}


def users(home: Path) -> list[str]:
    return [user for user, _, _ in turns(home)]


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        *(("reply", kind) for kind in TYPED),
        *(("loading", kind) for kind in ("lines", "paste")),
        *(("prefill", kind) for kind in ("japanese", "arrows")),
    ],
)
def test_what_is_typed_ahead_is_unseen_and_the_next_input(state: str, kind: str, home: Path) -> None:
    """All cases during a reply; some of them in other states, because the same code keeps the keys."""
    typed, sent, left = TYPED[kind]
    terminal = _in_state(state)
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


def _in_state(state: str, reply: str = REPLY, **more: object) -> Terminal:
    """A chat whose reply to "Hi" is pending, is prepared, or arrives."""
    script: dict[str, object] = {"replies": [reply, *["Next."] * 9], "step_s": 0.1}
    script |= {"load_s": 2} if state == "loading" else {"passes": 8, "step_s": 0.2} if state == "prefill" else {}
    terminal = begin(**script, **more)
    terminal.type("Hi" + ENTER)
    terminal.wait_for(
        {"loading": TABLE["chat.waiting"].en, "prefill": "is reading the conversation", "reply": "\none two"}[state]
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
    """The terminal still translates Return into a newline then."""
    terminal = Terminal(scripted(replies=["Yes.", "Again."]))
    terminal.ask("Hello!" + ENTER + "And?", "Again.")
    assert terminal.quit() == 0
    assert users(home) == ["Hello!", "And?"]


@pytest.mark.parametrize(
    ("shell", "state", "how"),
    [
        *(("bash", state, "key") for state in STATES),
        *(("bash", state, how) for state in ("prompt", "reply") for how in ("SIGTSTP", "SIGSTOP")),
        *(("dash", state, "key") for state in ("prompt", "reply")),
    ],
)
def test_ctrl_z_suspends_and_fg_restores_the_line_and_the_terminal(
    shell: str, state: str, how: str, home: Path, tmp_path: Path
) -> None:
    terminal, pid = _in_an_interactive_shell(shell, state)
    ahead = "ahead" + ENTER + "left"
    if state == "prompt" or how != "SIGSTOP":  # which nobody can prepare for: the shell reads what is typed ahead
        terminal.type("draft" if state == "prompt" else ahead)
    if state == "prompt":
        terminal.wait_for("> draft")
    time.sleep(0.1)
    terminal.type(CTRL_Z) if how == "key" else os.kill(pid, getattr(signal, how))
    terminal.wait_for(lambda text: "Stopped" in text and "\n$" in text)
    terminal.type("echo al''ive\n")
    terminal.wait_for("alive\n$")
    assert "left" not in terminal.text
    terminal.type("fg\n")
    if state != "prompt":
        if how == "SIGSTOP":
            terminal.wait_for(lambda text: os.tcgetpgrp(terminal.child.child_fd) == pid)
            time.sleep(0.3)
            terminal.type(ahead)
        terminal.wait_for("Next.")
        terminal.wait_for("> left")
        assert users(home) == ["Hi", "ahead"]
        assert turns(home)[0][1] == LONG
    terminal.wait_for(lambda text: re.search("> (draft|left)$", text, re.MULTILINE) is not None)
    terminal.ask(
        " goes on", lambda text: bool(_journals(home)) and users(home)[-1:] in (["draft goes on"], ["left goes on"])
    )
    _leave_to_the_shell(terminal)


def _journals(home: Path) -> list[Path]:
    return list((home / ".local/share/bchat").glob("*.jsonl"))


def _in_an_interactive_shell(shell: str, state: str) -> tuple[Terminal, int]:
    if not shutil.which(shell):
        pytest.skip(f"no {shell} here")
    script: dict[str, object] = {"replies": [LONG, *["Next."] * 9], "step_s": 0.1}
    script |= {"load_s": 3} if state == "loading" else {"passes": 8, "step_s": 0.3} if state == "prefill" else {}
    terminal = Terminal(SHELLS[shell], PS1="$ ", ENV="", columns=120)
    terminal.wait_for("$")
    terminal.type("stty -a; " + shlex.join(["env", *scripted(**script)]) + "\n")
    terminal.wait_for(at_prompt)
    if state != "prompt":
        terminal.type("Hi" + ENTER)
        waited = {"loading": TABLE["chat.waiting"].en, "prefill": "is reading the conversation", "reply": "\none two"}
        # Below the message: a row of the echoed command may begin with the words of the reply, too.
        terminal.wait_for(lambda text: waited[state] in text.partition("> Hi")[2])
    return terminal, os.tcgetpgrp(terminal.child.child_fd)


def _leave_to_the_shell(terminal: Terminal) -> None:
    """Leave bchat; the shell finds its terminal unchanged."""
    terminal.type(CTRL_C + CTRL_D)
    terminal.wait_for(lambda text: text.endswith("$"))
    terminal.type("stty -a | grep -c -- '-echo '; echo do''ne\n")
    terminal.wait_for("done\n$")
    assert "\n0\ndone" in terminal.text
    terminal.type("exit\n")
    terminal.leave()


@pytest.mark.parametrize(
    ("name", "state"),
    [
        *(("SIGTERM", state) for state in STATES),
        *((name, "reply") for name in ("SIGQUIT", "SIGHUP", "SIGUSR1", "SIGALRM")),
        ("SIGHUP", "prompt"),
    ],
)
def test_a_signal_that_ends_leaves_everything_whole(name: str, state: str, home: Path, tmp_path: Path) -> None:
    terminal = begin(noting=tmp_path) if state == "prompt" else _in_state(state, LONG, noting=tmp_path)
    os.kill(process_id(tmp_path), getattr(signal, name))
    assert terminal.leave() == 128 + getattr(signal, name)
    assert was_put_back(tmp_path)
    assert "Traceback" not in terminal.text
    if state in ("prefill", "reply"):
        assert [(user, finish) for user, _, finish in turns(home)] == [("Hi", "interrupted")]


@pytest.mark.parametrize(("shell", "state"), [*(("bash", state) for state in STATES), ("dash", "reply")])
def test_ctrl_backslash_ends_with_everything_kept(shell: str, state: str, home: Path) -> None:
    terminal, _ = _in_an_interactive_shell(shell, state)
    terminal.type(CTRL_QUIT)
    terminal.wait_for(lambda text: text.endswith("$"))
    terminal.type("echo status $?; stty -a | grep -c -- '-echo '; echo do''ne\n")
    terminal.wait_for("status 131\n0\ndone\n$")
    if state in ("prefill", "reply"):
        assert [(user, finish) for user, _, finish in turns(home)] == [("Hi", "interrupted")]
    terminal.type("exit\n")
    terminal.leave()


@pytest.mark.parametrize("shell", SHELLS)
def test_a_suspended_chat_continues_in_the_background(shell: str, home: Path) -> None:
    terminal, _ = _in_an_interactive_shell(shell, "reply")
    terminal.type(CTRL_Z)
    terminal.wait_for(lambda text: "Stopped" in text and text.endswith("$"))
    terminal.type("bg\n")
    terminal.wait_for(lambda _: [(user, finish) for user, _, finish in turns(home)] == [("Hi", "stop")])
    terminal.type("fg\n")
    terminal.wait_for("demo ·")  # the line below the prompt
    terminal.type("again" + ENTER)
    terminal.wait_for(lambda _: users(home) == ["Hi", "again"])
    _leave_to_the_shell(terminal)


@pytest.mark.parametrize("shell", SHELLS)
def test_a_suspended_chat_that_is_killed_ends_and_leaves_the_terminal_to_the_shell(shell: str, home: Path) -> None:
    terminal, _ = _in_an_interactive_shell(shell, "reply")
    terminal.type(CTRL_Z)
    terminal.wait_for(lambda text: "Stopped" in text and text.endswith("$"))
    terminal.type("kill %1; kill -CONT %1; wait; echo do''ne\n")
    terminal.wait_for("done\n$")
    # dash may come back from `wait` before the process has ended.
    terminal.wait_for(lambda _: [(user, finish) for user, _, finish in turns(home)] == [("Hi", "interrupted")])
    terminal.type("exit\nexit\n")  # dash still speaks of a stopped job
    terminal.leave()
