"""The contract with the real vLLM, on a CPU: `VLLM_VENV=DIRECTORY pytest tests/engines/test_vllm.py`.

`python tests/vllm_environment.py DIRECTORY` makes the environment. The embedded model is served with the command of
`bchat serve`, in float32, and compared with bchat's own engine. About 3 GB of memory, a minute.
"""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.request import urlopen

import pytest

from bilingual_chat.engines.local import LocalEngine
from bilingual_chat.engines.protocol import Chunk, Engine, OpenOptions
from bilingual_chat.engines.server.engine import ServerEngine, Vocabulary, open_server
from bilingual_chat.engines.server.http import make_client
from bilingual_chat.engines.server.launch import Layout, command
from bilingual_chat.messages.errors import BchatError
from bilingual_chat.settings.config import load_config
from bilingual_chat.settings.decoding import DecodingParameters
from bilingual_chat.settings.servers import Server
from bilingual_chat.storage import paths
from bilingual_chat.text.conversation import FinishReason
from tests.runs import program, real
from tests.scripted import tokenizer

VENV = os.environ.get("VLLM_VENV", "")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not VENV, reason="needs VLLM_VENV")]

KEY = "sk-contract"
GREEDY = DecodingParameters(temperature=0.0, max_new_tokens=40)
SAMPLED = DecodingParameters(temperature=2.0, top_k=0, max_new_tokens=30, seed=7)
TEXTS = (
    *(
        "こんにちは",
        "Hello!",
        "What is bchat?",
        "日本語では？",
        "猫は英語で？",
        "Good morning.",
        "ありがとう",
        "さようなら",
    ),
    *(
        "温度とは何ですか。",
        "How do I save?",
        "鱻𠮷🦄",
        "a  b\nc",
        "１＋１は？",
        "Tell me a joke.",
        "疲れた",
        "/help",
        "?",
    ),
    *("What can you do?", "あなたは誰？", "Bye"),
)


def prompts() -> list[list[int]]:
    """20 prompts of a chat, and 20 of random ids."""
    written = [tokenizer().encode(f"ユーザー: {text}\nシステム: ") for text in TEXTS]
    draw = random.Random(0)
    noise = [[draw.randrange(4, tokenizer().vocab_size) for _ in range(draw.randrange(1, 60))] for _ in range(20)]
    return [*written, *noise]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """vLLM with the embedded model. Its log is shown if it does not start."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    entry = load_config(environment={}).catalogue["demo"]
    directory = paths.demo_model_dir()
    serve = command(entry, directory, "float32", Layout(), host="127.0.0.1", port=port, context_length=1024)
    settings = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    log = tmp_path_factory.mktemp("vllm") / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [str(Path(VENV, "bin", serve[0])), *serve[1:], "--enforce-eager"],
            env={**os.environ, **settings, "TORCHDYNAMO_DISABLE": "1", "VLLM_API_KEY": KEY},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_healthy(process, url, log)
        yield Server("vllm", url)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def wait_until_healthy(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    until = time.monotonic() + 300
    while True:
        try:
            urlopen(f"{url}/health", timeout=5).close()
            return
        except OSError:
            assert process.poll() is None, log.read_text("utf-8", "replace")[-4000:]
            assert time.monotonic() < until, log.read_text("utf-8", "replace")[-4000:]
            time.sleep(0.5)


@pytest.fixture
def served(server: Server, monkeypatch: pytest.MonkeyPatch) -> ServerEngine:
    monkeypatch.setattr(
        "bilingual_chat.engines.server.engine.make_client", lambda s: make_client(s, {"BCHAT_API_KEY": KEY})
    )
    return open_at(server)


def open_at(server: Server, vocab_size: int = 0) -> ServerEngine:
    vocabulary = Vocabulary(tokenizer().eos_id, vocab_size or tokenizer().vocab_size)
    return open_server(server, load_config(environment={}).catalogue["demo"], vocabulary)


@pytest.fixture(scope="module")
def own() -> LocalEngine:
    entry = load_config(environment={}).catalogue["demo"]
    return LocalEngine(paths.demo_model_dir(), entry, tokenizer(), OpenOptions(dtype="float32", quantize="none"))


def ids_of(engine: Engine, prompt: list[int], parameters: DecodingParameters) -> list[int]:
    return [chunk.token_id for chunk in engine.complete(prompt, parameters)]


def metric(server: Server, name: str) -> float:
    with urlopen(f"{server.url}/metrics", timeout=5) as response:
        found = re.search(rf"^vllm:{name}{{.*}} (\S+)$", response.read().decode(), re.MULTILINE)
    assert found
    return float(found[1])


@pytest.mark.parametrize("penalty", [1.0, 1.15])
def test_greedy_ids_equal_our_own_on_40_prompts(served: ServerEngine, own: LocalEngine, penalty: float) -> None:
    parameters = replace(GREEDY, repetition_penalty=penalty)
    assert own.precision == "float32"
    assert [ids_of(served, each, parameters) for each in prompts()] == [
        ids_of(own, each, parameters) for each in prompts()
    ]


def test_40_replies_at_once_are_the_same_as_one_by_one(served: ServerEngine, own: LocalEngine) -> None:
    replies: dict[int, list[int]] = {}
    for index, chunk in served.complete_many(prompts(), [GREEDY] * 40, width=16):
        replies.setdefault(index, []).append(chunk.token_id)
    assert [replies[index] for index in range(40)] == [ids_of(own, each, GREEDY) for each in prompts()]


def test_a_seed_repeats_a_reply_and_another_seed_does_not(served: ServerEngine) -> None:
    prompt = prompts()[-1]
    first = ids_of(served, prompt, SAMPLED)
    assert ids_of(served, prompt, SAMPLED) == first
    assert ids_of(served, prompt, replace(SAMPLED, seed=8)) != first


def test_probabilities_are_the_models_own_whatever_the_settings_are(served: ServerEngine, own: LocalEngine) -> None:
    for prompt in prompts()[:10]:
        theirs = list(served.complete(prompt, replace(GREEDY, repetition_penalty=1.15)))
        ours = list(own.complete(prompt, replace(GREEDY, repetition_penalty=1.15)))
        for one, other in zip(theirs, ours, strict=True):
            assert one.raw_logprob == pytest.approx(other.raw_logprob, abs=1e-3)
            assert one.rank in (None, other.rank)
            assert [each for each, _ in one.top][:1] == [each for each, _ in other.top][:1]


def test_scores_of_continuations_equal_our_own(served: ServerEngine, own: LocalEngine) -> None:
    prompt, choices = prompts()[1], [tokenizer().encode(text) for text in ("Hello! How can I help you?", "いいえ。")]
    theirs, ours = (list(engine.score_continuations(prompt, choices)) for engine in (served, own))
    assert [len(each) for each in theirs] == [len(each) + 1 for each in choices]
    for one, other in zip(theirs, ours, strict=True):
        assert one == pytest.approx(other, abs=2e-3)


def test_the_end_of_a_sequence_is_a_stop_and_the_minimum_length_is_kept(served: ServerEngine) -> None:
    chunks = list(served.complete(prompts()[0], GREEDY))
    assert chunks[-1].finish is FinishReason.STOP
    assert chunks[-1].token_id == tokenizer().eos_id
    longer = ids_of(served, prompts()[0], replace(GREEDY, min_new_tokens=39))
    assert len(longer) >= 39
    assert tokenizer().eos_id not in longer[:39]


def test_a_reply_ends_at_the_context(served: ServerEngine) -> None:
    prompt = [9] * 1020
    chunks = list(served.complete(prompt, replace(GREEDY, min_new_tokens=100, max_new_tokens=100)))
    assert (len(chunks), chunks[-1].finish) == (4, FinishReason.LENGTH)


def test_a_reply_that_is_closed_stops_the_server_within_a_second(served: ServerEngine, server: Server) -> None:
    chunks = served.complete(prompts()[0], replace(GREEDY, min_new_tokens=900, max_new_tokens=900))
    seen: list[Chunk] = [next(chunks) for _ in range(5)]
    chunks.close()
    time.sleep(1)
    assert len(seen) == 5
    assert metric(server, "num_requests_running") == 0
    generated = metric(server, "generation_tokens_total")
    time.sleep(0.5)
    assert metric(server, "generation_tokens_total") == generated


def test_a_larger_vocabulary_than_the_servers_is_refused_and_the_server_lives(
    served: ServerEngine, server: Server
) -> None:
    with pytest.raises(BchatError) as raised:
        open_at(server, vocab_size=65536)
    assert raised.value.key == "server.error"
    assert "out-of-vocab" in str(raised.value)
    assert ids_of(served, prompts()[1], GREEDY)


def test_an_error_of_the_server_is_one_sentence(served: ServerEngine) -> None:
    with pytest.raises(BchatError) as raised:
        list(served.complete(prompts()[0], replace(GREEDY, temperature=9.0)))
    assert "temperature must be in" in raised.value.sentence()
    assert "\n" not in raised.value.sentence("ja")


@pytest.mark.parametrize("key", ["", "sk-wrong"])
def test_a_wrong_key_is_one_sentence(server: Server, key: str) -> None:
    ran = program(real("ask", "--server", server.url, "Hi"), BCHAT_API_KEY=key)
    assert ran.returncode == 3
    assert b"BCHAT_API_KEY" in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


def test_the_embedded_model_is_chatted_with(server: Server) -> None:
    ours = program(real("ask", "--model", "demo", "Hello!"))
    theirs = program(real("ask", "--server", server.url, "Hello!"), BCHAT_API_KEY=KEY)
    assert theirs.returncode == 0
    assert theirs.stdout == ours.stdout
    talk = program(real("chat", "--server", server.url), "Hello!\n日本語では？\n".encode(), BCHAT_API_KEY=KEY)
    assert talk.returncode == 0
    assert ours.stdout.strip() in talk.stdout
