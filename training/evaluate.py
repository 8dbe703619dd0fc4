"""Score a model directory on the held-out questions at temperature 0.

    python training/evaluate.py [bilingual_chat/demo] [--failures] [--write training/SCORES.md]

`evaluation.toml` was written blind, when the data was finished; `development.toml` is the set that was looked at while
the data was written, so its score says less (--questions).

A reply is right when it holds every string of at least one group of `any` and none of `none` (case is folded).
"""

from __future__ import annotations

import argparse
import tomllib
from collections import Counter
from pathlib import Path

from bilingual_chat.engines.protocol import open_engine
from bilingual_chat.settings.decoding import DecodingParameters
from bilingual_chat.text.conversation import FinishReason, Speaker, Utterance
from bilingual_chat.text.detokenizer import Detokenizer
from bilingual_chat.text.prompt import PromptFormat
from bilingual_chat.text.tokenizer import Tokenizer

QUESTIONS = Path(__file__).parent / "evaluation.toml"


def is_right(item: dict, reply: str) -> bool:
    folded = reply.casefold()
    groups = item["any"]
    return any(all(word.casefold() in folded for word in group) for group in groups) and not any(
        word.casefold() in folded for word in item.get("none", [])
    )


def answer(turns: list[str], engine, tokenizer: Tokenizer) -> str:
    speakers = (Speaker.USER, Speaker.SYSTEM)
    said = [Utterance(speakers[at % 2], text) for at, text in enumerate(turns)]
    format = PromptFormat()
    ids = tokenizer.tell(said, format).ids
    detokenizer = Detokenizer(tokenizer.piece, stop_strings=format.stop_strings)
    for chunk in engine.complete(ids, DecodingParameters(temperature=0.0, max_new_tokens=200), seed=0):
        if chunk.finish is FinishReason.STOP:
            break
        detokenizer.push(chunk.token_id)
        if detokenizer.stopped:
            break
    detokenizer.finish()
    return detokenizer.text


def table(right: Counter, asked: Counter) -> str:
    kinds = list(dict.fromkeys(kind for _, kind in asked))
    lines = ["| kind | en | ja | both |", "|---|---|---|---|"]
    for kind in [*kinds, None]:
        cells = []
        for langs in (("en",), ("ja",), ("en", "ja")):
            keys = [key for key in asked if key[0] in langs and kind in (None, key[1])]
            good, count = sum(right[key] for key in keys), sum(asked[key] for key in keys)
            cells.append(f"{good}/{count} = {100 * good / max(count, 1):.0f} %")
        lines.append(f"| {kind or '**all**'} | {' | '.join(cells)} |")
    return "\n".join(lines)


def score(directory: Path, show_failures: bool = False, questions: Path = QUESTIONS) -> tuple[Counter, Counter]:
    """(right, asked), each counted by (language, kind)."""
    tokenizer = Tokenizer(directory / "spiece.model")
    engine = open_engine(directory, tokenizer, name="demo")
    right: Counter = Counter()
    asked: Counter = Counter()
    for item in tomllib.loads(questions.read_text(encoding="utf-8"))["item"]:
        key = (item["lang"], item["kind"])
        reply = answer(item["turns"], engine, tokenizer)
        asked[key] += 1
        right[key] += is_right(item, reply)
        if show_failures and not is_right(item, reply):
            print(f"{key}: {' / '.join(item['turns'])!r}\n    -> {reply!r}")
    return right, asked


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, nargs="?", default=Path("bilingual_chat/demo"))
    parser.add_argument("--failures", action="store_true", help="print each wrong reply")
    parser.add_argument("--questions", type=Path, default=QUESTIONS)
    parser.add_argument("--write", type=Path, help="keep the table in this file")
    arguments = parser.parse_args()
    right, asked = score(arguments.directory, arguments.failures, arguments.questions)
    print(table(right, asked))
    if arguments.write:
        command = "python training/evaluate.py --write training/SCORES.md"
        heading = f"# Held-out score of the embedded model\n\nTemperature 0, `{command}`:\n\n"
        arguments.write.write_text(heading + table(right, asked) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
