"""Whole sweeps of the embedded model: against `complete` one by one, after kills, and as a table for other programs."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from bilingual_chat.cli import sweep as cli
from bilingual_chat.explore import scoring
from bilingual_chat.explore.sweep import seed_of
from bilingual_chat.session import model as session_model
from bilingual_chat.session.model import Model, open_model
from bilingual_chat.settings.catalogue import ModelEntry
from bilingual_chat.settings.decoding import RANGES, DecodingParameters, checked
from bilingual_chat.storage import paths
from bilingual_chat.text.conversation import FinishReason
from tests.runs import Ran, Run, program, real
from tests.scripted import Script, ScriptedEngine, tokenizer

PROMPTS = "Hello!\nWhat is the capital of France?\nこんにちは。\n曜日を英語で言ってください。\n"
GRID = ("--grid", "temperature=0,0.8,1.5", "top_p=0.9,1", "-s", "max_new_tokens=24")
SETTINGS = tuple(name for name in RANGES if name != "seed")


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "questions.txt"
    path.write_text(PROMPTS, "utf-8")
    return path


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> list[ScriptedEngine]:
    """The engines that sweeps get instead of the embedded model's; they say "はい。"."""
    opened: list[ScriptedEngine] = []

    def open_scripted(entry: ModelEntry, *how: object) -> Model:
        opened.append(ScriptedEngine())
        return Model(entry, tokenizer(), opened[-1])

    monkeypatch.setattr(session_model, "open_model", open_scripted)
    return opened


def replies(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "replies.jsonl").read_text("utf-8").split("\n")[:-1]]


def manifest(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((directory / "manifest.json").read_text("utf-8"))
    return found


def swept(*arguments: str) -> Ran:
    done = program(real("sweep", "--model", "demo", *arguments))
    return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())


def repeatable(records: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The records by id, without what a second run measures anew: times, and rounding that depends on neighbours."""
    left_out = ("seconds", "width", "logprob_sampled", "logprob_model", "entropy_mean")
    return {each["id"]: {k: v for k, v in each.items() if k not in left_out} for each in records}


@pytest.mark.slow
def test_each_reply_is_what_ask_gives_with_the_same_settings_and_seed(prompts: Path, tmp_path: Path) -> None:
    """The slow way: one by one, and the prompts of `ask --json`."""
    ran = swept(str(prompts), *GRID, "--seeds", "2", "--persona", "あなたは先生です。", "-o", str(tmp_path / "s"))
    assert (ran.status, ran.out) == (0, "")
    found = replies(tmp_path / "s")
    assert len(found) == len({each["id"] for each in found}) == 4 * (2 * 1 + 4 * 2)
    engine = open_model(ModelEntry("demo", directory=str(paths.demo_model_dir()))).engine
    for each in found:
        values = {name: checked(name, each[name]) for name in SETTINGS}
        parameters = DecodingParameters(**values, seed=each["seed"])
        chunks = list(engine.complete(each["prompt_ids"], parameters))
        said = [chunk for chunk in chunks if chunk.finish is not FinishReason.STOP]
        assert [chunk.token_id for chunk in said] == each["ids"]
        assert each["logprob_sampled"] == pytest.approx(math.fsum(chunk.logprob for chunk in said), abs=1e-3)
        assert each["finish"] == str(chunks[-1].finish)
    asked = program(real("ask", "--model", "demo", "--json", "--persona", "あなたは先生です。", PROMPTS.split("\n")[2]))
    one = next(each for each in found if each["prompt_id"] == "3" and each["temperature"] == 0)
    assert json.loads(asked.stdout)["prompt_ids"] == one["prompt_ids"]


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_after_each_kill_the_next_run_goes_on_and_computes_nothing_twice(prompts: Path, tmp_path: Path) -> None:
    arguments = (str(prompts), *GRID, "--seeds", "3", "--width", "3")
    directory, whole = tmp_path / "killed", tmp_path / "whole"
    file = directory / "replies.jsonl"
    kept: list[bytes] = []
    for kill in range(1, 5):
        env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        command = real("sweep", "--model", "demo", *arguments, "-o", str(directory))
        process = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < until:
            if file.exists() and file.read_bytes().count(b"\n") >= 9 * kill:
                break
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        lines = file.read_bytes().splitlines(keepends=True)
        assert lines[: len(kept)] == kept, "what was there stays as it is"
        kept = [line for line in lines if line.endswith(b"\n")]
    ran = swept(*arguments, "-o", str(directory))
    assert f"there already: {len(kept)} of 56." in ran.err
    assert file.read_bytes().splitlines(keepends=True)[: len(kept)] == kept
    found = replies(directory)
    assert len(found) == len({each["id"] for each in found}) == 56
    assert swept(*arguments, "-o", str(whole)).status == 0
    assert repeatable(found) == repeatable(replies(whole))
    again = swept(*arguments, "-o", str(whole))
    assert "there already: 56 of 56." in again.err


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="SIGINT")
def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(prompts: Path, tmp_path: Path) -> None:
    file, many = tmp_path / "s" / "replies.jsonl", ("--seeds", "900", "--set", "temperature=1")
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = real("sweep", "--model", "demo", str(prompts), *many, "-o", str(tmp_path / "s"))
    process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE)
    until = time.monotonic() + 60
    while not (file.exists() and file.read_bytes().count(b"\n") >= 3) and time.monotonic() < until:
        time.sleep(0.01)
    busy = swept(str(prompts), *many, "-o", str(tmp_path / "s"))
    assert (busy.status, busy.err.count("\n")) == (4, 1)
    assert "Another bchat" in busy.err
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    count = len(replies(tmp_path / "s"))
    assert f"kept: {count} of 3600. The same command goes on from there." in err.decode()
    assert b"Traceback" not in err


def test_replies_are_a_table_for_pandas(prompts: Path, tmp_path: Path, run: Run, scripted: list[Any]) -> None:
    """pandas is no dependency: the test runs where it is installed."""
    pandas = pytest.importorskip("pandas")
    run("sweep", str(prompts), *GRID, "-o", str(tmp_path / "s"))
    table = pandas.read_json(tmp_path / "s" / "replies.jsonl", lines=True, dtype={"prompt_id": str})
    assert len(table) == 24
    assert set(table.groupby(["temperature", "top_p"]).size()) == {4}
    assert table["tokens"].equals(table["ids"].map(len))
    assert table["id"].is_unique


def test_what_the_files_say_is_complete(prompts: Path, tmp_path: Path, run: Run, scripted: list[Any]) -> None:
    assert run("sweep", str(prompts), *GRID, "--seeds", "3", "--seed", "5", "-o", str(tmp_path / "s")).status == 0
    about = manifest(tmp_path / "s")
    assert about["kind"] == "bchat-sweep"
    assert (about["prompts"]["count"], about["seeds"], about["base_seed"]) == (4, 3, 5)
    assert about["varied"] == ["temperature", "top_p"]
    assert about["fixed"]["top_k"] == 50, "stays active while top_p is swept"
    assert about["cells"][0]["label"] == "temperature=0 top_p=0.9"
    assert all(set(each["settings"]) == set(SETTINGS) for each in about["cells"])
    found = replies(tmp_path / "s")
    assert {(each["cell"], each["prompt_id"]): None for each in found}.keys() == {
        (cell, str(line)) for cell in range(6) for line in (1, 2, 3, 4)
    }
    for each in found:
        assert {name: each[name] for name in SETTINGS} == about["cells"][each["cell"]]["settings"]
        assert each["seed"] == seed_of(5, each["prompt_id"], each["replicate"])
        assert each["tokens"] == len(each["ids"])
    assert {each["replicate"] for each in found if each["temperature"] == 0} == {0}
    assert {each["replicate"] for each in found if each["temperature"] > 0} == {0, 1, 2}


def test_a_prompt_gets_the_same_seeds_in_every_cell_and_every_order() -> None:
    assert seed_of(0, "a", 1) == seed_of(0, "a", 1)
    assert len({seed_of(base, prompt, 0) for base in (0, 1) for prompt in ("a", "b", "1", "10")}) == 8
    assert all(0 <= seed_of(0, "a", each) < 2**32 for each in range(100))


def test_more_seeds_compute_only_what_is_new(prompts: Path, tmp_path: Path, run: Run, scripted: list[Any]) -> None:
    for seeds, new in ((1, 8), (3, 16), (3, 0)):
        run("sweep", str(prompts), "--grid", "temperature=0.5,1", "--seeds", str(seeds), "-o", str(tmp_path / "s"))
        assert len(scripted[-1].prompts) == new


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ((), 2, "PROMPTS"),
        (("q.txt", "r.txt"), 2, "one file"),
        (("q.txt", "temperature=1"), 2, "one file"),
        (("q.txt", "--grid", "temperature=0:1:0.0000001"), 2, "limit"),
        (("q.txt", "--grid", "temperature=1", "top_q=1"), 2, "top_p"),
        (("q.txt", "--one-at-a-time"), 2, "needs a grid"),
        (("q.txt", "--seeds", "0"), 2, "--seeds"),
        (("q.txt", "--seeds", "10000", "--grid", "top_k=1:100:1", "temperature=1"), 2, "4,000,000"),
        (("q.txt", "--limit", "-1"), 2, "--limit"),
        (("q.txt", "--score", "exact"), 4, "Line 1"),
        (("q.txt", "--score", "exat"), 2, "exact"),
        (("q.txt", "--settings", "none.toml"), 4, "none.toml"),
        (("q.txt", "-o", "q.txt"), 1, "q.txt"),
        (("long.txt",), 4, "line 2"),
    ],
)
def test_what_cannot_be_swept_is_one_sentence_and_leaves_no_directory(
    prompts: Path, tmp_path: Path, run: Run, scripted: list[Any], arguments: tuple[str, ...], status: int, words: str
) -> None:
    prompts.rename(tmp_path / "q.txt")
    (tmp_path / "r.txt").write_text("a", "utf-8")
    (tmp_path / "long.txt").write_text("a\n" + "長い文章です。" * 4000, "utf-8")
    for lang in ("en", "ja"):
        ran = run("sweep", *arguments, "--lang", lang)
        assert ran.status == status
        assert ran.err.replace("opening the model …\n", "").count("\n") <= 3
        if lang == "en":
            assert words in " ".join(ran.err.split())
    left = [each for each in tmp_path.iterdir() if each.is_dir() and any(each.iterdir())]
    assert not left


def test_a_score_is_beside_each_reply(tmp_path: Path, run: Run, scripted: list[Any]) -> None:
    path = tmp_path / "q.jsonl"
    lines = [{"prompt": "はい？", "reference": "はい。"}, {"prompt": "いいえ？", "reference": "いいえ。"}]
    path.write_text("\n".join(map(json.dumps, lines)), "utf-8")
    run("sweep", str(path), "--score", "exact", "-o", str(tmp_path / "s"))
    assert {each["prompt_id"]: (each["score"], each["reference"]) for each in replies(tmp_path / "s")} == {
        "1": (1.0, "はい。"),
        "2": (0.0, "いいえ。"),
    }
    assert manifest(tmp_path / "s")["score"] == {"name": "exact", "higher_is_better": True}


def test_a_scorer_that_fails_keeps_the_replies_that_it_has_scored(
    prompts: Path, tmp_path: Path, run: Run, scripted: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "score.py"
    script.write_text("import sys\nfor n, line in enumerate(sys.stdin):\n    print(n if n < 2 else 'x')\n", "utf-8")
    monkeypatch.setattr(scoring, "TIMEOUT_S", 30.0)
    arguments = ("sweep", str(prompts), "--score", f"{sys.executable} {script}", "-o", str(tmp_path / "s"))
    ran = run(*arguments)
    assert (ran.status, len(replies(tmp_path / "s"))) == (1, 2)
    assert "'x'" in ran.err
    assert "kept: 2 of 4" in ran.err
    script.write_text("import sys\nfor line in sys.stdin:\n    print(1)\n", "utf-8")
    assert run(*arguments).status == 0
    assert [each["score"] for each in replies(tmp_path / "s")] == [0, 1, 1, 1]


def test_a_corrected_scorer_takes_the_directory_of_one_that_scored_nothing(
    prompts: Path, tmp_path: Path, run: Run, scripted: list[Any]
) -> None:
    good = tmp_path / "good.py"
    good.write_text("import sys\nfor line in sys.stdin:\n    print(1, flush=True)\n", "utf-8")
    output = ("-o", str(tmp_path / "s"))
    bad = run("sweep", str(prompts), "--score", f"{sys.executable} -c print('x')", *output)
    assert (bad.status, replies(tmp_path / "s")) == (1, [])
    assert run("sweep", str(prompts), "--score", f"{sys.executable} {good}", *output).status == 0
    assert [each["score"] for each in replies(tmp_path / "s")] == [1, 1, 1, 1]


def test_a_damaged_line_is_said_and_its_reply_generated_again(
    prompts: Path, tmp_path: Path, run: Run, scripted: list[Any]
) -> None:
    arguments = ("sweep", str(prompts), "-o", str(tmp_path / "s"))
    run(*arguments)
    file = tmp_path / "s" / "replies.jsonl"
    first, _, *rest = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([first, b"damaged\n", *rest]))
    ran = run(*arguments)
    assert ran.status == 0
    assert "1 damaged line of replies.jsonl to replies.jsonl.damaged; the first was line 2" in ran.err
    assert len(replies(tmp_path / "s")) == 2 + len(rest)


@pytest.mark.slow
def test_a_choice_is_scored_by_the_probability_that_it_is_the_whole_reply(tmp_path: Path) -> None:
    """Against the slow way, which reads prompt and choice as one text."""
    path = tmp_path / "q.jsonl"
    choices = ["はい。", "いいえ。", "はい。そうです。"]
    path.write_text(
        json.dumps({"prompt": "東京は日本の首都ですか。", "choices": choices, "reference": "はい。"}), "utf-8"
    )
    ran = swept(str(path), "--score", "choice", "--grid", "temperature=0,1", "-o", str(tmp_path / "s"))
    assert "no decoding setting changes" in ran.err
    (found,) = replies(tmp_path / "s")
    model = open_model(ModelEntry("demo", directory=str(paths.demo_model_dir())))
    for choice in choices:
        ids = model.tokenizer.encode(choice)
        logprobs = torch.cat(list(model.engine.score([*found["prompt_ids"], *ids]))).double().log_softmax(-1)
        begin = len(found["prompt_ids"]) - 1
        slow = sum(float(logprobs[begin + at, each]) for at, each in enumerate([*ids, tokenizer().eos_id]))
        assert found["choices"][choice] == pytest.approx(slow, abs=1e-3)
    assert found["reply"] == max(found["choices"], key=found["choices"].get)
    assert found["score"] == float(found["reply"] == "はい。")


def test_a_reply_that_came_to_a_label_is_ended_and_not_computed_further(
    prompts: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines = [ScriptedEngine([Script("はい。\nユーザー: もっと" + "あ" * 50)] * 4)]
    monkeypatch.setattr(session_model, "open_model", lambda entry, *how: Model(entry, tokenizer(), engines[0]))
    steps = []
    engines[0].on_step = lambda: steps.append(1)
    run("sweep", str(prompts), "-o", str(tmp_path / "s"))
    assert {(each["reply"], each["finish"]) for each in replies(tmp_path / "s")} == {("はい。", "stop")}
    assert len(steps) < 4 * 30


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_progress_says_how_much_is_left(
    prompts: Path, tmp_path: Path, run: Run, scripted: list[Any], lang: str
) -> None:
    ran = run("sweep", str(prompts), *GRID, "--lang", lang, "-o", str(tmp_path / "s"))
    words = ("24 of 24", "top_k=50") if lang == "en" else ("24 個中 24 個", "top_k=50")
    assert all(word in ran.err for word in words)


def test_time_left_is_said_in_seconds_minutes_or_hours() -> None:
    said = [(cli._duration(each).key.split(".")[1], cli._duration(each).values["number"]) for each in (0, 3, 600, 9000)]
    assert said == [("seconds", 0), ("seconds", 3), ("minutes", 10), ("hours", "2.5")]
