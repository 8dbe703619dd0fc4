"""The material of the corpus: the tables of `data/`, and the ways in which users type."""

from __future__ import annotations

import csv
import random
import re
import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"
Exchange = list[tuple[str, str]]


@cache
def rows(name: str) -> list[dict[str, str]]:
    with (DATA / f"{name}.tsv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


@cache
def toml(name: str) -> dict[str, Any]:
    return tomllib.loads((DATA / f"{name}.toml").read_text(encoding="utf-8"))


@cache
def intents(name: str) -> list[dict[str, Any]]:
    """Return the intents of `data/NAME.toml`, each with the further wordings of `data/more*_NAME.toml`."""
    entries = list(toml(name)["intent"])
    for more in (toml(path.stem) for path in sorted(DATA.glob(f"more*_{name}.toml"))):
        for entry in entries:
            for lang in ("en", "ja"):
                entry[lang]["ask"] = [*entry[lang]["ask"], *more.get(entry["name"], {}).get(lang, [])]
    return entries


@cache
def taught() -> list[dict[str, str]]:
    """Return the rows of `words.tsv` that the model learns; it refuses the others."""
    return [row for row in rows("words") if row["en"] not in toml("unknown")["later"]]


W: dict[str, Any] = toml("wordings")
for _lang in ("en", "ja"):  # a number is asked for like any word
    W["number_ja"][_lang] += W["en_to_ja"][_lang]
    W["number_en"][_lang] += W["ja_to_en"][_lang]


# -- the user's typing ------------------------------------------------------------------------------


def typed(text: str, lang: str, rng: random.Random) -> str:
    """Return `text` as users type it: other verbs, a word before or after, no capital, no full stop."""
    core, end = text, ""
    while core and core[-1] in "?!？！。.":
        core, end = core[:-1], core[-1] + end
    swaps = W["en_swaps"] if lang == "en" else W["ja_swaps"]
    chance = 0.3 if lang == "en" else 0.28
    for pattern, others in swaps:
        if rng.random() < chance and re.search(pattern, core):
            other = rng.choice(others)
            if "..." not in other:
                core = re.sub(pattern, lambda _: other, core, count=1)  # noqa: B023 - used at once
    if rng.random() < 0.12:
        before = rng.choice(W["en_before"] if lang == "en" else W["ja_before"])
        if lang == "en" and core[:1].isupper() and not core.startswith(("I ", "I'")):
            core = core[0].lower() + core[1:]
        core = before + core
    roll = rng.random()
    if roll < 0.12:
        end = rng.choice(W["en_after"] if lang == "en" else W["ja_after"])
    elif roll < 0.34:
        end = ""
    if lang == "en" and rng.random() < 0.22:
        core = core.lower()
    if lang == "en" and rng.random() < 0.03 and len(core) > 8:
        at = rng.randrange(3, len(core) - 2)
        core = core[:at] + core[at + 1] + core[at] + core[at + 2 :]
    if lang == "ja" and rng.random() < 0.03:
        core = core.replace("、", "")
    if lang == "ja" and end and end[-1] in "?" and rng.random() < 0.7:
        end = "？"
    return core + end


def ask(templates: list[str], lang: str, rng: random.Random, **slots: str) -> str:
    return typed(rng.choice(templates).format(**slots), lang, rng)


def maybe(rng: random.Random, chance: float) -> bool:
    return rng.random() < chance


def quoted(word: str, lang: str, rng: random.Random) -> str:
    marks = (
        [("'", "'"), ('"', '"'), ("", ""), ("", ""), ("“", "”")]
        if lang == "en"
        else [("「", "」"), ("「", "」"), ("", ""), ("", ""), ("『", "』")]
    )
    left, right = rng.choice(marks)
    if not word.isascii() and lang == "en" and maybe(rng, 0.3):
        left, right = "「", "」"
    return f"{left}{word}{right}"


# -- unusual form -----------------------------------------------------------------------------------


def unusual_form(rng: random.Random) -> Callable[[str], str] | None:
    """Mostly None; else a habit throughout: full width, capitals, kana only, no marks, slips."""
    if not maybe(rng, 0.16):
        return None
    return rng.choice([full_width, str.upper, in_kana, in_kana, without_marks, lambda text: with_slips(text, rng)])


def full_width(text: str) -> str:
    return "".join(chr(ord(each) + 0xFEE0) if "!" <= each <= "~" else each for each in text)


def without_marks(text: str) -> str:
    return re.sub(r"[?!.,'\"？！。、「」『』“”]", "", text).lower()


@cache
def readings() -> tuple[re.Pattern[str], dict[str, str]]:
    """Return the words with a known reading, the longest first."""
    known = {row["ja"]: row["kana"] for row in rows("words") if row["ja"] != row["kana"]} | toml("wordings")["in_kana"]
    return re.compile("|".join(re.escape(each) for each in sorted(known, key=len, reverse=True))), known


def in_kana(text: str) -> str:
    pattern, known = readings()
    return pattern.sub(lambda found: known[found[0]], text)


def with_slips(text: str, rng: random.Random) -> str:
    """Omit, double or swap a letter now and then."""
    out = ""
    for each in text:
        roll = rng.random() if each.isascii() and each.isalpha() else 1.0
        out += "" if roll < 0.03 else each * 2 if roll < 0.05 else each
    return out
