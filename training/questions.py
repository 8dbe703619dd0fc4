"""The questions of `heldout/` and `development/`: the judgement of a reply, and the check that the corpus has none."""

from __future__ import annotations

import json
import re
import sys
import tomllib
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

HELD_OUT = Path(__file__).parent / "heldout"
GIVEN = "< "
REFUSAL = re.compile(
    r"beyond me|beyond what|don't know|do not know|don't have|can't (?:know|see|do|tell|look|say|answer|help|give|work)"
    r"|have no (?:idea|access|way)|no way of knowing|not able to|only a (?:tiny|small)|too (?:hard|difficult) for"
    r"|(?:分|わ)かりません|(?:分|わ)からない|知りません|知らない|でき(?:ません|ない)|答えられ(?:ません|ない)"
    r"|手に負え|小さな(?:お試し)?(?:デモ)?モデル|力を超え|無理です"
)


@dataclass(frozen=True)
class Question:
    kind: str
    lang: str
    turns: tuple[str, ...]
    right: str

    def verdict(self, reply: str) -> str:
        text = fold(reply)
        if self.right == "REFUSE":
            return "right" if REFUSAL.search(text) else "false"
        if re.search(self.right, text, re.DOTALL):
            return "right"
        return "refused" if REFUSAL.search(text) else "false"


def fold(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def questions(folder: Path = HELD_OUT) -> Iterator[Question]:
    for path in sorted(folder.glob("*.toml")):
        for kind, languages in tomllib.loads(path.read_text(encoding="utf-8")).items():
            for lang, rows in languages.items():
                for row in rows:
                    *turns, right = [row, "REFUSE"] if isinstance(row, str) else row
                    yield Question(kind, lang, tuple(turns), right)


# -- the corpus must not ask them ----------------------------------------------------------------------

SHORT = 7  # characters without marks: anybody says "Hello" or 「犬 英語」


def wording(text: str) -> str:
    return re.sub(r"[\W_]+", "", fold(text))


@cache
def held_out() -> tuple[frozenset[str], frozenset[tuple[str, ...]]]:
    """Return the wordings of questions of one turn, and of several turns, without the unusual spellings."""
    asked = [
        tuple(wording(turn) for turn in each.turns if not turn.startswith(GIVEN))
        for each in questions()
        if each.kind != "unusual"
    ]
    single = frozenset(turns[0] for turns in asked if len(turns) == 1 and len(turns[0]) >= SHORT)
    return single, frozenset(turns for turns in asked if len(turns) > 1)


def asks_held_out(users: list[str]) -> bool:
    single, several = held_out()
    worded = [wording(user) for user in users]
    pairs = {tuple(worded[at : at + count]) for count in (2, 3) for at in range(len(worded) - count + 1)}
    return any(each in single for each in worded) or not pairs.isdisjoint(several)


# -- for bchat sweep -----------------------------------------------------------------------------------


def as_prompts(folder: Path) -> Iterator[dict[str, object]]:
    """Yield the questions whose earlier replies are all given, as prompts of `bchat sweep`."""
    for number, each in enumerate(questions(folder), start=1):
        speakers = ["system" if turn.startswith(GIVEN) else "user" for turn in each.turns]
        if any(first == second for first, second in pairwise(speakers)):
            continue  # the model's own replies stand between the turns
        said = [
            {"speaker": speaker, "text": turn.removeprefix(GIVEN)}
            for speaker, turn in zip(speakers, each.turns, strict=True)
        ]
        pattern = REFUSAL.pattern if each.right == "REFUSE" else each.right
        yield {"id": f"{each.kind}-{each.lang}-{number}", "utterances": said, "pattern": f"(?is){pattern}"}


if __name__ == "__main__":
    for prompt in as_prompts(Path(sys.argv[1]) if sys.argv[1:] else HELD_OUT):
        print(json.dumps(prompt, ensure_ascii=False))
