"""The corpus of the embedded model: a seeded stream of conversations made from `data/`.

`conversation(random.Random(seed))` gives a list of (user, reply) pairs. What is written by hand (questions
in many wordings, words, phrases, facts) lies in `data/`; what is combined (slots, follow-ups, noise in the
user's typing) is made here. Deterministic: the same generator state gives the same conversation.
"""

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

UNKNOWN = {
    "en": "I don't know that. I'm only a tiny demonstration model. For real answers, get the 4B model with `bchat pull sft`.",
    "ja": "すみません、それは分かりません。私は小さなデモ用モデルです。4Bモデルは `bchat pull sft` で入手できます。",
}


@cache
def rows(name: str) -> list[dict[str, str]]:
    with (DATA / f"{name}.tsv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


@cache
def toml(name: str) -> dict[str, Any]:
    return tomllib.loads((DATA / f"{name}.toml").read_text(encoding="utf-8"))


@cache
def intents(name: str) -> list[dict[str, Any]]:
    """The intents of `data/NAME.toml`, with the further wordings of `data/more*_NAME.toml` added to each."""
    entries = list(toml(name)["intent"])
    for more in (toml(path.stem) for path in sorted(DATA.glob(f"more*_{name}.toml"))):
        for entry in entries:
            for lang in ("en", "ja"):
                entry[lang]["ask"] = [*entry[lang]["ask"], *more.get(entry["name"], {}).get(lang, [])]
    return entries


W: dict[str, Any] = toml("wordings")
for _lang in ("en", "ja"):  # a number is asked for like any word
    W["number_ja"][_lang] += W["en_to_ja"][_lang]
    W["number_en"][_lang] += W["ja_to_en"][_lang]


# -- the user's typing ------------------------------------------------------------------------------


def typed(text: str, lang: str, rng: random.Random) -> str:
    """`text` as somebody might type it: other verbs, a word before or after, no capital, no full stop."""
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


# -- follow-ups -------------------------------------------------------------------------------------


def maybe(rng: random.Random, chance: float) -> bool:
    return rng.random() < chance


def with_echo(exchange: Exchange, lang: str, rng: random.Random) -> Exchange:
    """Now and then: the same reply again, or what was asked."""
    if maybe(rng, 0.07):
        return [*exchange, (typed(rng.choice(W["again"][lang]), lang, rng), exchange[-1][1])]
    return exchange


# -- exchanges --------------------------------------------------------------------------------------


def from_intents(name: str) -> Callable[[str, random.Random], Exchange]:
    def make(lang: str, rng: random.Random) -> Exchange:
        entry = rng.choice(intents(name))
        replies = entry[lang]["reply"]
        exchange = [(typed(rng.choice(entry[lang]["ask"]), lang, rng), rng.choice(replies))]
        if name in ("facts", "about", "lists") and maybe(rng, 0.22) and "_other" not in entry["name"]:
            other = "ja" if lang == "en" else "en"
            exchange.append((typed(rng.choice(W["other_language"][other]), lang, rng), entry[other]["reply"][0]))
        return with_echo(exchange, lang, rng)

    return make


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


def say_en_ja(row: dict[str, str], lang: str) -> str:
    if lang == "en":
        return f'"{row["en"]}" in Japanese is {row["ja"]} ({row["romaji"]}).'
    return f"{row['en']} は日本語で「{row['ja']}」です。"


def say_ja_en(row: dict[str, str], lang: str) -> str:
    return (
        f'{row["ja"]} ({row["romaji"]}) means "{row["en"]}".'
        if lang == "en"
        else f"「{row['ja']}」は英語で {row['en']} です。"
    )


def say_reading(row: dict[str, str], lang: str) -> str:
    return (
        f"{row['ja']} is read {row['kana']} ({row['romaji']})."
        if lang == "en"
        else f"「{row['ja']}」は「{row['kana']}」と読みます。"
    )


def words(lang: str, rng: random.Random) -> Exchange:
    """A word one way or the other; perhaps its reading, another word, or a verb's forms."""
    table = rows("words")
    row = rng.choice(table)
    into_ja = maybe(rng, 0.5)
    kanji = [r for r in table if r["ja"] != r["kana"]]

    def one(row: dict[str, str], templates: dict[str, list[str]]) -> tuple[str, str]:
        source = row["en"] if into_ja else row["ja"]
        if into_ja and source.startswith("to ") and maybe(rng, 0.3):
            source = source[3:]
        return ask(templates[lang], lang, rng, q=quoted(source, lang, rng)), (say_en_ja if into_ja else say_ja_en)(
            row, lang
        )

    roll = rng.random()
    if roll < 0.12:
        row = rng.choice(kanji)
        exchange = [(ask(W["reading"][lang], lang, rng, q=quoted(row["ja"], lang, rng)), say_reading(row, lang))]
        if maybe(rng, 0.3):
            row = rng.choice(kanji)
            exchange.append(
                (ask(W["and_word"][lang], lang, rng, q=quoted(row["ja"], lang, rng)), say_reading(row, lang))
            )
        return exchange
    exchange = [one(row, W["en_to_ja"] if into_ja else W["ja_to_en"])]
    if roll < 0.42:
        for _ in range(rng.choice([1, 1, 2])):
            row = rng.choice(table)
            exchange.append(one(row, W["and_word"]))
    if row["en"] in OPPOSITES and maybe(rng, 0.3):
        exchange.append((typed(rng.choice(W["that_opposite"][lang]), lang, rng), say_opposite(row, into_ja, lang)))
    elif maybe(rng, 0.06):
        other = "ja" if lang == "en" else "en"
        exchange.append(
            (
                typed(rng.choice(W["other_language"][other]), other, rng),
                (say_en_ja if into_ja else say_ja_en)(row, other),
            )
        )
    elif row["ja"] != row["kana"] and maybe(rng, 0.22):
        exchange.append((ask(W["that_reading"][lang], lang, rng), say_reading(row, lang)))
    return with_echo(exchange, lang, rng)


def say_form(row: dict[str, str], form: str, base: str, lang: str) -> str:
    if lang == "en":
        return f"The {W['forms'][form][0][0]} of {base} is {row[form]}."
    return f"「{base}」の{W['forms'][form][1][0]}は「{row[form]}」です。"


def verbs(lang: str, rng: random.Random) -> Exchange:
    row = rng.choice(rows("verbs"))
    at = 0 if lang == "en" else 1
    if maybe(rng, 0.25):
        past = (
            f'The past tense of "{row["en"]}" is "{row["en_past"]}".'
            if lang == "en"
            else f"{row['en']} の過去形は {row['en_past']} です。"
        )
        return [(ask(W["past_en"][lang], lang, rng, q=quoted(row["en"], lang, rng)), past)]
    form = rng.choice(["masu", "masu", "te", "nai", "ta", "dict"])
    base = row["masu"] if form == "dict" else row["dict"]
    exchange = [
        (
            ask(W["form_ask"][lang], lang, rng, q=quoted(base, lang, rng), f=rng.choice(W["forms"][form][at])),
            say_form(row, form, base, lang),
        )
    ]
    if maybe(rng, 0.45):
        if maybe(rng, 0.5) and form != "dict":
            other = rng.choice([f for f in ("masu", "te", "nai", "ta") if f != form])
            exchange.append(
                (
                    ask(W["and_form"][lang], lang, rng, f=rng.choice(W["forms"][other][at])),
                    say_form(row, other, base, lang),
                )
            )
        else:
            row = rng.choice(rows("verbs"))
            base = row["masu"] if form == "dict" else row["dict"]
            exchange.append(
                (ask(W["and_word"][lang], lang, rng, q=quoted(base, lang, rng)), say_form(row, form, base, lang))
            )
    return exchange


def word_then_form(lang: str, rng: random.Random) -> Exchange:
    """A verb asked for, then a form of it: the second question means nothing without the first."""
    known = {r["ja"]: r for r in rows("words")}
    row = rng.choice([r for r in rows("verbs") if r["dict"] in known])
    word = known[row["dict"]]
    into_ja = maybe(rng, 0.6)
    source = word["en"] if into_ja else word["ja"]
    first = ask((W["en_to_ja"] if into_ja else W["ja_to_en"])[lang], lang, rng, q=quoted(source, lang, rng))
    form = rng.choice(["masu", "masu", "te", "nai", "ta"])
    at = 0 if lang == "en" else 1
    return [
        (first, (say_en_ja if into_ja else say_ja_en)(word, lang)),
        (
            ask(W["and_form"][lang], lang, rng, f=rng.choice(W["forms"][form][at])),
            say_form(row, form, row["dict"], lang),
        ),
    ]


OPPOSITES = {
    a: b
    for r in rows("antonyms")
    if r["lang"] == "en"
    for a, b in ((r["word"], r["opposite"]), (r["opposite"], r["word"]))
}
OPPOSITES_JA = {
    a: b
    for r in rows("antonyms")
    if r["lang"] == "ja"
    for a, b in ((r["word"], r["opposite"]), (r["opposite"], r["word"]))
}


def say_opposite(row: dict[str, str], into_ja: bool, lang: str) -> str:
    """The opposite of a word just translated, in the language it was asked about."""
    if lang == "ja" and row["ja"] in OPPOSITES_JA:
        return f"「{row['ja']}」の反対は「{OPPOSITES_JA[row['ja']]}」です。"
    if lang == "ja":
        return f"{row['en']} の反対は {OPPOSITES[row['en']]} です。"
    return f'The opposite of "{row["en"]}" is "{OPPOSITES[row["en"]]}".'


def antonyms(lang: str, rng: random.Random) -> Exchange:
    table = [(r["word"], r["opposite"]) for r in rows("antonyms") if r["lang"] == lang]
    table += [(b, a) for a, b in table]

    def say(pair: tuple[str, str]) -> str:
        return (
            f'The opposite of "{pair[0]}" is "{pair[1]}".'
            if lang == "en"
            else f"「{pair[0]}」の反対は「{pair[1]}」です。"
        )

    pair = rng.choice(table)
    exchange = [(ask(W["opposite"][lang], lang, rng, q=quoted(pair[0], lang, rng)), say(pair))]
    if maybe(rng, 0.3):
        pair = rng.choice(table)
        templates = W["opposite"] if maybe(rng, 0.4) else W["and_word"]
        exchange.append((ask(templates[lang], lang, rng, q=quoted(pair[0], lang, rng)), say(pair)))
    return exchange


def phrases(lang: str, rng: random.Random) -> Exchange:
    row = rng.choice(rows("phrases"))
    if lang == "en":
        source, target = row["en"], f"{row['ja']}\n({row['romaji']})"
        if maybe(rng, 0.3):
            source = source.rstrip("?.!")
        if maybe(rng, 0.15):
            source = source.lower()
        exchange = [(ask(W["phrase"]["ja"], "en", rng, q=source), target)]
        if row["plain"] and maybe(rng, 0.4):
            exchange.append((typed(rng.choice(W["casual"]), "en", rng), row["plain"]))
        return with_echo(exchange, lang, rng)
    source = row["ja"] if maybe(rng, 0.7) else row["ja"].rstrip("。")
    exchange = [(ask(W["phrase"]["en"], "ja", rng, q=source), row["en"])]
    if maybe(rng, 0.08):
        exchange.append((typed(rng.choice(W["other_language"]["ja"][-4:]), "ja", rng), row["ja"]))
    return with_echo(exchange, lang, rng)


def capitals(lang: str, rng: random.Random) -> Exchange:
    def say(row: dict[str, str], lang: str) -> str:
        return (
            f"The capital of {row['country_en']} is {row['capital_en']}."
            if lang == "en"
            else f"{row['country_ja']}の首都は{row['capital_ja']}です。"
        )

    row = rng.choice(rows("capitals"))
    country = row[f"country_{lang}"]
    bare = country.removeprefix("the ") if maybe(rng, 0.3) else country
    exchange = [(ask(W["capital"][lang], lang, rng, q=bare), say(row, lang))]
    roll = rng.random()
    if roll < 0.3:
        row = rng.choice(rows("capitals"))
        exchange.append((ask(W["and_word"][lang], lang, rng, q=row[f"country_{lang}"]), say(row, lang)))
    elif roll < 0.5:
        other = "ja" if lang == "en" else "en"
        exchange.append((typed(rng.choice(W["other_language"][other]), lang, rng), say(row, other)))
    return with_echo(exchange, lang, rng)


def number_en(n: int) -> str:
    if n == 100:
        return "one hundred"
    if n < 20:
        return W["units_en"][n]
    return W["tens_en"][n // 10] + (f"-{W['units_en'][n % 10]}" if n % 10 else "")


def number_ja(n: int) -> tuple[str, str]:
    if n == 0:
        return "零", "ゼロ"
    if n == 100:
        return "百", "ひゃく"
    tens, unit = divmod(n, 10)
    kanji = (("" if tens == 1 else W["units_ja"][tens]) + "十" if tens else "") + W["units_ja"][unit]
    kana = (("" if tens == 1 else W["units_kana"][tens]) + "じゅう" if tens else "") + W["units_kana"][unit]
    return kanji, kana


DAYS_JA = [f"{d}曜日" for d in "月火水木金土日"]
MONTHS_JA = [f"{n}月" for n in range(1, 13)]


def numbers(lang: str, rng: random.Random) -> Exchange:
    roll = rng.random()
    if roll < 0.22:
        a, b = rng.randrange(11), rng.randrange(11)
        say = f"{a} + {b} = {a + b}." if lang == "en" else f"{a}足す{b}は{a + b}です。"
        return [(ask(W["sums"][lang], lang, rng, a=str(a), b=str(b)), say)]
    if roll < 0.55:
        return days_and_months(lang, rng)
    exchange: Exchange = []
    n = rng.randrange(101)
    kanji, kana = number_ja(n)
    way = rng.choice(["digits", "words", "kanji"])
    for index in range(rng.choice([1, 1, 2])):
        if index:
            n = rng.randrange(101)
            kanji, kana = number_ja(n)
        to_ja = W["number_ja"] if index == 0 else W["and_word"]
        to_en = W["number_en"] if index == 0 else W["and_word"]
        if lang == "en" and way != "kanji":
            source = str(n) if way == "digits" else number_en(n)
            exchange.append(
                (ask(to_ja["en"], lang, rng, q=quoted(source, lang, rng)), f"{n} in Japanese is {kanji} ({kana}).")
            )
        elif lang == "en":
            exchange.append(
                (
                    ask(to_en["en"], lang, rng, q=quoted(kanji, lang, rng)),
                    f'{kanji} ({kana}) means {n}, "{number_en(n)}".',
                )
            )
        elif way == "words":
            exchange.append(
                (
                    ask(to_ja["ja"], lang, rng, q=quoted(number_en(n), lang, rng)),
                    f"{number_en(n)} は日本語で「{kanji}」です。",
                )
            )
        else:
            source = str(n) if way == "digits" else kanji
            exchange.append(
                (
                    ask(to_en["ja"], lang, rng, q=quoted(source, lang, rng)),
                    f"「{source}」は英語で {number_en(n)} です。",
                )
            )
    return exchange


def days_and_months(lang: str, rng: random.Random) -> Exchange:
    day = maybe(rng, 0.55)
    names = (W["days_en"] if day else W["months_en"]) if lang == "en" else (DAYS_JA if day else MONTHS_JA)
    unit = ("day" if day else "month") if lang == "en" else ("曜日" if day else "月")
    step = 1 if maybe(rng, 0.65) else -1
    templates = (W["after"] if step == 1 else W["before"])[lang]
    if not day:
        templates = [t for t in templates if "today" not in t and "今日" not in t and "翌日" not in t]
    at = rng.randrange(len(names))

    def say(at: int) -> str:
        other = names[(at + step) % len(names)]
        if lang == "en":
            return f"{other} comes {'after' if step == 1 else 'before'} {names[at]}."
        return f"{names[at]}の{'次' if step == 1 else '前'}は{other}です。"

    exchange = [(ask(templates, lang, rng, q=names[at], u=unit), say(at))]
    if maybe(rng, 0.4):
        if step == 1 and maybe(rng, 0.6):
            exchange.append((typed(rng.choice(W["then"][lang]), lang, rng), say((at + 1) % len(names))))
        else:
            at = rng.randrange(len(names))
            exchange.append((ask(W["and_word"][lang], lang, rng, q=names[at]), say(at)))
    return exchange


# Everyday nouns in questions that nobody could answer from here: the noun is known, the question is not.


def unknown(lang: str, rng: random.Random) -> Exchange:
    roll = rng.random()
    known = {row["country_en"].removeprefix("the ") for row in rows("capitals")} | {
        row["country_ja"] for row in rows("capitals")
    }
    if roll < 0.38:
        entry = rng.choice(intents("unknown"))
        question = typed(rng.choice(entry[lang]["ask"]), lang, rng)
    elif roll < 0.54:
        nouns = [
            row[lang]
            for row in rows("words")
            if row["category"] not in ("verb", "adjective", "feeling", "country", "time", "colour", "weather")
        ]
        question = ask(W["beyond"][lang], lang, rng, q=rng.choice(nouns))
    elif roll < 0.57:
        question = ask(
            W["capital"][lang], lang, rng, q=rng.choice([each for each in W["far"][lang] if each not in known])
        )
    elif roll < 0.75:
        question = ask(W["topic"][lang], lang, rng, q=rng.choice(toml("unknown")[f"topics_{lang}"]))
    elif roll < 0.93:
        into_ja = maybe(rng, 0.5)
        word = rng.choice(toml("unknown")["oov_en" if into_ja else "oov_ja"])
        question = ask((W["en_to_ja"] if into_ja else W["ja_to_en"])[lang], lang, rng, q=quoted(word, lang, rng))
    elif roll < 0.965:
        question = ask(W["large"][lang], lang, rng, a=str(rng.randrange(12, 999)), b=str(rng.randrange(2, 999)))
    else:
        a, b = rng.randrange(12, 999), rng.randrange(12, 999)
        sign = rng.choice(["+", "-", "*", "x", "×", "/", "÷"])
        question = typed(
            rng.choice(
                [f"What is {a} {sign} {b}?", f"{a} {sign} {b}", f"Calculate {a}{sign}{b}"]
                if lang == "en"
                else [f"{a}{sign}{b}は？", f"{a} {sign} {b} を計算してください"]
            ),
            lang,
            rng,
        )
    return [(question, UNKNOWN[lang])]


def made_up_name(lang: str, rng: random.Random) -> str:
    """A name nobody has: one that can only be copied from where it was said, never known."""
    if lang == "en":
        syllables = [
            rng.choice(W["made_up"]["onset"]) + rng.choice(["a", "e", "i", "o", "u"])
            for _ in range(rng.choice([2, 2, 3]))
        ]
        return ("".join(syllables) + rng.choice(["", "", "n", "l", "r", "s"])).capitalize()
    if maybe(rng, 0.5):
        return "".join(rng.choice(W["made_up"]["kana"]) for _ in range(rng.choice([2, 3, 3, 4])))
    return rng.choice(W["made_up"]["first"]) + rng.choice(W["made_up"]["last"])


def names(lang: str, rng: random.Random) -> Exchange:
    """A name told and, some turns later, asked back."""
    name = rng.choice(W["names"][lang]) if maybe(rng, 0.4) else made_up_name(lang, rng)
    hello = f"Nice to meet you, {name}!" if lang == "en" else f"はじめまして、{name}さん。よろしくお願いします。"
    exchange = [(ask(W["my_name"][lang], lang, rng, q=name), hello)]
    if maybe(rng, 0.75):
        for _ in range(rng.choice([0, 0, 1, 1, 2])):
            exchange += rng.choice([from_intents("talk"), words, from_intents("facts")])(lang, rng)
        say = f"Your name is {name}." if lang == "en" else f"あなたのお名前は{name}さんです。"
        exchange.append((ask(W["what_name"][lang], lang, rng), say))
    return exchange


KINDS: list[tuple[Callable[[str, random.Random], Exchange], float]] = [
    (from_intents("talk"), 15),
    (from_intents("about"), 15),
    (from_intents("facts"), 15),
    (from_intents("lists"), 5),
    (words, 17),
    (verbs, 4),
    (word_then_form, 3),
    (antonyms, 4),
    (phrases, 10),
    (capitals, 5),
    (numbers, 7),
    (unknown, 15),
    (names, 6),
]


def exchange(lang: str, rng: random.Random) -> Exchange:
    makers, weights = zip(*KINDS, strict=True)
    return rng.choices(makers, weights)[0](lang, rng)


def conversation(rng: random.Random) -> Exchange:
    """One conversation: mostly one language, one to a dozen exchanges."""
    lang = rng.choice(["en", "ja"])
    turns: Exchange = []
    if maybe(rng, 0.02):  # only here: later, somebody may have told it
        turns.append((ask(W["what_name"][lang], lang, rng), W["no_name"][lang]))
    for _ in range(rng.choice([1, 1, 1, 1, 2, 2, 3, 4, 6, 9])):
        if maybe(rng, 0.2):
            lang = "ja" if lang == "en" else "en"
        turns += exchange(lang, rng)
    return turns


if __name__ == "__main__":
    sample = random.Random(1)
    for _ in range(12):
        print("\n".join(f"ユーザー: {u}\nシステム: {r}" for u, r in conversation(sample)), end="\n\n")
