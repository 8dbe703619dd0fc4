"""Measure the client of a server: cost of a token beside curl, many replies at once, two servers, cancelling.

python benchmarks/served.py                          # servers that replay a stream, in processes of their own
python benchmarks/served.py http://127.0.0.1:8000    # a real vLLM with the embedded model, too (bchat serve demo)
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import Process, Queue
from pathlib import Path
from statistics import median
from typing import Any
from urllib.request import urlopen

sys.path.insert(0, str(Path(__file__).parent.parent))

from bilingual_chat.engines.server.completions import request_body
from bilingual_chat.engines.server.engine import ServerEngine, Vocabulary, open_server
from bilingual_chat.engines.server.http import make_client
from bilingual_chat.engines.server.several import SeveralServers
from bilingual_chat.settings.config import load_config
from bilingual_chat.settings.decoding import DecodingParameters
from bilingual_chat.settings.servers import find_server
from bilingual_chat.storage import paths
from bilingual_chat.text.tokenizer import Tokenizer
from tests.loopback_server import DONE, Answer, Served, serve, tokens

EOS, SIZE, PROMPT = 3, 512, [5, 6, 7]
TOKENS, ROUNDS, REPLIES = 2000, 9, 200
TOP = {"top_logprobs": [{f"token_id:{each}": -1.5 for each in (9, 10, 11, 12, 13)}]}


def main() -> None:
    parser = argparse.ArgumentParser(description="The client of a server, measured.")
    parser.add_argument("url", nargs="?")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    with replaying("fast") as url:
        print_cost_of_a_token(url, options.rounds)
    with replaying("shared") as one, replaying("shared") as other:
        print_replies_at_once(one)
        print_two_servers(one, other)
    if options.url:
        print_cancelling(options.url, options.rounds)


def answer_fast(body: dict[str, Any]) -> Answer:
    return Answer([*[tokens(9, logprobs=TOP)] * body["max_tokens"], DONE])


def answer_shared(slots: threading.Semaphore, body: dict[str, Any]) -> Answer:
    """Eight replies are computed at a time, each token in 5 ms."""
    with slots:
        time.sleep(0.005 * body["max_tokens"])
    own = 10 + body["seed"]
    return Answer([*[tokens(own)] * (body["max_tokens"] - 1), tokens(own, finish="length"), DONE])


def run_server(kind: str, urls: Queue[str]) -> None:
    slots = threading.Semaphore(8)
    reply_to = answer_fast if kind == "fast" else lambda body: answer_shared(slots, body)
    with serve(Served(reply_to=reply_to)) as served:
        urls.put(served.url)
        time.sleep(3600)


@contextmanager
def replaying(kind: str) -> Iterator[str]:
    """A server in a process of its own."""
    urls: Queue[str] = Queue()
    process = Process(target=run_server, args=(kind, urls), daemon=True)
    process.start()
    try:
        yield urls.get()
    finally:
        process.terminate()


def engine_at(url: str) -> ServerEngine:
    return ServerEngine(make_client(find_server(url, {}), {}), Vocabulary(EOS, SIZE), "m", "m", 1 << 20)


def print_cost_of_a_token(url: str, rounds: int) -> None:
    """Wall time of both in turn, on one stream; the CPU time of bchat."""
    parameters = DecodingParameters(max_new_tokens=TOKENS, seed=1)
    body = json.dumps(request_body(PROMPT, parameters, "m", EOS, TOKENS))
    curl = [
        "curl",
        "-sN",
        "-o",
        "/dev/null",
        "-H",
        "content-type: application/json",
        "-d",
        body,
        f"{url}/v1/completions",
    ]
    engine, differences, cpu = engine_at(url), [], []
    for _ in range(rounds):
        began = time.perf_counter()
        subprocess.run(curl, check=True)
        raw = time.perf_counter() - began
        began, used = time.perf_counter(), time.process_time()
        assert sum(1 for _ in engine.complete(PROMPT, parameters)) == TOKENS
        differences.append(1000 * (time.perf_counter() - began - raw) / TOKENS)
        cpu.append(1000 * (time.process_time() - used) / TOKENS)
    print(f"a token: {median(differences):.3f} ms more than curl, {median(cpu):.3f} ms of CPU (medians of {rounds})")


def seconds_for(engine: ServerEngine | SeveralServers, count: int) -> float:
    """Seconds for replies of 20 tokens; each is whole and its own."""
    requests = [DecodingParameters(max_new_tokens=20, seed=seed) for seed in range(count)]
    replies: dict[int, list[int]] = {}
    began = time.perf_counter()
    for index, chunk in engine.complete_many([PROMPT] * count, requests, width=count):
        replies.setdefault(index, []).append(chunk.token_id)
    assert replies == {index: [10 + index] * 20 for index in range(count)}
    return time.perf_counter() - began


def print_replies_at_once(url: str) -> None:
    print(f"{REPLIES} replies at once: all whole, {seconds_for(engine_at(url), REPLIES):.2f} s")


def print_two_servers(one: str, other: str) -> None:
    """In turn; the servers pretend: eight replies at a time, 5 ms a token."""
    ratios = []
    for _ in range(5):
        alone = seconds_for(engine_at(one), REPLIES)
        ratios.append(alone / seconds_for(SeveralServers([engine_at(one), engine_at(other)]), REPLIES))
    print(f"two servers: {median(ratios):.2f} times the replies of one (median of 5)")


def print_cancelling(url: str, rounds: int) -> None:
    """From closing a reply until the server has no request; and the tokens that it computed meanwhile."""
    tokenizer = Tokenizer(paths.demo_model_dir() / "spiece.model")
    entry = load_config(environment={}).catalogue["demo"]
    engine = open_server(find_server(url, {}), entry, Vocabulary(tokenizer.eos_id, tokenizer.vocab_size))
    endless = DecodingParameters(temperature=0, min_new_tokens=900, max_new_tokens=900)
    times, late = [], []
    for _ in range(rounds):
        chunks = engine.complete(tokenizer.encode("ユーザー: Hi\nシステム: "), endless)
        for _ in range(20):
            next(chunks)
        before, began = metric(url, "generation_tokens_total"), time.perf_counter()
        chunks.close()
        while metric(url, "num_requests_running"):
            time.sleep(0.005)
        times.append(1000 * (time.perf_counter() - began))
        late.append(metric(url, "generation_tokens_total") - before)
    print(
        f"cancelling: stopped after {median(times):.0f} ms at most {max(times):.0f} ms, {median(late):.0f} tokens more"
    )


def metric(url: str, name: str) -> float:
    with urlopen(f"{url}/metrics") as response:
        found = re.search(rf"^vllm:{name}{{.*}} (\S+)$", response.read().decode(), re.MULTILINE)
    assert found
    return float(found[1])


if __name__ == "__main__":
    main()
