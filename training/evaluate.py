"""Score a model directory on questions: how many replies are right, how many an honest refusal, how many false.

    python training/evaluate.py [bilingual_chat/hub/demo] [--preset balanced] [--failures] [--write training/SCORES.md]

The held-out questions (`heldout/`) were written before the data and never influenced it; those of `development/` do.
A file has a table for each kind, with rows for each language: the turns of the user, then a pattern. A turn that begins
with "< " is a given reply; the model writes the other replies.
A reply is right if it contains the pattern after NFKC and case folding ("REFUSE": if it refuses). Otherwise it is
refused if it declines the question, else false.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import replace
from pathlib import Path

from questions import GIVEN, HELD_OUT, Question, questions

from bilingual_chat.engines.local import LocalEngine
from bilingual_chat.engines.protocol import OpenOptions
from bilingual_chat.settings.catalogue import ModelEntry
from bilingual_chat.settings.decoding import DecodingParameters
from bilingual_chat.text.conversation import FinishReason, Speaker, Utterance
from bilingual_chat.text.detokenizer import Detokenizer
from bilingual_chat.text.prompt import PromptFormat
from bilingual_chat.text.tokenizer import Tokenizer

SAMPLING = {"greedy": DecodingParameters(temperature=0.0, max_new_tokens=200)}
SAMPLING["balanced"] = DecodingParameters(
    temperature=0.7, top_k=50, top_p=0.85, repetition_penalty=1.05, max_new_tokens=200
)


class Answerer:
    def __init__(self, directory: Path, parameters: DecodingParameters) -> None:
        self.tokenizer = Tokenizer(directory / "spiece.model")
        self.engine = LocalEngine(directory, ModelEntry("demo"), self.tokenizer, OpenOptions())
        self.parameters = replace(parameters, seed=0)

    def answer(self, question: Question) -> str:
        """Return the last reply; earlier ones are the model's own or the given ones."""
        said: list[Utterance] = []
        for turn in question.turns:
            if said and said[-1].speaker is Speaker.USER and not turn.startswith(GIVEN):
                said.append(Utterance(Speaker.SYSTEM, self.reply(said)))
            speaker = Speaker.SYSTEM if turn.startswith(GIVEN) else Speaker.USER
            said.append(Utterance(speaker, turn.removeprefix(GIVEN)))
        return self.reply(said)

    def reply(self, said: list[Utterance]) -> str:
        format = PromptFormat()
        detokenizer = Detokenizer(self.tokenizer.piece, stop_strings=format.stop_strings)
        ids = self.tokenizer.encode_prompt(said, format).ids
        for chunk in self.engine.complete(ids, self.parameters):
            if chunk.finish is FinishReason.STOP:
                break
            detokenizer.push(chunk.token_id)
            if detokenizer.stopped:
                break
        detokenizer.finish()
        return detokenizer.text.rstrip("\n")


Counts = Counter[tuple[str, str, str]]


def score(directory: Path, preset: str = "greedy", folder: Path = HELD_OUT, failures: bool = False) -> Counts:
    """Count each (language, kind, verdict)."""
    answerer = Answerer(directory, SAMPLING[preset])
    counts: Counts = Counter()
    for question in questions(folder):
        reply = answerer.answer(question)
        verdict = question.verdict(reply)
        counts[question.lang, question.kind, verdict] += 1
        if failures and verdict != "right":
            print(
                f"{question.lang} {question.kind} {verdict}: {' / '.join(question.turns)}\n    -> {reply!r}", flush=True
            )
    return counts


def cell(counts: Counts, langs: tuple[str, ...], kind: str | None) -> str:
    asked = Counter[str]()
    for (lang, its_kind, verdict), count in counts.items():
        if lang in langs and kind in (None, its_kind):
            asked[verdict] += count
    whole = max(asked.total(), 1)
    shares = " / ".join(f"{100 * asked[verdict] / whole:.0f}" for verdict in ("right", "refused", "false"))
    return f"{shares} of {asked.total()}"


def table(counts: Counts) -> str:
    kinds = dict.fromkeys(kind for _, kind, _ in counts)
    lines = ["| kind | en | ja | both |", "|---|---|---|---|"]
    for kind in [*sorted(kinds), None]:
        cells = [cell(counts, langs, kind) for langs in (("en",), ("ja",), ("en", "ja"))]
        lines.append(f"| {kind or '**all**'} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, nargs="?", default=Path("bilingual_chat/hub/demo"))
    parser.add_argument("--preset", choices=SAMPLING, default="greedy")
    parser.add_argument("--failures", action="store_true", help="print each reply that is not right")
    parser.add_argument("--questions", type=Path, default=HELD_OUT)
    parser.add_argument("--write", type=Path, help="add the table to this file")
    arguments = parser.parse_args()
    counts = score(arguments.directory, arguments.preset, arguments.questions, arguments.failures)
    print(table(counts))
    if arguments.write:
        with arguments.write.open("a", encoding="utf-8") as file:
            file.write(f"\nPreset {arguments.preset}:\n\n{table(counts)}\n")


if __name__ == "__main__":
    main()
