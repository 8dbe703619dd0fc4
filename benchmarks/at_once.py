"""Measure passes of several rows: four replies against one, lookahead on and off, late and early turns. Interleaved.

    python benchmarks/at_once.py /tmp/4b --quantize int8
    python benchmarks/at_once.py /tmp/4b --quantize int8 --turns --rounds 15
    python benchmarks/at_once.py /tmp/4b --quantize int8 --tuning '-mavx2 -mfma'   # as on a processor without AVX-512
    python benchmarks/at_once.py --questions                # lookahead on the embedded model's own replies

Four replies read the weights once. Lookahead never changes a reply: only the time differs. On random weights all its
guesses fail, which shows its cost; --questions measures it on the embedded model's replies, some of which repeat
earlier text. --turns measures the first token after a message of 20 tokens, at the start of a conversation and later.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, cycle, repeat
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch

from bilingual_chat.engines import lookahead
from bilingual_chat.engines.local import LocalEngine
from bilingual_chat.engines.neox import kernel_library
from bilingual_chat.engines.protocol import OpenOptions, QuantizeName
from bilingual_chat.session.model import Model
from bilingual_chat.settings.catalogue import ModelEntry
from bilingual_chat.settings.config import load_config
from bilingual_chat.settings.decoding import DecodingParameters
from bilingual_chat.storage import paths
from bilingual_chat.text.conversation import Speaker, Utterance
from bilingual_chat.text.tokenizer import Tokenizer

TOKENS, PROMPT, LONG = 64, 128, 1500
MESSAGE, TURN = 20, 80  # tokens, as `bchat bench` has them
QUESTIONS = {
    "says again what was said": [
        ["What are the days of the week in Japanese?", "Please say that again."],
        ["Count from one to ten in Japanese.", "Once more, please."],
        ["1から10まで数えてください。", "もう一度お願いします。"],
        ["曜日を英語で言ってください。", "もう一度言ってください。"],
    ],
    "says something else": [["Hello!", "What is the capital of France?"], ["こんにちは。", "好きな食べ物は何ですか。"]],
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Several rows in one pass.")
    parser.add_argument("directory", type=Path, nargs="?")
    parser.add_argument("--quantize", default="int8")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--questions", action="store_true")
    parser.add_argument("--turns", action="store_true")
    parser.add_argument("--tuning", help="the compiler's options for a processor, say '-mavx2 -mfma'")
    options = parser.parse_args()
    if options.tuning:
        kernel_library.target_flags = options.tuning.split
    if options.questions:
        own_replies(options.rounds)
    elif options.directory is None:
        parser.error("a model's directory, or --questions")
    elif options.turns:
        late_beside_early(options.directory, options.quantize, options.rounds)
    else:
        at_once(options.directory, options.quantize, options.rounds)


def opened(directory: Path, quantize: QuantizeName) -> LocalEngine:
    tokenizer = Tokenizer(directory / "spiece.model")
    return LocalEngine(directory, ModelEntry(directory.name), tokenizer, OpenOptions(quantize=quantize))


def at_once(directory: Path, quantize: QuantizeName, rounds: int) -> None:
    """One reply, four replies, one far into a conversation, and one with a guess at every token that never comes true.

    A token of each in turn, from engines that map the same weights: memory that changes its speed does so for all.
    """
    long = torch.randint(10, 5000, (LONG,), generator=torch.Generator().manual_seed(0)).tolist()
    ids = long[:PROMPT]
    settings = [DecodingParameters(max_new_tokens=TOKENS, min_new_tokens=TOKENS, seed=seed) for seed in range(4)]

    def tokens(way: Callable[[LocalEngine], Iterable[object]], replies: int = 1) -> Callable[[], object]:
        engine = opened(directory, quantize)
        stream = chain.from_iterable(way(engine) for _ in repeat(None))
        return lambda: [next(stream) for _ in range(replies)]

    usual = lookahead.Lookahead._guess
    in_vain = tokens(lambda engine: engine.complete(ids, settings[0]))

    def guessing() -> object:
        try:
            lookahead.Lookahead._guess = lambda self, ids: [9, 9, 9]  # type: ignore[method-assign]
            return in_vain()
        finally:
            lookahead.Lookahead._guess = usual  # type: ignore[method-assign]

    ways: dict[str, Callable[[], object]] = {
        "one reply": tokens(lambda engine: engine.complete_many([ids], settings[:1])),
        "four replies": tokens(lambda engine: engine.complete_many([ids] * 4, settings), 4),
        f"one at {LONG:,} positions": tokens(lambda engine: engine.complete(long, settings[0])),
        "one, tried in vain at every token": guessing,
        "one, as bchat does it": tokens(lambda engine: engine.complete(ids, settings[0])),
    }
    for read_the_prompt in ways.values():
        read_the_prompt()
    compare(ways, rounds * TOKENS, lambda mine, theirs: sum(mine) / sum(theirs))


def late_beside_early(directory: Path, quantize: QuantizeName, rounds: int) -> None:
    """Open engines that map the same weights, each with a conversation in its cache.

    Successive messages differ in their first token, so that exactly one pass over the message is timed.
    """
    ids = torch.randint(10, 5000, (20 * TURN,), generator=torch.Generator().manual_seed(0)).tolist()

    def asker(turn: int) -> Callable[[], object]:
        engine, before = opened(directory, quantize), ids[: (turn - 1) * TURN]
        messages = cycle([[10 + at, *ids[:MESSAGE][1:]] for at in range(2)])
        return lambda: list(engine.complete([*before, *next(messages)], ONE_TOKEN))

    ways = {f"first token, turn {turn}": asker(turn) for turn in (1, 5, 10, 20)}
    for read_what_was_said in ways.values():
        read_what_was_said()
    compare(ways, rounds)


def own_replies(rounds: int) -> None:
    """The embedded model in int8, greedy: follow-up questions whose replies repeat, and others."""
    entry = load_config().catalogue["demo"]
    directory = paths.demo_model_dir()
    tokenizer = Tokenizer(directory / "spiece.model")
    model = Model(entry, tokenizer, opened(directory, "int8"))
    for kind, talks in QUESTIONS.items():
        prompts = [conversation(model, entry, each) for each in talks]

        def say(guesses: bool, prompts: list[list[int]] = prompts) -> int:
            usual = lookahead.Lookahead._guess
            if not guesses:
                lookahead.Lookahead._guess = lambda self, ids: []  # type: ignore[method-assign]
            try:
                return sum(1 for ids in prompts for _ in model.engine.complete(ids, GREEDY))
            finally:
                lookahead.Lookahead._guess = usual  # type: ignore[method-assign]

        print(f"\n{kind}, {say(True)} tokens")
        compare({"without": lambda: say(False), "with lookahead": lambda: say(True)}, 4 * rounds)


GREEDY = DecodingParameters(temperature=0.0, max_new_tokens=120)
ONE_TOKEN = DecodingParameters(temperature=0.0, max_new_tokens=1)


def conversation(model: Model, entry: ModelEntry, questions: Sequence[str]) -> list[int]:
    """The prompt ids of the last question, after the model's own replies to the earlier ones."""
    said: list[Utterance] = []
    for question in questions[:-1]:
        said.append(Utterance(Speaker.USER, question))
        ids = list(model.encode_prompt(said).ids)
        detokenizer = model.tokenizer.detokenizer(entry.prompt)
        for chunk in model.engine.complete(ids, GREEDY):
            if chunk.finish is None:
                detokenizer.push(chunk.token_id)
        said.append(Utterance(Speaker.SYSTEM, detokenizer.text))
    return list(model.encode_prompt([*said, Utterance(Speaker.USER, questions[-1])]).ids)


def of_rounds(mine: Sequence[float], theirs: Sequence[float]) -> float:
    return median(a / b for a, b in zip(mine, theirs, strict=True))


def compare(
    ways: dict[str, Callable[[], object]],
    rounds: int,
    ratio: Callable[[Sequence[float], Sequence[float]], float] = of_rounds,
) -> None:
    """Alternate between the ways, `rounds` times; print each one's time relative to the first."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, run in ways.items():
            began = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - began)
    first = next(iter(times.values()))
    for name, took in times.items():
        print(f"{name:40}{median(took):9.3f} s{ratio(took, first):9.2f} ×")


if __name__ == "__main__":
    main()
