"""The command line: input, output, and the exit status of every end."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer

from bilingual_chat import __version__, messages
from bilingual_chat.cli import chat, command_line, options
from bilingual_chat.commands.table import COMMANDS, OF_SHELL
from bilingual_chat.hub.download import Progress
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.settings import catalogue, decoding
from bilingual_chat.settings.catalogue import ModelEntry
from bilingual_chat.settings.config import load_config
from bilingual_chat.terminal.display import Display
from bilingual_chat.text.sanitize import outward
from bilingual_chat.transcript.document import read_document
from bilingual_chat.transcript.export import FORMATS
from tests.loopback_hub import Hub
from tests.runs import ROOT, Run, program, real, scripted
from tests.scripted import Person, Script, ScriptedEngine, tokenizer

HOSTILE = "\x1b]0;evil\x07 [red] \u202e日本\x9b2J\r"


# -- what libraries print by themselves ----------------------------------------------------------------

NOISES = {
    "warnings": "import warnings; warnings.warn('NOISE', FutureWarning)",
    "a warning that is always shown": "import warnings; warnings.simplefilter('always'); warnings.warn('NOISE')",
    "logging": "import logging; logging.warning('NOISE')",
    "a logger of its own": "import logging, sys; it = logging.getLogger('it'); "
    "it.addHandler(logging.StreamHandler()); it.error('NOISE')",
    "no handler": "import logging; logging.getLogger('it').error('NOISE')",
    "transformers": "from transformers.utils import logging; logging.get_logger('transformers.x').error('NOISE')",
    "huggingface_hub": "from huggingface_hub.utils import logging as it; "
    "it.get_logger('huggingface_hub.x').error('NOISE')",
    "tqdm": "from tqdm import tqdm; list(tqdm(range(3), desc='NOISE'))",
    "print": "print('NOISE')",
    "stderr": "import sys; sys.stderr.write('NOISE')",
    "native code": "import ctypes; ctypes.CDLL(None).write(2, b'NOISE', 5)",
    "a child": "import subprocess; subprocess.run('echo NOISE >&2', shell=True)",
    "a thread": "import threading; it = threading.Thread(target=lambda: 1 / 0, name='NOISE'); it.start(); it.join()",
}
NOISY = """
import sys
from bilingual_chat.cli import chat, command_line
from bilingual_chat.session.model import Model
from tests.scripted import ScriptedEngine, tokenizer

def make(entry, *how):
    exec(NOISE)
    return Model(entry, tokenizer(), ScriptedEngine(["Hello."], on_step=lambda: exec(NOISE)))

chat.open_model = chat.open_in_background = make
sys.exit(command_line.main())
"""


@pytest.mark.slow
@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("command", ["ask", "chat"])
def test_what_libraries_print_reaches_no_screen(noise: str, command: str) -> None:
    """While a model is opened and while it computes; bchat's own sentences still appear."""
    source = f"NOISE = {NOISES[noise]!r}\n{NOISY}"
    ran = program([sys.executable, "-c", source, command, *(["-"] if command == "ask" else [])], b"Hi\n/nosuch\n")
    assert ran.stdout.decode() == "Hello.\n"
    assert ("nosuch" in ran.stderr.decode()) == (command == "chat")
    assert not re.search(b"NOISE|Warning|Traceback|Error", ran.stderr)


def test_debug_shows_what_libraries_print() -> None:
    source = f"NOISE = {NOISES['warnings']!r}\n{NOISY}"
    assert b"NOISE" in program([sys.executable, "-c", source, "ask", "--debug", "Hi"]).stderr


# -- exit statuses ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    ["frobnicate", "transcript", "pull", "--seed", "models a b", "ask --json=3", "ask --modle x"],
)
def test_typers_errors_are_translated_into_japanese(run: Run, arguments: str) -> None:
    """typer speaks English only; this fails if a newer typer changes its sentences."""
    ran = run("--lang", "ja", *arguments.split())
    assert ran.status == 2
    words, _, _ = ran.err.partition("使い方")
    assert "使い方" in ran.err
    assert not re.search("[a-z]{3,} [a-z]{3,}", words), words


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (["nosuch"], 2, "There is no command nosuch. See: bchat --help"),
        (["asj"], 2, "There is no command asj. Did you mean ask? See: bchat --help"),
        (["ask", "--presett", "x"], 2, "There is no option --presett. Did you mean --preset? See: bchat ask --help"),
        (["--nosuch\x1b[2J"], 2, "There is no option --nosuch␛[2J. See: bchat --help"),
        (["--temperature", "0.7"], 2, "To change the setting, use: --set temperature=0.7. See: bchat --help"),
        (["ask", "--top-p=0.9", "x"], 2, "There is no option --top-p. To change the setting, use: --set top_p=0.9."),
        (
            ["ask", "-temp", "0.7", "x"],
            2,
            "There is no option -temp. To change the setting, use: --set temperature=0.7.",
        ),
        (["chat", "--temprature", "0.7"], 2, "--set temperature=0.7."),
        (["--max_tokens"], 2, "--set max_new_tokens=N."),
        (["--penalty", "--debug"], 2, "--set repetition_penalty=N."),
        (["models", "--temperature", "1"], 2, "There is no option --temperature. See: bchat models --help"),
        (["/retry"], 2, "/retry is a chat command. Start bchat, then type it there."),
        (["ask", "x", "--set", "bogus=1"], 2, "There is no setting 'bogus'. Known: temperature, top_k, "),
        (["pull", "nope"], 3, "There is no model 'nope'. Known: sft, "),
        (["--set"], 2, "The option --set needs a value. See: bchat --help"),
        (["pull"], 2, "The argument name is missing. See: bchat pull --help"),
        (["ask"], 2, 'There is no question. Pass one, such as: bchat ask "Hello" (or - to read stdin).'),
        (["--lang", "de", "where"], 2, "The languages are en and ja, not 'de'."),
        (["ask", "x", "--set", "temperature=99"], 2, "temperature must be between 0 and 10, not 99."),
        (["ask", "x", "--set", "tempratur=1"], 2, "Did you mean temperature?"),
        (["ask", "x", "--seed", "x"], 2, "seed takes a whole number, not 'x'."),
        (["ask", "x", "--preset", "gredy"], 2, "Did you mean greedy?"),
        (["ask", "x", "--config", "/no/such.toml"], 4, "Cannot read /no/such.toml"),
        (["ask", "x", "--model", "sft"], 3, "Download it: bchat pull sft"),
        (["ask", "x", "--model", "dmeo"], 3, "Did you mean demo?"),
        (["ask", "x", "--like", "j-pppo"], 3, "Did you mean j-ppo?"),
        (["pull", "demo\x1b"], 3, "There is no model 'demo␛'"),
        (["ask", "x", "--load", "/no/such.json"], 4, "Cannot read /no/such.json: no such file or directory."),
        (["transcripts", "show", "99"], 4, "There is no conversation '99'"),
        (["transcripts", "search", "x\x1b"], 4, "No conversation contains 'x␛'."),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_its_status(
    run: Run, arguments: list[str], status: int, sentence: str
) -> None:
    ran = run(*arguments)
    assert (ran.status, ran.out) == (status, "")
    assert sentence in ran.err
    assert len(ran.err.splitlines()) == 1


def test_a_failure_while_replying_is_1_and_what_came_is_shown(run: Run) -> None:
    ran = run("ask", "x", reply=Script("half of it", BchatError("reason.other", text="no memory")))
    assert (ran.status, ran.out, ran.err) == (1, "half of it\n", "no memory\n")


def test_ctrl_c_is_130(run: Run) -> None:
    ran = run("ask", "x", reply=Script("half", KeyboardInterrupt()))
    assert (ran.status, ran.out, ran.err) == (130, "half\n", "")


def test_something_unforeseen_is_one_line_and_a_private_log(run: Run, home: Path) -> None:
    ran = run("ask", "x", reply=Script("half", ZeroDivisionError("deep inside")))
    assert ran.status == ExitStatus.FAILED
    assert ran.err.startswith("Unexpected error (ZeroDivisionError). The details are in ")
    assert "Traceback" not in ran.err
    (log,) = (home / ".local/state/bchat").glob("error-*.log")
    assert log.stat().st_mode & 0o777 == 0o600
    assert "deep inside" in log.read_text()


def test_debug_shows_the_traceback(run: Run, home: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        run("--debug", "ask", "x", reply=Script("half", ZeroDivisionError("deep inside")))
    assert not list(home.rglob("*.log"))


def test_without_a_log_the_error_names_debug(run: Run, home: Path) -> None:
    (home / ".local").write_text("a file")
    ran = run("ask", "x", reply=Script("half", ZeroDivisionError()))
    assert ran.err.endswith("(ZeroDivisionError). --debug shows the details. Your conversation is saved.\n")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize(
    "arguments",
    [["ask", "x"], ["ask", "x", "--json"], ["models"], ["where"], ["presets"], ["chat"], ["--help"], ["--version"]],
    ids=" ".join,
)
def test_a_full_disk_under_stdout_is_one_sentence(arguments: list[str], home: Path) -> None:
    """No unexpected error, so no log; and a chat with input from a file ends when its output is closed."""
    command = scripted(*arguments, replies=["one\n" * 5, "two"])
    said_to_it = b"a\nb\n" if arguments == ["chat"] else b""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command, input=said_to_it, stdout=full, stderr=subprocess.PIPE, env=env, check=False, timeout=60
        )
    assert done.returncode == 1
    said = [line for line in done.stderr.decode().splitlines() if "loading" not in line]
    assert said == ["Cannot write the output (the disk is full). Free some space, or redirect it elsewhere."]
    assert not list(home.rglob("error-*.log"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments", [["ask", "x"], ["ask", "x", "--json"], ["where"], ["--help"], ["--version"]], ids=" ".join
)
def test_a_closed_pipe_is_141_without_a_word(arguments: list[str]) -> None:
    """`bchat ask … | head -1`, after head has ended."""
    reading, writing = os.pipe()
    os.close(reading)
    command = scripted(*arguments, replies=["one\n" * 50])
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, env=env, check=False, timeout=60)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


def test_closed_standard_streams_are_no_error() -> None:
    """A file that is opened later does not become one of them."""
    for shell in ('"$@" <&-', '"$@" >&- 2>&- <&-'):
        done = program(["sh", "-c", shell, "sh", *scripted("ask", "x")])
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout in (b"", "はい。\n".encode())


# -- ask ----------------------------------------------------------------------------------------------


def test_the_reply_alone_goes_to_stdout(run: Run) -> None:
    ran = run("ask", "Good", "morning", reply="Hello.\nHow are you?")
    assert (ran.status, ran.out, ran.err) == (0, "Hello.\nHow are you?\n", "")


@pytest.mark.parametrize("arguments", [["ask", "-"], ["ask"]])
def test_the_question_may_come_from_a_pipe(run: Run, engines: list[ScriptedEngine], arguments: list[str]) -> None:
    """The whole input is one message, without its byte-order mark."""
    ran = run(*arguments, stdin="\ufeff二行の\n質問\n")
    assert ran.out == "Hello.\n"
    assert tokenizer().decode(engines[0].prompts[0]) == "ユーザー: 二行の\n質問\nシステム: "


@pytest.mark.parametrize("codec", ["cp932", "euc_jp", "iso2022_jp", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("form", ["pipe", "argument"])
def test_a_question_in_another_encoding_is_never_sent_garbled(
    run: Run, engines: list[ScriptedEngine], codec: str, form: str
) -> None:
    """It is refused, and the error names the option that reads it."""
    data = "猫は好きですか。".encode(codec)
    if form == "argument" and codec.startswith("utf-16"):
        return  # the bytes 0 end a word
    words, stdin = ([data.decode("utf-8", "surrogateescape")], b"") if form == "argument" else ([], data)
    refused = run("ask", *words, stdin=stdin)
    assert (refused.status, refused.out, engines) == (ExitStatus.DATA, "", [])
    [option] = re.findall(r"--encoding \S+", refused.err)
    assert run("ask", *option.split(), *words, stdin=stdin).out == "Hello.\n"
    assert "猫は好きですか。" in tokenizer().decode(engines[-1].prompts[-1])


def test_a_persona_in_another_encoding_is_refused(run: Run, engines: list[ScriptedEngine]) -> None:
    persona = "猫です".encode("cp932").decode("utf-8", "surrogateescape")
    assert "--encoding shift_jis" in run("ask", "--persona", persona, "Hello").err
    assert "--encoding shift_jis" in run("ask", "--set", f"stop={persona}", "Hello").err
    assert engines == []
    assert run("ask", "--encoding", "sjis", "--persona", persona, "Hello").status == 0
    assert "猫です" in tokenizer().decode(engines[-1].prompts[-1])


def test_an_unknown_encoding_is_refused_before_anything_is_read(run: Run, engines: list[ScriptedEngine]) -> None:
    for command in (["ask"], ["chat"], ["--encoding", "sjis", "ask"]):
        ran = run(*command, "--encoding", "shift-jiss", stdin="Hello\n")
        assert (ran.status, "shift_jis" in ran.err, ran.out) == (ExitStatus.USAGE, True, "")


def test_a_line_in_another_encoding_is_refused_and_later_lines_go_on(run: Run, engines: list[ScriptedEngine]) -> None:
    lines = ["一行目です".encode(), "猫です".encode("cp932"), "あい".encode("utf-16-le"), "四行目です".encode()]
    stdin = b"\n".join(lines[:2]) + b"\n" + lines[2] + b"\n\0" + lines[3] + b"\n"
    ran = run("chat", reply="Hello.", stdin=stdin)
    assert ran.status == ExitStatus.DATA
    assert re.findall(r"--encoding (\S+)", ran.err) == ["shift_jis", "utf-16le"]
    sent = [tokenizer().decode(prompt) for prompt in engines[0].prompts]
    assert [text.count("\n") for text in sent] == [1, 3]
    assert "四行目です" in sent[-1]
    assert not re.search("B0D0|\ufffd", sent[-1])


def test_a_chat_reads_a_pipe_in_the_encoding_that_is_named(run: Run, engines: list[ScriptedEngine]) -> None:
    for codec in ("shift_jis", "utf-16", "utf-16-be"):
        ran = run("--encoding", codec, stdin="猫です\r\n犬です\r\n".encode(codec))
        assert (ran.status, ran.err) == (0, "")
        assert "ユーザー: 犬です\nシステム" in tokenizer().decode(engines[-1].prompts[-1])


def test_models_are_verified_and_removed(run: Run) -> None:
    """Without downloads: the embedded model cannot be removed, and the other is not there."""
    assert "no downloaded models" in run("models", "--verify").err
    assert (run("models", "sft", "--verify").status, run("rm", "demo").status) == (ExitStatus.MODEL, ExitStatus.MODEL)
    assert "sft is not on this machine" in run("rm", "sft").err
    assert "not here" in run("models", "sft").out.split("\n")[3]


def test_the_device_is_one_of_four(run: Run) -> None:
    ran = run("ask", "x", "--device", "tpu")
    assert (ran.status, "auto, cpu, cuda, mps" in ran.err) == (ExitStatus.USAGE, True)


def test_logprobs_are_in_the_json_and_need_it(run: Run) -> None:
    """A server or a scripted engine knows no unmodified distribution: then its values are null."""
    ran = run("ask", "--json", "--logprobs", "Hi", reply="猫")
    tokens = ran.json["tokens"]
    assert "".join(each["token"] for each in tokens[:-1]) == "猫"
    assert bytes(byte for each in tokens[:-1] for byte in each["bytes"]).decode() == "猫"
    assert set(tokens[0]) == {
        *("id", "token", "bytes", "logprob_sampled", "logprob_model", "entropy", "rank", "top", "kept", "removed")
    }
    refused = run("ask", "--logprobs", "Hi")
    assert refused.status == ExitStatus.USAGE
    assert "--json" in refused.err


def test_json_has_everything_and_reads_back(run: Run) -> None:
    ran = run(
        "ask", "--json", "Hi", "--seed", "5", "--set", "temp=0.5", "--set", "top_p=0.9", reply="Hello.\n" + HOSTILE
    )
    assert list(ran.json) == [
        "reply",
        "begin",
        "finish_reason",
        "prompt",
        "prompt_ids",
        "reply_ids",
        "model",
        "precision",
        "device",
        "settings",
        "filters",
        "usage",
        "timings",
        "dropped_turns",
        "dropped_characters",
    ]
    assert ran.json["reply"] == "Hello.\n" + HOSTILE
    assert ran.json["finish_reason"] == "stop"
    assert ran.json["prompt"] == "ユーザー: Hi\nシステム: "
    assert tokenizer().decode(ran.json["prompt_ids"]) == ran.json["prompt"]
    assert tokenizer().decode(ran.json["reply_ids"]) == ran.json["reply"]
    assert ran.json["model"] == "demo"
    assert {name: ran.json["settings"][name] for name in ("temperature", "top_p", "seed")} == {
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 5,
    }
    assert set(ran.json["usage"]) == {"prompt_tokens", "cached_tokens", "completion_tokens"}
    assert ran.json["usage"]["completion_tokens"] == len(ran.json["reply_ids"])
    assert (ran.json["precision"], ran.json["device"]) == ("float32", "cpu")
    assert set(ran.json["timings"]) == {"first_token_s", "total_s", "tokens_per_second"}
    assert ran.json["dropped_turns"] == 0
    assert outward(ran.out) == ran.out
    assert "日本" in ran.out


def test_a_model_is_spoken_to_like_the_one_that_is_named(run: Run) -> None:
    """The files of the model do not name it: its format and its card's settings."""
    printed = run("ask", "--json", "x", "--like", "j-ppo").json
    assert printed["model"] == "demo"
    assert printed["prompt"] == "ユーザー: x<NL>システム: "
    assert (printed["settings"]["temperature"], printed["settings"]["repetition_penalty"]) == (0.7, 1.1)
    assert run("ask", "--json", "x", "--like", "base").json["prompt"] == "x"


def test_a_hostile_reply_is_shown_but_does_not_act(run: Run) -> None:
    assert run("ask", "Hi", reply=HOSTILE).out == outward(HOSTILE) + "\n"


def test_the_persona_and_an_earlier_conversation_come_before_the_question(
    run: Run, engines: list[ScriptedEngine], tmp_path: Path
) -> None:
    card = [{"speaker": "ユーザー", "text": "Hello."}, {"speaker": "システム", "text": "Hi."}]
    (tmp_path / "card.json").write_text(json.dumps(card))
    run("ask", "And now?", "--load", str(tmp_path / "card.json"))
    assert tokenizer().decode(engines[0].prompts[0]) == (
        "ユーザー: Hello.\nシステム: Hi.\nユーザー: And now?\nシステム: "
    )
    run("ask", "Who?", "--persona", "You are a cat.")
    assert tokenizer().decode(engines[1].prompts[0]).startswith("ユーザー: You are a cat.\nシステム: ")


def test_options_may_stand_before_or_after_the_command(run: Run, tmp_path: Path) -> None:
    """The nearer option wins; --set adds up."""
    before = run("--seed", "1", "--set", "top_k=3", "ask", "--json", "x")
    after = run("ask", "--json", "x", "--seed", "1", "--set", "top_k=3")
    assert before.json["settings"] == after.json["settings"]
    both = run("--seed", "1", "--set", "top_k=3", "ask", "--json", "--seed", "2", "--set", "top_p=0.5", "x")
    assert (both.json["settings"]["seed"], both.json["settings"]["top_k"], both.json["settings"]["top_p"]) == (
        2,
        3,
        0.5,
    )


def test_a_config_file_is_read_instead_of_the_usual_ones(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bchat.toml").write_text("[decoding]\ntop_k = 7\n")
    (tmp_path / "mine.toml").write_text('lang = "ja"\n[decoding]\ntop_p = 0.25\n')
    usual = run("ask", "--json", "x").json["settings"]
    mine = run("ask", "--json", "x", "--config", str(tmp_path / "mine.toml")).json["settings"]
    assert (usual["top_k"], mine["top_p"]) == (7, 0.25)
    assert mine["top_k"] != 7
    assert "質問を指定" in run("ask", "--config", str(tmp_path / "mine.toml")).err


# -- the other commands -------------------------------------------------------------------------------


def test_where_lists_places(run: Run, home: Path) -> None:
    rows = dict(line.split("\t") for line in run("where").out.splitlines())
    assert rows["conversations"] == str(home / ".local/share/bchat")
    assert rows["your settings"] == str(home / ".config/bchat/config.toml")


def test_presets_and_models_are_listed(run: Run) -> None:
    config = load_config(environment={})
    assert [line.split("\t")[0].strip() for line in run("presets").out.splitlines()] == list(config.presets)
    listed = [line.split("\t")[0].strip("* ") for line in run("models").out.splitlines()]
    assert listed == ["MODEL", *config.catalogue]


def test_transcripts_are_listed_shown_and_searched(run: Run, tmp_path: Path) -> None:
    """Case, width and kana are folded; `show` prints a document that --load takes, or the output of /export."""
    run(stdin="カタカナの話\n", reply="はい、" + HOSTILE)
    (line,) = run("transcripts").out.splitlines()
    assert line == run("transcripts", "list").out.strip("\n")
    identity = line.split("\t")[0]
    shown = run("transcripts", "show", "1")
    assert shown.out == run("transcripts", "show", identity).out
    assert [each["text"] for each in shown.json["utterances"]] == ["カタカナの話", "はい、" + HOSTILE]
    assert outward(shown.out) == shown.out
    (tmp_path / "shown.json").write_text(shown.out, encoding="utf-8")
    loaded = read_document(tmp_path / "shown.json")
    for suffix, write in FORMATS.items():
        printed = run("transcripts", "show", "1", "--as", suffix.removeprefix(".")).out
        assert outward(printed) == printed
        as_written = printed.encode() == write(loaded)
        assert as_written or json.loads(printed) == json.loads(write(loaded))  # JSON escapes what would act
    wrong = run("transcripts", "show", "1", "--as", "htm")
    assert (wrong.status, wrong.out) == (ExitStatus.USAGE, "")
    assert "json, md, html, jsonl" in wrong.err
    assert run("transcripts", "search", "かたかな").out.startswith(identity)
    assert run("transcripts", "search", "nothing").status == ExitStatus.DATA


def test_chat_with_a_pipe_is_a_plain_reader(run: Run) -> None:
    """By its name too; errors and notices go to stderr; the first failing line decides the status."""
    for arguments in ([], ["chat"]):
        ran = run(*arguments, stdin="Hi\n/nosuch\n")
        assert (ran.status, ran.out) == (2, "Hello.\n")
        assert "There is no command /nosuch" in ran.err


def test_chat_goes_on_from_a_file(run: Run, engines: list[ScriptedEngine], tmp_path: Path) -> None:
    (tmp_path / "card.json").write_text('[{"speaker": "ユーザー", "text": "a"}, {"speaker": "システム", "text": "b"}]')
    ran = run("--load", str(tmp_path / "card.json"), stdin="c\n")
    assert "Continuing after 1 turn." in ran.err
    assert tokenizer().decode(engines[0].prompts[0]) == "ユーザー: a\nシステム: b\nユーザー: c\nシステム: "


def test_unread_standard_input_is_reported(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("ask", "Hi").err == ""
    monkeypatch.setattr(chat, "_has_unread_bytes", lambda file: True)
    assert run("ask", "Hi").err == "Ignored the input on stdin. To read it, pass - instead of the text.\n"
    assert run("ask", "-", stdin="Hi").err == ""


def test_whether_standard_input_holds_something_is_known_without_waiting() -> None:
    """An open pipe without data, one with data, a closed empty one; and no pipe."""
    reading, writing = os.pipe()
    with os.fdopen(reading) as pipe:
        assert not chat._has_unread_bytes(pipe)
        os.write(writing, b"extra\n")
        assert chat._has_unread_bytes(pipe)
        assert pipe.readline() == "extra\n", "nothing was taken"
        os.close(writing)
        assert not chat._has_unread_bytes(pipe)
    with Path(os.devnull).open() as nothing:
        assert not chat._has_unread_bytes(nothing)
    assert not chat._has_unread_bytes(None)
    assert not chat._has_unread_bytes(pipe), "closed"


UNANSWERED = (
    '[{"speaker": "ユーザー", "text": "a"}, {"speaker": "システム", "text": "b"}, {"speaker": "ユーザー", "text": "c"}]'
)


def test_an_unanswered_last_message_of_a_file_is_answered_or_reported_as_left_out(
    run: Run, engines: list[ScriptedEngine], tmp_path: Path
) -> None:
    card = tmp_path / "card.json"
    card.write_text(UNANSWERED)
    before = "ユーザー: a\nシステム: b\nユーザー: "
    answered = run("ask", "--load", str(card))
    assert (answered.status, answered.out, answered.err) == (0, "Hello.\n", "")
    assert tokenizer().decode(engines[-1].prompts[0]) == f"{before}c\nシステム: "
    left_out = run("ask", "--load", str(card), "d")
    assert left_out.err == "The file's last message has no reply, so it was dropped.\n"
    assert tokenizer().decode(engines[-1].prompts[0]) == f"{before}d\nシステム: "
    assert run("ask", "--load", str(card), "-").status == ExitStatus.USAGE, "standard input was asked for, and empty"


def test_on_a_pipe_the_notice_names_the_command_that_answers_a_pending_message(
    run: Run, engines: list[ScriptedEngine], tmp_path: Path
) -> None:
    """It belongs to no line."""
    (tmp_path / "card.json").write_text(UNANSWERED)
    for arguments, lines in ((["--load", "card.json"], "/retry\n"), ([], "/load card.json\n/retry\n")):
        ran = run(*arguments, stdin=lines)
        assert "The last message has no reply yet; /retry asks for one." in ran.err
        assert ran.out.endswith("Hello.\n")
        assert tokenizer().decode(engines[-1].prompts[0]).endswith("ユーザー: c\nシステム: ")


def test_on_a_terminal_an_unanswered_message_is_in_the_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "card.json").write_text(UNANSWERED)
    person = Person()
    monkeypatch.setattr(chat, "_open_reader", lambda *_: person)
    assert "It is in the input line" in run("--load", "card.json").err
    assert person.prefills == ["c"]


def test_the_version(run: Run) -> None:
    assert run("--version").out == f"bchat {__version__}\n"


def test_python_m_is_bchat() -> None:
    done = program(real("--version"))
    assert (done.returncode, done.stdout) == (0, f"bchat {__version__}\n".encode())


def test_a_completion_script_can_be_shown_and_completes() -> None:
    """typer asks for the shell of its parent process."""
    shown = program(["bash", "-c", '"$@"; exit', "bash", *real("--show-completion")])
    assert b"_BCHAT_COMPLETE=complete_bash" in shown.stdout
    asked = program(real(), _BCHAT_COMPLETE="complete_bash", COMP_WORDS="bchat tr", COMP_CWORD="1")
    assert asked.stdout.split() == [b"transcripts"]


# -- languages ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "variables"),
    [
        (["--lang", "ja"], {}),
        (["--lang=ja"], {}),
        ([], {"LANG": "ja_JP.UTF-8"}),
        ([], {"BCHAT_LANG": "ja"}),
        (["--lang", "ja"], {"LANG": "en_US.UTF-8", "BCHAT_LANG": "en"}),
    ],
)
def test_japanese_by_option_variable_or_locale(
    run: Run, arguments: list[str], variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Errors, tables, and the help of every command."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    help_ = run(*arguments, "ask", "--help").out
    assert "返答をひとつ標準出力に書く。" in help_
    assert "このヘルプを表示する。" in help_
    assert "会話\t" in run(*arguments, "where").out
    assert "質問を指定してください" in run(*arguments, "ask").err
    assert "使い方：bchat --help" in run(*arguments, "nosuch").err


def test_no_key_of_the_table_is_left_in_the_help(run: Run) -> None:
    for arguments in ([], ["chat"], ["ask"], ["presets"], ["models"], ["pull"], ["where"], ["transcripts", "show"]):
        for lang in ("en", "ja"):
            shown = run("--lang", lang, *arguments, "--help").out
            assert "option." not in shown
            assert "cli." not in shown


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "cp932"])
def test_an_encoding_that_lacks_characters_gets_replacements(encoding: str) -> None:
    done = program(scripted("ask", "x", replies=["é𠮷🦄 ok"]), PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stdout) == (0, b"??? ok\n")


def test_japanese_help_on_an_ascii_stdout() -> None:
    done = program(real("--lang", "ja", "--help"), PYTHONIOENCODING="ascii")
    assert done.returncode == 0


# -- the start ----------------------------------------------------------------------------------------


def test_help_and_version_import_nothing_that_takes_time() -> None:
    """Not even bchat's own rooms, except messages and the modules that typer needs."""
    for arguments in (["--help"], ["--version"], ["ask", "--help"]):
        probe = f"""
import sys
sys.argv = ["bchat", *{arguments!r}]
command_line.main()
print(*sys.modules, file=sys.stderr)
"""
        done = program([sys.executable, "-c", probe])
        loaded = set(done.stderr.decode().split())
        assert not loaded & {"torch", "transformers", "sentencepiece", "huggingface_hub", "rich.console"}
        assert not loaded & {
            "prompt_toolkit",
            "wcwidth",
            "bilingual_chat.terminal.display",
            "bilingual_chat.settings.config",
        }


def test_the_prompt_imports_no_torch_before_it_is_shown() -> None:
    probe = """
import sys
from bilingual_chat.terminal import repl, editor
from bilingual_chat.cli import chat, command_line
print(*sys.modules)
"""
    loaded = set(program([sys.executable, "-c", probe]).stdout.decode().split())
    assert not loaded & {"torch", "numpy", "transformers", "sentencepiece", "huggingface_hub", "rich.console"}


def test_options_before_the_command_fill_only_what_is_not_said() -> None:
    outer = options.Options(model="a", set=["x=1"], debug=True)
    inner = options.Options(preset="p", set=["y=2"], seed="3")
    assert inner.over(outer) == options.Options(model="a", preset="p", set=["x=1", "y=2"], seed="3", debug=True)
    assert inner.over(None) is inner


@pytest.mark.slow
def test_the_same_seed_gives_the_same_reply() -> None:
    """With the demo model; another seed may give the same reply, but its record differs."""
    first, second = (
        json.loads(program(real("ask", "--json", "Hello", "--seed", "7", "--set", "temperature=1")).stdout)
        for _ in "12"
    )
    assert first["reply_ids"] == second["reply_ids"]
    assert first["settings"]["seed"] == 7


# -- pull ---------------------------------------------------------------------------------------------


@pytest.fixture
def tiny(served: Hub, tmp_path: Path) -> list[str]:
    """Options that name the model of the loopback hub."""
    (tmp_path / "tiny.toml").write_text('[models.tiny]\nhub_id = "someone/tiny"\n')
    return ["--config", str(tmp_path / "tiny.toml")]


def test_pull_shows_the_size_and_the_next_command(run: Run, tiny: list[str]) -> None:
    ran = run(*tiny, "pull", "tiny")
    assert ran.status == 0
    first, *steps, last = ran.err.splitlines()
    assert first.startswith("Downloading tiny into ~/.cache/huggingface/hub: 301 kB of 301 kB, ")
    assert " · all: 100 % of 301 kB" in steps[-1]
    assert last == "tiny is downloaded and verified. Chat with it: bchat --model tiny"
    again = run(*tiny, "pull", "tiny")
    assert (again.status, again.err) == (0, "tiny is already here. Chat with it: bchat --model tiny\n")


def test_the_tokenizer_alone_is_enough_for_a_model_on_a_server(run: Run, tiny: list[str], served: Hub) -> None:
    ran = run(*tiny, "pull", "tiny", "--tokenizer")
    assert ran.status == 0
    assert {line.rpartition("/")[2] for line in served.contents_asked()} == {
        "config.json",
        "spiece.model",
        "tokenizer_config.json",
    }
    entry = ModelEntry("tiny", hub_id="someone/tiny")
    assert catalogue.locate(entry) is None
    assert (catalogue.require_here(replace(entry, server="http://x")) / "spiece.model").is_file()
    assert run(*tiny, "pull", "tiny").status == 0
    assert catalogue.locate(entry) is not None


def test_withdrawn_weights_are_fetched_only_when_that_is_asked_for(
    run: Run, tiny: list[str], served: Hub, tmp_path: Path
) -> None:
    """The error names an option, and this command has it."""
    del served.files["model.safetensors"]
    md5 = hashlib.md5(served.files["pytorch_model.bin"]).hexdigest()
    with (tmp_path / "tiny.toml").open("a") as file:
        file.write(f'withdrawn_md5 = ["{md5}"]\n')
    ran = run(*tiny, "pull", "tiny")
    assert ran.status == 3
    assert "--accept-withdrawn" in ran.err.splitlines()[-1]
    assert run(*tiny, "pull", "tiny", "--accept-withdrawn").status == 0


def test_ctrl_c_during_a_pull_reports_the_kept_part_and_the_next_pull_resumes(
    run: Run, tiny: list[str], served: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.hold_after["model.safetensors"] = 150_000
    progress = Display.progress

    def impatient(self: Display, now: Progress) -> None:
        progress(self, now)
        if now.done > 100_000:
            raise KeyboardInterrupt

    monkeypatch.setattr(Display, "progress", impatient)
    ran = run(*tiny, "pull", "tiny")
    assert ran.status == 130
    assert ran.err.splitlines()[-1] == ("Stopped. `bchat pull tiny` resumes the download.")
    monkeypatch.setattr(Display, "progress", progress)
    served.hold_after.clear()
    served.go_on.set()
    ran = run(*tiny, "pull", "tiny")
    assert ran.status == 0
    assert re.match(r"Downloading tiny into \S+: 1\d\d kB of 301 kB, ", ran.err)


def test_ctrl_c_while_python_imports_is_an_end_like_any_other() -> None:
    code = """
import os, signal, sys
class Interrupted:
    def find_spec(self, name, *_):
        if name == "bilingual_chat.cli":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupted())
from bilingual_chat.__main__ import bchat
sys.exit(bchat())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


# -- advice and help fit the place --------------------------------------------------------------------


def every_command() -> list[list[str]]:
    def below(command: Any, path: list[str]) -> list[list[str]]:
        return [
            path,
            *(each for name, sub in getattr(command, "commands", {}).items() for each in below(sub, [*path, name])),
        ]

    return below(typer.main.get_command(command_line.app), [])


@pytest.mark.parametrize("command", every_command(), ids=" ".join)
def test_h_is_help(run: Run, command: list[str]) -> None:
    short, long = run(*command, "-h"), run(*command, "--help")
    assert (short.status, short.err) == (0, "")
    assert short.out == long.out
    assert "-h, --help" in short.out


@pytest.mark.parametrize("setting", [*decoding.RANGES, *decoding.ALIASES])
def test_every_setting_written_as_an_option_is_pointed_to_set(run: Run, setting: str) -> None:
    ran = run("ask", "x", f"--{setting.replace('_', '-')}", "1")
    if setting != "seed":  # which is an option
        assert f"--set {decoding.resolve_name(setting)}=1" in ran.err


def test_the_remedy_for_a_cut_reply_in_the_shell_is_an_option(run: Run) -> None:
    ran = run("ask", "x", "--set", "max_new_tokens=1")
    assert "--set max_new_tokens=N" in ran.err
    assert " /" not in ran.err


def test_the_remedy_for_a_cut_reply_in_a_chat_is_a_command(run: Run) -> None:
    ran = run("--set", "max_new_tokens=1", stdin="x\n")
    assert "/max_new_tokens raises" in ran.err
    assert "--set" not in ran.err


def test_what_belongs_to_the_shell_is_known_in_the_chat() -> None:
    """Every command and option without a slash command, and nothing else."""
    app = typer.main.get_command(command_line.app)
    options = {param.name for param in app.params} - {"set_", "install_completion", "show_completion"}
    names = {*app.commands, *options}  # type: ignore[attr-defined]
    here = {name for command in COMMANDS for name in (command.name, *command.aliases)}
    assert set(OF_SHELL) == names - here


@pytest.mark.parametrize("lang", messages.LANGUAGES)
def test_a_persona_that_the_model_cannot_follow_is_remarked_on(run: Run, lang: str) -> None:
    ran = run("ask", "x", "--model", "demo", "--persona", "You are a cat.", "--lang", lang)
    assert messages.render("persona.not-followed", lang, name="demo") in ran.err
    assert messages.render("persona.not-followed", lang, name="demo") not in run("ask", "x", "--model", "demo").err
