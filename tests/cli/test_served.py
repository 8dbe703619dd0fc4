"""bchat with a model on a server: options, tables, records, and a whole chat on a terminal."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bilingual_chat.cli import command_line
from bilingual_chat.engines.protocol import OpenOptions
from bilingual_chat.session.compare import Variant, compare
from bilingual_chat.session.model import open_model
from bilingual_chat.session.served import find_served
from bilingual_chat.session.session import Session
from bilingual_chat.settings.config import load_config, settings_for
from bilingual_chat.settings.decoding import DecodingParameters
from tests.fresh_python import loaded_after
from tests.loopback_server import Answer, Served, replying, serve
from tests.runs import Ran, real
from tests.scripted import drain, tokenizer

KEY = "sk-very-secret"
RunHere = Callable[..., Ran]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> RunHere:
    """bchat in this process, with engines of its own."""

    def run(*arguments: str) -> Ran:
        monkeypatch.setattr(sys, "argv", ["bchat", *arguments])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("元気？\n".encode())))
        status = command_line.main()
        return Ran(status, *capsys.readouterr())

    return run


@pytest.fixture
def server() -> Iterator[Served]:
    with serve(Served(reply_to=replying("はい、元気です。", "いいえ。", "ええ。"))) as served:
        yield served


def lab(tmp_path: Path, server: Served, *lines: str) -> list[str]:
    path = tmp_path / "lab.toml"
    path.write_text("\n".join([f'[servers.lab]\nurl = "{server.url}/v1"', *lines]), encoding="utf-8")
    return ["--config", str(path)]


def test_one_reply_of_a_server_is_printed_and_its_limits_are_said(run: RunHere, server: Served) -> None:
    ran = run("ask", "--server", server.url, "元気？")
    assert (ran.status, ran.out) == (0, "はい、元気です。\n")
    assert "token ids are exact" in ran.err
    prompt = tokenizer().decode(server.bodies[-1]["prompt"])
    assert prompt == "ユーザー: 元気？\nシステム: "


def test_a_record_names_the_server_and_what_it_cannot_do(run: RunHere, server: Served) -> None:
    record = run("ask", "--server", server.url, "--json", "元気？").json
    assert record["server"] == {"url": server.url, "model": "demo", "can_replay": False, "has_distributions": False}
    assert (record["model"], record["precision"], record["device"]) == ("demo", "served", server.url)
    assert record["reply_ids"] == tokenizer().encode("はい、元気です。")


@pytest.mark.parametrize(
    ("lines", "options"),
    [
        ([], ["--server", "lab"]),
        (['model = "demo"'], ["--server", "LAB"]),
        (['served_model = "demo"'], ["--server", "lab", "--model", "demo"]),
        (["[models.demo]", 'server = "lab"'], ["--model", "demo"]),
        (["[models.demo]", 'server = "lab"'], []),
    ],
)
def test_a_server_has_a_name_and_a_model_has_a_server(
    run: RunHere, server: Served, tmp_path: Path, lines: list[str], options: list[str]
) -> None:
    assert run(*lab(tmp_path, server, *lines), *options, "ask", "元気？").out == "はい、元気です。\n"


@pytest.mark.parametrize(
    ("models", "options", "status", "said"),
    [
        ([{"id": "x", "root": "/a/x"}], [], 3, "computes x, which bchat does not know"),
        ([{"id": "rinna/Bilingual-GPT-neox-4b"}], [], 3, "bchat pull base --tokenizer"),
        ([{"id": "ppo"}], ["--model", "demo"], 3, "computes other models: ppo"),
        ([{"id": "x"}], ["--model", "demo"], 0, "token ids are exact"),
        ([{"id": "demo"}], ["--set", "top_k=0", "--model", "clam"], 3, "clam"),
    ],
)
def test_the_model_of_a_server_is_known_by_its_name_there(
    run: RunHere, server: Served, models: Any, options: list[str], status: int, said: str
) -> None:
    server.models = models
    ran = run("ask", "--server", server.url, *options, "元気？")
    assert (ran.status, said in ran.err) == (status, True), ran.err


@pytest.mark.parametrize("names", ["lab,gone", "gone、lab", "all", "http://127.0.0.1:1,lab"])
def test_of_several_servers_those_that_are_down_are_left_out_with_a_sentence(
    run: RunHere, server: Served, tmp_path: Path, names: str
) -> None:
    down = ["[servers.gone]", 'url = "http://127.0.0.1:1"']
    ran = run(*lab(tmp_path, server, *down), "ask", "--server", names, "--model", "demo", "--json", "元気？")
    assert ran.status == 0, ran.err
    assert ran.json["reply"] == "はい、元気です。"
    assert ran.json["server"]["url"] == server.url
    assert "Cannot reach http://127.0.0.1:1 " in ran.err
    assert "The other servers do its work." in ran.err


def test_if_all_servers_are_down_that_is_the_error(run: RunHere) -> None:
    ran = run("ask", "--server", "http://127.0.0.1:1,http://127.0.0.1:2", "--model", "demo", "Hi")
    assert ran.status == 3
    assert "Cannot reach" in ran.err


def test_a_name_that_no_server_has_is_refused_with_the_nearest(run: RunHere, server: Served, tmp_path: Path) -> None:
    ran = run(*lab(tmp_path, server), "ask", "--server", "lba", "Hi")
    assert ran.status == 2
    assert "Did you mean lab?" in ran.err


@pytest.mark.parametrize("key", ["", "sk-wrong", KEY])
def test_a_key_is_nowhere_but_in_the_request(
    run: RunHere, server: Served, home: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    server.key = KEY
    monkeypatch.setenv("BCHAT_API_KEY", key)
    ran = run("chat", "--server", server.url, "--debug")
    shown = (
        ran.out + ran.err + "".join(path.read_text("utf-8", "replace") for path in home.rglob("*") if path.is_file())
    )
    assert "sk-" not in shown
    assert ("BCHAT_API_KEY" in ran.err) == (key != KEY)
    assert {each for each in server.keys if each} == ({f"Bearer {key}"} if key else set())


def test_a_hostile_error_of_a_server_is_shown_but_does_not_act(run: RunHere, server: Served) -> None:
    hostile = json.dumps({"error": {"message": "\x1b]52;c;eA==\x07\x1b[31m[red]\u202e no"}}).encode()
    server.reply_to = lambda body: Answer([hostile], 400, "application/json")
    ran = run("ask", "--server", server.url, "Hi")
    assert ran.status == 3
    assert "[red]" in ran.err
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", ran.err)


@pytest.mark.slow
def test_a_server_needs_no_torch(server: Served) -> None:
    """A laptop that only speaks to a server starts in the time that the tokenizer takes."""
    statement = (
        f"import sys; sys.argv = ['bchat', 'ask', '--server', '{server.url}', 'Hi']; "
        "from bilingual_chat.cli.command_line import main; sys.exit(main())"
    )
    assert not loaded_after(statement) & {"torch", "numpy", "transformers", "huggingface_hub"}


def test_replies_are_compared_on_a_server_at_once(server: Served) -> None:
    config = load_config(environment={})
    entry = find_served(server.url, None, config)
    model = open_model(entry, OpenOptions(others=tuple(config.catalogue.values())))
    session = Session(lambda: model, settings_for(config, entry), entry=entry, directory=None)
    drain(session.reply("元気？"))
    server.reply_to = replying("いいえ。", "いいえ。")
    variants = [Variant(f"seed {seed}", DecodingParameters(seed=seed)) for seed in (1, 2)]
    assert len({event.index for event in compare(session, variants)}) == 2
    assert [reply.reply for reply in session.replies] == ["はい、元気です。", "いいえ。", "いいえ。"]
    assert [body["seed"] for body in sorted(server.bodies[-2:], key=lambda body: body["seed"])] == [1, 2]
    assert all(reply.details["server"]["url"] == server.url for reply in session.replies)


def test_a_sweep_runs_on_servers_and_names_them(run: RunHere, server: Served, tmp_path: Path) -> None:
    """Unknown measures are null, never NaN, which is no JSON."""
    server.reply_to = replying(*["はい。"] * 8)
    (tmp_path / "q.txt").write_text("元気？\n眠い？\n", encoding="utf-8")
    both = f"{server.url},{server.url.replace('127.0.0.1', 'localhost')}"
    arguments = ["--server", both, "--grid", "top_k=1,2", "--set", "temperature=1", "--seeds", "2"]
    ran = run("sweep", str(tmp_path / "q.txt"), *arguments, "-o", str(tmp_path / "out"))
    assert ran.status == 0, ran.err
    rows = [json.loads(line) for line in (tmp_path / "out" / "replies.jsonl").read_text("utf-8").splitlines()]
    assert [row["reply"] for row in rows] == ["はい。"] * 8
    assert {row["logprob_sampled"] for row in rows} == {None}
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text("utf-8"))
    assert manifest["model"]["server"]["can_replay"] is False
    assert manifest["model"]["device"] == both.replace(",", ", ")


@pytest.mark.slow
def test_a_whole_chat_with_a_server_on_a_terminal(server: Served, home: Path) -> None:
    """Banner, status line, limits said once, Ctrl-C stops the server, the next reply comes."""
    pytest.importorskip("pexpect")
    from tests.pseudo_terminal import CTRL_C, ENTER, Terminal, at_prompt, is_loaded, turns

    server.reply_to = replying("一二三四五六七八九十" * 5, "はい。", pause_s=0.05)
    terminal = Terminal(real("--server", server.url, "--lang", "en"))
    terminal.wait_for(is_loaded)
    assert f"Model demo on the server {server.url}" in terminal.text
    assert f"demo@127.0.0.1:{server.url.rpartition(':')[2]}" in terminal.lines[-1]
    terminal.type("数えて" + ENTER)
    terminal.wait_for("一二三")
    terminal.type(CTRL_C)
    terminal.wait_for(at_prompt)
    terminal.ask("もう一度", "はい。")
    assert terminal.text.count("token ids are exact") == 1
    assert terminal.quit() == 0
    (first, second) = turns(home)
    assert (first[0], first[2]) == ("数えて", "interrupted")
    assert second == ("もう一度", "はい。", "stop")
