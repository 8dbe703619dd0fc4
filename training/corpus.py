"""The corpus of the embedded model: a seeded stream of conversations made from `data/`.

`conversation(random.Random(seed))` returns a list of (user, reply) pairs. `data/` has the handwritten material
(questions in many wordings, words, phrases, facts); this module combines it (slots, follow-ups, noise in the user's
typing). Deterministic: the same generator state gives the same conversation.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from typing import Any

from bchat_facts import REPLY_OF, bchat, replies
from counting import numbers
from grammar import adjective_forms, verb_forms
from kana import hiragana
from material import Exchange, W, ask, intents, maybe, quoted, rows, taught, toml, typed, unusual_form
from questions import asks_held_out
from scenes import (
    S,
    a_name,
    capital,
    clarify,
    counted_list,
    filled,
    joke,
    made_up_word,
    opinion,
    persona,
    poem,
    quiz,
    recall,
    remark,
    small_talk,
    story,
)

# -- follow-ups -------------------------------------------------------------------------------------


def with_echo(exchange: Exchange, lang: str, rng: random.Random) -> Exchange:
    """Sometimes: the same reply again, or the question."""
    if maybe(rng, 0.12):
        return [*exchange, (typed(rng.choice(W["again"][lang]), lang, rng), exchange[-1][1])]
    return exchange


# -- exchanges --------------------------------------------------------------------------------------


def said_of(entry: dict[str, Any], lang: str) -> list[str]:
    """Return the reply of an intent; about bchat, it is made from bchat's tables."""
    thing = REPLY_OF.get(entry["name"])
    return [replies()[thing][lang]] if thing else entry[lang]["reply"]


def from_intents(name: str) -> Callable[[str, random.Random], Exchange]:
    def make(lang: str, rng: random.Random) -> Exchange:
        entry = rng.choice(intents(name))
        exchange = [(typed(rng.choice(entry[lang]["ask"]), lang, rng), rng.choice(said_of(entry, lang)))]
        if name in ("facts", "about", "lists") and maybe(rng, 0.22) and "_other" not in entry["name"]:
            other = "ja" if lang == "en" else "en"
            exchange.append((typed(rng.choice(W["other_language"][other]), lang, rng), said_of(entry, other)[0]))
        return with_echo(exchange, lang, rng)

    return make


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
        f"{row['ja']} is read {hiragana(row['kana'])} ({row['romaji']})."
        if lang == "en"
        else f"「{row['ja']}」は「{hiragana(row['kana'])}」と読みます。"
    )


def in_a_sentence(row: dict[str, str], lang: str) -> str:
    """Return a short sentence that fits any such word."""
    pattern = W["sentences"].get(row["category"], W["sentences"]["other"])
    english, japanese = pattern.format(en=row["en"].removeprefix("to "), ja=row["ja"]).split(" = ")
    return f"{japanese} ({english})" if lang == "en" else f"{english}（{japanese}）"


COMMON = 400  # the first words of the table, which are asked for more often


def a_word(rng: random.Random) -> dict[str, str]:
    return rng.choice(taught()[: COMMON if maybe(rng, 0.25) else None])


def words(lang: str, rng: random.Random) -> Exchange:
    """Ask for a word in one of two directions; perhaps its reading, another word, or a verb's forms."""
    row = a_word(rng)
    into_ja = maybe(rng, 0.5)
    kanji = [r for r in taught() if r["ja"] != hiragana(r["kana"])]

    def one(row: dict[str, str], templates: dict[str, list[str]]) -> tuple[str, str]:
        source = row["en"] if into_ja else row["ja"]
        if not into_ja and maybe(rng, 0.08):
            source = row["kana"]  # typed without kanji
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
            row = a_word(rng)
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
    elif maybe(rng, 0.1):
        exchange.append((typed(rng.choice(S["sentence"][lang]), lang, rng), in_a_sentence(row, lang)))
    elif row["ja"] != row["kana"] and maybe(rng, 0.22):
        exchange.append((ask(W["that_reading"][lang], lang, rng), say_reading(row, lang)))
    return with_echo(exchange, lang, rng)


FORMS = W["forms"]
ADJECTIVE_FORMS = ["polite", "nai", "ta", "deshita", "te"]
VERB_FORMS = ["masu", "masu", "te", "nai", "ta", "mashita", "masen", "tai", "nakatta"]


def say_form(form: str, base: str, made: str, lang: str) -> str:
    if lang == "en":
        return f"The {FORMS[form][0][0]} of {base} is {made}."
    return f"「{base}」の{FORMS[form][1][0]}は「{made}」です。"


def a_word_with_forms(rng: random.Random) -> tuple[str, dict[str, str], list[str]]:
    """Return (the word, its forms, the names of the forms to ask for)."""
    if maybe(rng, 0.35):
        row = rng.choice(rows("adjectives"))
        return row["ja"], adjective_forms(row["ja"], row["kind"]), ADJECTIVE_FORMS
    row = rng.choice(rows("verbs"))
    return row["dict"], verb_forms(row["dict"], row["kind"]), VERB_FORMS


def asked_form(form: str, lang: str, rng: random.Random, key: str = "form_ask", base: str = "") -> str:
    name = rng.choice(FORMS[form][0 if lang == "en" else 1])
    return ask(W[key][lang], lang, rng, f=name, q=quoted(base, lang, rng))


def forms(lang: str, rng: random.Random) -> Exchange:
    """Ask for a form of a word; then for another one, a form of that form, or the same form of another word."""
    base, made, names = a_word_with_forms(rng)
    form = rng.choice(names)
    exchange = [(asked_form(form, lang, rng, base=base), say_form(form, base, made[form], lang))]
    roll = rng.random()
    if roll < 0.3:
        other = rng.choice([name for name in names if name != form])
        exchange.append((asked_form(other, lang, rng, "and_form"), say_form(other, base, made[other], lang)))
    elif roll < 0.45:
        base, made, names = a_word_with_forms(rng)
        if form in made:
            question = ask(W["and_word"][lang], lang, rng, q=quoted(base, lang, rng))
            exchange.append((question, say_form(form, base, made[form], lang)))
    return exchange


def to_dictionary(lang: str, rng: random.Random) -> Exchange:
    """Ask for the plain form of a form; the past of an English verb; "drank" in Japanese."""
    row = rng.choice(rows("verbs"))
    made = verb_forms(row["dict"], row["kind"])
    roll = rng.random()
    if roll < 0.35:
        base = made[rng.choice(["masu", "masu", "mashita", "ta", "nai", "te"])]
        return [(asked_form("dict", lang, rng, base=base), say_form("dict", base, row["dict"], lang))]
    if roll < 0.7:
        say = f'The past tense of "{row["en"]}" is "{row["en_past"]}".'
        said = say if lang == "en" else f"{row['en']} の過去形は {row['en_past']} です。"
        return [(ask(W["past_en"][lang], lang, rng, q=quoted(row["en"], lang, rng)), said)]
    english, japanese = rng.choice(
        [
            (row["en_past"], made["ta"]),
            (f"I don't {row['en']}", made["nai"]),
            (f"I want to {row['en']}", made["tai"]),
            (f"I didn't {row['en']}", made["nakatta"]),
        ]
    )
    if lang == "en":
        said = f'"{english}" in Japanese is {japanese}.'
        return [(ask(W["en_to_ja"]["en"], lang, rng, q=quoted(english, lang, rng)), said)]
    said = f"「{japanese}」は英語で {english} です。"
    return [(ask(W["ja_to_en"]["ja"], lang, rng, q=quoted(japanese, lang, rng)), said)]


def word_then_form(lang: str, rng: random.Random) -> Exchange:
    """Ask for a verb, then for a form: the second question means nothing without the first."""
    known = {row["ja"]: row for row in taught()}
    row = rng.choice([row for row in rows("verbs") if row["dict"] in known])
    word, made = known[row["dict"]], verb_forms(row["dict"], row["kind"])
    into_ja = maybe(rng, 0.6)
    source = word["en"] if into_ja else word["ja"]
    first = ask((W["en_to_ja"] if into_ja else W["ja_to_en"])[lang], lang, rng, q=quoted(source, lang, rng))
    form = rng.choice(VERB_FORMS)
    exchange = [
        (first, (say_en_ja if into_ja else say_ja_en)(word, lang)),
        (asked_form(form, lang, rng, "and_form"), say_form(form, row["dict"], made[form], lang)),
    ]
    if maybe(rng, 0.3):
        form = rng.choice(VERB_FORMS)
        exchange.append((asked_form(form, lang, rng, "and_form"), say_form(form, row["dict"], made[form], lang)))
    return exchange


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
    """Ask for the opposite of a word just translated, in the language of the question."""
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


# -- what is beyond the model -----------------------------------------------------------------------


def an_unknown_word(lang: str, rng: random.Random) -> str:
    """Return a word of that language that the corpus does not teach, listed or made up."""
    if maybe(rng, 0.75):
        return rng.choice(untaught_words(lang))
    if lang == "en":
        return made_up_word("en", rng).lower() + rng.choice(["", "ism", "ology", "ite", "esque", "ble", "tion"])
    letters = "".join(row["ja"] for row in rows("words") if row["ja"] != row["kana"])
    kanji = [each for each in letters if "一" <= each <= "龠"]
    made = "".join(rng.choice(kanji) for _ in range(rng.choice([2, 2, 3, 4])))
    return made if made not in known_words() else an_unknown_word(lang, rng)


@cache
def untaught_words(lang: str) -> list[str]:
    later = [row[lang] for row in rows("words") if row["en"] in toml("unknown")["later"]]
    return [each for each in [*toml("unknown")[f"oov_{lang}"], *later] if each not in known_words()]


@cache
def known_words() -> set[str]:
    return {row[key] for row in taught() for key in ("en", "ja", "kana")}


def unknown_words(lang: str, rng: random.Random) -> Exchange:
    """Ask for an unknown word, perhaps before or after a known one."""
    into_ja = maybe(rng, 0.5)
    key = rng.choice(["en_to_ja" if into_ja else "ja_to_en"] * 3 + ["reading"])
    word = an_unknown_word("en" if into_ja and key != "reading" else "ja", rng)
    refusal = S["refuse"][f"word_{lang}"][0]
    if maybe(rng, 0.3):
        exchange = words(lang, rng)[:1]
        return [*exchange, (ask(W["and_word"][lang], lang, rng, q=quoted(word, lang, rng)), refusal)]
    exchange = [(ask(W[key][lang], lang, rng, q=quoted(word, lang, rng)), refusal)]
    return exchange + words(lang, rng)[:1] if maybe(rng, 0.2) else exchange


def beyond(lang: str, rng: random.Random) -> str:
    """A question put together from the parts in `data/beyond.toml`."""
    data = toml("beyond")
    values = {name: rng.choice(choices) for name, choices in data[f"slots_{lang}"].items()}
    for name in ("subject", "language"):
        values[f"{name}2"] = rng.choice([each for each in data[f"slots_{lang}"][name] if each != values[name]])
    values |= {"n": str(rng.randrange(2, 90)), "n2": str(rng.randrange(2, 90)), "big": str(rng.randrange(101, 99_999))}
    values |= {"month": values.get("month") or rng.choice(W["months_en"]), "year": str(rng.randrange(1700, 2090))}
    return capital(filled(rng.choice(data[lang]), values | {"thing_cap": capital(values["thing"])}))


def unknown_question(lang: str, rng: random.Random) -> str:
    roll = rng.random()
    if maybe(rng, 0.5):
        return typed(beyond(lang, rng), lang, rng)
    if roll < 0.45:
        return typed(rng.choice(rng.choice(intents("unknown"))[lang]["ask"]), lang, rng)
    if roll < 0.6:
        nouns = [row[lang] for row in rows("words") if row["category"] not in NOT_NOUNS]
        return ask(W["beyond"][lang], lang, rng, q=rng.choice(nouns))
    if roll < 0.65:
        known = {row[f"country_{lang}"].removeprefix("the ") for row in rows("capitals")}
        return ask(W["capital"][lang], lang, rng, q=rng.choice([each for each in W["far"][lang] if each not in known]))
    if roll < 0.8:
        return ask(W["topic"][lang], lang, rng, q=rng.choice(toml("unknown")[f"topics_{lang}"]))
    if roll < 0.9:
        word = rng.choice(rows("words"))[lang]
        language = rng.choice(S["refuse"][f"language_{lang}"])
        return ask(S["refuse"][f"in_language_{lang}"], lang, rng, w=word, l=language)
    a, b = rng.randrange(12, 9999), rng.randrange(2, 999)
    if roll < 0.96:
        return ask(W["large"][lang], lang, rng, a=str(a), b=str(b))
    sign = rng.choice(["+", "-", "*", "x", "×", "/", "÷"])
    return ask(W["sign"][lang], lang, rng, q=rng.choice([f"{a} {sign} {b}", f"{a}{sign}{b}"]))


NOT_NOUNS = {
    "verb",
    "adjective",
    "feeling",
    "country",
    "time",
    "colour",
    "weather",
    "adverb",
    "phrase",
    "question",
    "abstract",
}


def unknown(lang: str, rng: random.Random) -> Exchange:
    refusal = S["refuse"][lang][0]
    exchange = [(unknown_question(lang, rng), refusal)]
    if maybe(rng, 0.12):
        exchange.append((typed(rng.choice(S["refuse"][f"more_{lang}"]), lang, rng), refusal))
    return exchange


# -- conversations ----------------------------------------------------------------------------------


def names(lang: str, rng: random.Random) -> Exchange:
    """The user gives a name and asks for it some turns later."""
    name = a_name(lang, rng)
    hello = f"Nice to meet you, {name}!" if lang == "en" else f"はじめまして、{name}さん。よろしくお願いします。"
    exchange = [(ask(W["my_name"][lang], lang, rng, q=name), hello)]
    if maybe(rng, 0.75):
        for _ in range(rng.choice([0, 0, 1, 1, 2])):
            exchange += rng.choice([from_intents("talk"), words, small_talk, from_intents("facts")])(lang, rng)
        say = f"Your name is {name}." if lang == "en" else f"あなたのお名前は{name}さんです。"
        exchange.append((ask(W["what_name"][lang], lang, rng), say))
    return exchange


KINDS: list[tuple[Callable[[str, random.Random], Exchange], float]] = [
    (from_intents("talk"), 15),
    (from_intents("about"), 15),
    (from_intents("facts"), 12),
    (from_intents("lists"), 3),
    (bchat, 18),
    (small_talk, 10),
    (remark, 2),
    (opinion, 1),
    (words, 44),
    (forms, 11),
    (to_dictionary, 7),
    (word_then_form, 4),
    (antonyms, 3),
    (phrases, 11),
    (capitals, 4),
    (numbers, 28),
    (unknown, 22),
    (unknown_words, 14),
    (names, 8),
    (recall, 5),
    (story, 1.5),
    (poem, 1),
    (joke, 0.5),
    (quiz, 3),
    (persona, 1),
    (counted_list, 2),
    (clarify, 1),
]


def exchange(lang: str, rng: random.Random) -> Exchange:
    makers, weights = zip(*KINDS, strict=True)
    return rng.choices(makers, weights)[0](lang, rng)


def conversation(rng: random.Random) -> Exchange:
    """Return one conversation without held-out questions."""
    turns = drawn(rng)
    return conversation(rng) if asks_held_out([user for user, _ in turns]) else turns


def drawn(rng: random.Random) -> Exchange:
    """Return one conversation: mostly one language, one to a dozen exchanges; sometimes in unusual form throughout."""
    lang = rng.choice(["en", "ja"])
    turns: Exchange = []
    if maybe(rng, 0.02):  # only here: later, somebody may have told it
        turns.append((ask(W["what_name"][lang], lang, rng), W["no_name"][lang]))
    if maybe(rng, 0.05):  # a role is taken at the beginning
        return persona(lang, rng)
    for _ in range(rng.choice([1, 1, 1, 1, 2, 2, 3, 4, 6])):
        if maybe(rng, 0.2):
            lang = "ja" if lang == "en" else "en"
        turns += exchange(lang, rng)
    form = unusual_form(rng)
    return [(form(user), reply) for user, reply in turns] if form else turns


if __name__ == "__main__":
    sample = random.Random(1)
    for _ in range(12):
        print("\n".join(f"ユーザー: {u}\nシステム: {r}" for u, r in conversation(sample)), end="\n\n")
