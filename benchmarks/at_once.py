"""Several rows in one pass: four replies beside one, and lookahead on and off. Interleaved; medians of ratios.

    python benchmarks/at_once.py /tmp/4b --quantize int8
    python benchmarks/at_once.py --questions                # lookahead on the embedded model's own replies

Four replies share the reading of the weights. Lookahead cannot change a reply, so both ways say the same: what
is compared is the time. On random weights it is measured where nothing it tries comes true, which is its price;
with --questions on replies of the embedded model, some of which say again what was said before.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch

from bilingual_chat import paths
from bilingual_chat.catalogue import ModelEntry
from bilingual_chat.config import load_config
from bilingual_chat.conversation import Speaker, Utterance
from bilingual_chat.decoding import DecodingParameters
from bilingual_chat.engines import QuantizeName, lookahead, open_engine
from bilingual_chat.engines.local import LocalEngine
from bilingual_chat.session import Model
from bilingual_chat.tokenizer import Tokenizer

TOKENS, PROMPT = 64, 128
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
    options = parser.parse_args()
    if options.questions:
        own_replies(options.rounds)
    elif options.directory is None:
        parser.error("a model's directory, or --questions")
    else:
        at_once(opened(options.directory, options.quantize), options.rounds)


def opened(directory: Path, quantize: QuantizeName) -> LocalEngine:
    return open_engine(directory, Tokenizer(directory / "spiece.model"), name=directory.name, quantize=quantize)


def at_once(engine: LocalEngine, rounds: int) -> None:
    """One reply, four replies, and one reply with a guess at every token that never comes true."""
    ids = torch.randint(10, 5000, (PROMPT,), generator=torch.Generator().manual_seed(0)).tolist()
    settings = [(DecodingParameters(max_new_tokens=TOKENS, min_new_tokens=TOKENS), seed) for seed in range(4)]
    ways: dict[str, Callable[[], object]] = {
        "one reply": lambda: list(engine.complete_many(ids, settings[:1])),
        "four replies": lambda: list(engine.complete_many(ids, settings)),
        "one, tried in vain at every token": lambda: guessing(engine, ids, settings[0]),
        "one, as bchat does it": lambda: list(engine.complete(ids, *settings[0])),
    }
    list(engine.complete(ids, *settings[0]))
    compare(ways, rounds)


def guessing(engine: LocalEngine, ids: Sequence[int], wanted: tuple[DecodingParameters, int]) -> None:
    usual = lookahead.Lookahead._guess
    try:
        lookahead.Lookahead._guess = lambda self, ids: [9, 9, 9]  # type: ignore[method-assign]
        list(engine.complete(ids, *wanted))
    finally:
        lookahead.Lookahead._guess = usual  # type: ignore[method-assign]


def own_replies(rounds: int) -> None:
    """The embedded model in int8, greedy: follow-ups that repeat, and others."""
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
                return sum(1 for ids in prompts for _ in model.engine.complete(ids, GREEDY, 0))
            finally:
                lookahead.Lookahead._guess = usual  # type: ignore[method-assign]

        print(f"\n{kind}, {say(True)} tokens")
        compare({"without": lambda: say(False), "with lookahead": lambda: say(True)}, 4 * rounds)


GREEDY = DecodingParameters(temperature=0.0, max_new_tokens=120)


def conversation(model: Model, entry: ModelEntry, questions: Sequence[str]) -> list[int]:
    """The ids that ask for the reply to the last question, after the model's own replies to those before."""
    said: list[Utterance] = []
    for question in questions[:-1]:
        said.append(Utterance(Speaker.USER, question))
        ids = model.tell(said)[1]
        detokenizer = model.tokenizer.detokenizer(entry.prompt)
        for chunk in model.engine.complete(ids, GREEDY, 0):
            if chunk.finish is None:
                detokenizer.push(chunk.token_id)
        said.append(Utterance(Speaker.SYSTEM, detokenizer.text))
    return model.tell([*said, Utterance(Speaker.USER, questions[-1])])[1]


def compare(ways: dict[str, Callable[[], object]], rounds: int) -> None:
    """Each way in turn, `rounds` times; how much longer than the first of the same round."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, run in ways.items():
            began = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - began)
    first = next(iter(times.values()))
    for name, took in times.items():
        ratio = median(mine / theirs for mine, theirs in zip(took, first, strict=True))
        print(f"{name:40}{median(took):9.3f} s{ratio:9.2f} ×")


if __name__ == "__main__":
    main()
