"""A sweep in batches beside the same replies one by one, in turn.

    python benchmarks/sweep.py                                       # the embedded model: 150 replies each way
    python benchmarks/sweep.py /tmp/4b --quantize int8 --rows 16     # tokens per second of 16 rows beside one

With a directory, a step of all rows and a step of one row follow each other, from engines that map the same weights.
Random weights will do (`full_size.py` makes them).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch

from bilingual_chat.engines.local import LocalEngine
from bilingual_chat.engines.protocol import OpenOptions, QuantizeName
from bilingual_chat.explore.grid import make_cells, parse_axis
from bilingual_chat.explore.prompts import PromptFile, SweepPrompt
from bilingual_chat.explore.store import SweepStore
from bilingual_chat.explore.sweep import Job, Plan, make_jobs, manifest_of, run
from bilingual_chat.session.model import Model, open_model
from bilingual_chat.settings.catalogue import ModelEntry
from bilingual_chat.settings.config import load_config, settings_for
from bilingual_chat.settings.decoding import DecodingParameters
from bilingual_chat.text.tokenizer import Tokenizer

QUESTIONS = [
    *("Hello!", "What is the capital of France?", "Tell me three animals in Japanese.", "Count from one to ten."),
    *(
        "こんにちは。",
        "日本の首都はどこですか。",
        "曜日を英語で言ってください。",
        "好きな食べ物は何ですか。",
        "What can you do?",
    ),
    "ありがとう。",
]
PROMPT = 100  # tokens


def main() -> None:
    parser = argparse.ArgumentParser(description="A sweep in batches beside one by one.")
    parser.add_argument("directory", type=Path, nargs="?")
    parser.add_argument("--quantize", default="int8")
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if options.directory is None:
        embedded(options.rounds)
    else:
        steps(options.directory, options.quantize, options.rows, options.rounds)


def embedded(rounds: int) -> None:
    """Ten questions, five temperatures, three seeds; the sweep writes its files, the other way writes nothing."""
    config = load_config()
    model = open_model(config.catalogue["demo"])
    settings = settings_for(config, model.entry, None, {"top_k": 0})
    cells = make_cells(settings, [parse_axis("temperature=0.5,0.8,1,1.2,1.5")])
    prompts = tuple(SweepPrompt(str(at), at, each) for at, each in enumerate(QUESTIONS))
    plan = Plan(PromptFile(Path("-"), "", prompts), cells, 3, 0, None)
    jobs = make_jobs(plan, model)
    one_by_one(jobs[:10], model)
    ratios = []
    for _ in range(rounds):
        batched, single = in_batches(plan, jobs, model), one_by_one(jobs, model)
        ratios.append(batched / single)
        print(
            f"{len(jobs)} replies: in batches {batched:.2f} s, one by one {single:.2f} s, ratio {batched / single:.3f}"
        )
    print(f"median ratio {median(ratios):.3f} = 1/{1 / median(ratios):.1f}")


def in_batches(plan: Plan, jobs: list[Job], model: Model) -> float:
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as directory, closing(SweepStore(Path(directory) / "s")) as store:
        store.begin(manifest_of(plan, model, []))
        run(jobs, model, store, None, lambda: None)
    return time.perf_counter() - began


def one_by_one(jobs: list[Job], model: Model) -> float:
    began = time.perf_counter()
    for job in jobs:
        for _ in model.engine.complete(job.prompt.ids, job.parameters):
            pass
    return time.perf_counter() - began


def steps(directory: Path, quantize: QuantizeName, count: int, rounds: int) -> None:
    """A token of each of `count` replies to different prompts, then `count` tokens of one reply, and so on."""
    settings = [DecodingParameters(max_new_tokens=400, min_new_tokens=400, seed=seed) for seed in range(count)]
    draws = torch.Generator().manual_seed(0)
    prompts = [torch.randint(10, 5000, (PROMPT,), generator=draws).tolist() for _ in settings]
    many, one = (opened(directory, quantize) for _ in range(2))
    streams = many.complete_many(prompts, settings, width=count), one.complete_many(prompts[:2], settings[:2], width=1)
    for stream, tokens in zip(streams, (2 * count, 2), strict=True):
        for _ in range(tokens):
            next(stream)
    times: list[list[float]] = [[], []]
    for _ in range(rounds * 8):
        for stream, tokens, took in zip(streams, (count, 1), times, strict=True):
            began = time.perf_counter()
            for _ in range(tokens):
                next(stream)
            took.append(time.perf_counter() - began)
    ratio = median(count * b / a for a, b in zip(*times, strict=True))
    print(f"{count} rows {median(times[0]) * 1e3:.0f} ms, one row {median(times[1]) * 1e3:.0f} ms a token each")
    print(f"{ratio:.2f} × the tokens per second of one")


def opened(directory: Path, quantize: QuantizeName) -> LocalEngine:
    tokenizer = Tokenizer(directory / "spiece.model")
    return LocalEngine(directory, ModelEntry(directory.name), tokenizer, OpenOptions(quantize=quantize))


if __name__ == "__main__":
    main()
