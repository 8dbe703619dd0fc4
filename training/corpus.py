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


# -- the user's typing ------------------------------------------------------------------------------

EN_BEFORE = [
    "Hey, ",
    "Hi, ",
    "Please, ",
    "Excuse me, ",
    "Quick question: ",
    "OK, ",
    "So, ",
    "Well, ",
    "Um, ",
    "Hello! ",
    "Sorry, ",
    "Now, ",
    "Oh, ",
    "By the way, ",
    "One more thing: ",
    "I was wondering, ",
    "Next: ",
    "Thanks. ",
]
EN_AFTER = [" Thanks.", " please", ", please?", "?", "!", "??", " Thank you!", ", thanks", " :)", "..."]
JA_BEFORE = [
    "すみません、",
    "ねえ、",
    "あの、",
    "えっと、",
    "ちょっと聞きたいんですが、",
    "質問です。",
    "じゃあ、",
    "では、",
    "ところで、",
    "次は、",
    "あと、",
    "それと、",
    "すみませんが、",
    "なるほど。",
    "ありがとう。",
    "ちなみに、",
]
JA_AFTER = ["？", "。", "！", "お願いします。", "?", "…", "。お願い", "。教えて"]
EN_SWAPS = [
    (r"^What is ", ["What's ", "Tell me what ... is: ", "What would be ", "what is "]),
    (r"^What's ", ["What is ", "Whats "]),
    (
        r"^(Can|Could|Would) you (please )?tell me ",
        [
            "Tell me ",
            "Please tell me ",
            "Could you tell me ",
            "I want to know ",
            "Do you know ",
            "Can you say ",
            "I'd like to know ",
        ],
    ),
    (
        r"^Tell me ",
        ["Can you tell me ", "Please tell me ", "Could you tell me ", "I want to know ", "Let me know ", "Show me "],
    ),
    (
        r"^How do I ",
        [
            "How can I ",
            "How would I ",
            "How should I ",
            "What's the way to ",
            "Tell me how to ",
            "What do I do to ",
            "how to ",
        ],
    ),
    (
        r"^How can I ",
        ["How do I ", "How could I ", "Is there a way to ", "What is the command to ", "I want to ", "I need to "],
    ),
    (r"^How do you ", ["How would you ", "How do I ", "How does one ", "how can I ", "How should I "]),
    (r"^Is there a way to ", ["Can I ", "How do I ", "Is it possible to ", "How might I ", "Do you let me "]),
    (r"^Can I ", ["Is it possible to ", "May I ", "Could I ", "Am I able to "]),
    (r"^I want to ", ["I'd like to ", "I need to ", "How do I ", "I would like to ", "Let me "]),
    (r"^Which ", ["What ", "Tell me which "]),
    (r"^(List|Name) ", ["Please list ", "Give me ", "Write ", "Show me ", "Tell me ", "Could you list ", "I need "]),
    (r"\bI'm\b", ["I am", "im"]),
    (r"\bdon't\b", ["do not", "dont"]),
    (r"\bcan't\b", ["cannot", "can not"]),
    (r"\bWhat do you call\b", ["What is the word for", "What's the name of"]),
    (r"\bJapanese\b", ["japanese", "the Japanese language"]),
    (r"\bmean\b", ["stand for", "signify"]),
]
JA_SWAPS = [
    (
        r"教えてください$",
        [
            "教えて",
            "教えて下さい",
            "教えてもらえますか",
            "教えてくれますか",
            "教えてほしい",
            "知りたいです",
            "教えていただけますか",
            "説明してください",
        ],
    ),
    (r"教えて$", ["教えてください", "教えてくれる？", "教えてよ", "教えてほしいな", "知りたい"]),
    (
        r"何ですか$",
        [
            "なんですか",
            "何でしょうか",
            "何？",
            "なに？",
            "何なの？",
            "何だろう",
            "何か教えて",
            "何でしょう",
            "何ですか？",
        ],
    ),
    (r"ですか$", ["でしょうか", "？", "なの？", "なんですか", "ですか？", "か教えてください"]),
    (r"ますか$", ["るの？", "ますでしょうか", "ますか？", "るか知りたい"]),
    (r"したい(です)?$", ["したいのですが", "したい", "したいんだけど", "する方法は？", "するには？", "したいときは？"]),
    (r"方法は$", ["やり方は", "方法を教えて", "手順は", "方法を教えてください"]),
    (
        r"どうすれば(いい|よい)ですか$",
        ["どうしたらいいですか", "どうやるの", "どうすればいい？", "どうするんですか", "方法を教えてください"],
    ),
    (r"^(あなた|君)", ["あなた", "君", "きみ", "そちら"]),
    (r"私", ["わたし", "僕", "私"]),
    (r"何", ["なに", "何"]),
    (r"してください$", ["して", "してもらえますか", "してほしいです", "してくれますか", "して下さい"]),
    (r"英語で", ["英語だと", "英語では", "英語にすると", "英語で"]),
    (r"日本語で", ["日本語だと", "日本語では", "日本語にすると", "日本語で"]),
    (r"って何", ["とは何", "というのは何"]),
    (r"とは$", ["って何", "とは何ですか", "の意味は"]),
    (r"です。?$", ["です", "だよ", "です。", "なんです"]),
]


def typed(text: str, lang: str, rng: random.Random) -> str:
    """`text` as somebody might type it: other verbs, a word before or after, no capital, no full stop."""
    core, end = text, ""
    while core and core[-1] in "?!？！。.":
        core, end = core[:-1], core[-1] + end
    swaps = EN_SWAPS if lang == "en" else JA_SWAPS
    chance = 0.3 if lang == "en" else 0.28
    for pattern, others in swaps:
        if rng.random() < chance and re.search(pattern, core):
            other = rng.choice(others)
            if "..." not in other:
                core = re.sub(pattern, lambda _: other, core, count=1)  # noqa: B023 - used at once
    if rng.random() < 0.12:
        before = rng.choice(EN_BEFORE if lang == "en" else JA_BEFORE)
        if lang == "en" and core[:1].isupper() and not core.startswith(("I ", "I'")):
            core = core[0].lower() + core[1:]
        core = before + core
    roll = rng.random()
    if roll < 0.12:
        end = rng.choice(EN_AFTER if lang == "en" else JA_AFTER)
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


def extend_templates() -> None:
    """Add the further wordings of `data/templates.toml` to the tables of this file."""
    for name, more in toml("templates").items():
        table = globals()[name]
        if isinstance(table, list):
            table.extend(more["all"])
            continue
        for lang, templates in more.items():
            table[lang].extend(templates)
    for lang in ("en", "ja"):
        NUMBER_JA[lang].extend(EN_TO_JA[lang])
        NUMBER_EN[lang].extend(JA_TO_EN[lang])


# -- follow-ups -------------------------------------------------------------------------------------

AGAIN = {
    "en": [
        "Say that again.",
        "Pardon?",
        "Could you repeat that?",
        "Repeat that, please",
        "One more time",
        "What did you say?",
        "Again, please",
        "Can you say it once more?",
        "Sorry, what was that?",
        "Please repeat your answer",
        "Tell me again",
        "I missed that",
        "Come again?",
    ],
    "ja": [
        "もう一度言って",
        "もう一回お願いします",
        "え？",
        "何と言いましたか",
        "繰り返してください",
        "もう一度お願いします",
        "今のをもう一度",
        "聞き取れませんでした",
        "もう一度教えて",
        "もう一回言ってください",
        "今なんて言った？",
        "さっきの答えをもう一度",
    ],
}
OTHER_LANGUAGE = {
    "ja": [
        "And in Japanese?",
        "How about in Japanese?",
        "In Japanese, please",
        "Say that in Japanese",
        "What is that in Japanese?",
        "Now in Japanese",
        "Can you say it in Japanese?",
        "Translate that into Japanese",
        "Japanese, please",
        "in Japanese?",
        "Please answer in Japanese",
        "How would you say that in Japanese?",
        "Could you put that in Japanese?",
        "Same thing in Japanese",
        "Tell me in Japanese",
        "What about Japanese?",
        "I'd like that in Japanese",
        "Give me the Japanese version",
        "Would you repeat it in Japanese?",
        "日本語では？",
        "日本語でお願いします",
        "日本語で言って",
        "それを日本語で",
    ],
    "en": [
        "英語では？",
        "英語で言うと？",
        "それを英語で言ってください",
        "英語でお願いします",
        "英語で教えて",
        "英語だとどうなる？",
        "英語にしてください",
        "英語で答えて",
        "英語に訳して",
        "英語バージョンは？",
        "同じことを英語で",
        "今のを英語で",
        "英語で言い直して",
        "じゃあ英語では？",
        "英語でどう言いますか",
        "英語でもう一度",
        "英語訳は？",
        "英語で説明して",
        "And in English?",
        "In English, please",
        "How about in English?",
        "Say it in English",
        "What is that in English?",
        "English, please",
        "Now in English",
        "Can you put that in English?",
    ],
}


def maybe(rng: random.Random, chance: float) -> bool:
    return rng.random() < chance


def with_echo(exchange: Exchange, lang: str, rng: random.Random) -> Exchange:
    """Now and then: the same reply again, or what was asked."""
    if maybe(rng, 0.07):
        return [*exchange, (typed(rng.choice(AGAIN[lang]), lang, rng), exchange[-1][1])]
    return exchange


# -- exchanges --------------------------------------------------------------------------------------


def from_intents(name: str) -> Callable[[str, random.Random], Exchange]:
    def make(lang: str, rng: random.Random) -> Exchange:
        entry = rng.choice(intents(name))
        replies = entry[lang]["reply"]
        exchange = [(typed(rng.choice(entry[lang]["ask"]), lang, rng), rng.choice(replies))]
        if name in ("facts", "about", "lists") and maybe(rng, 0.22) and "_other" not in entry["name"]:
            other = "ja" if lang == "en" else "en"
            exchange.append((typed(rng.choice(OTHER_LANGUAGE[other]), lang, rng), entry[other]["reply"][0]))
        return with_echo(exchange, lang, rng)

    return make


EN_TO_JA = {
    "en": [
        "What is {q} in Japanese?",
        "How do you say {q} in Japanese?",
        "What's the Japanese word for {q}?",
        "Translate {q} into Japanese.",
        "{q} in Japanese",
        "How do I say {q} in Japanese?",
        "What do Japanese people call {q}?",
        "Japanese for {q}?",
        "Say {q} in Japanese.",
        "Tell me the Japanese word for {q}.",
        "I want to know {q} in Japanese.",
        "Can you translate {q} to Japanese?",
        "{q}, in Japanese?",
        "What is the Japanese for {q}?",
        "Which Japanese word means {q}?",
        "Give me the Japanese for {q}.",
        "How is {q} said in Japanese?",
        "Please teach me {q} in Japanese.",
        "Do you know the Japanese for {q}?",
        "What would {q} be in Japanese?",
        "What does one say for {q} in Japan?",
        "I need the Japanese translation of {q}.",
        "In Japanese, what is {q}?",
        "word for {q} in japanese",
        "What's {q} called in Japanese?",
        "If I want to say {q} in Japanese, what do I say?",
        "Teach me how to say {q}.",
        "How would a Japanese person say {q}?",
    ],
    "ja": [
        "{q}は日本語で何ですか",
        "{q}を日本語で言うと？",
        "{q}の日本語は？",
        "日本語で{q}は何と言いますか",
        "{q}を日本語に訳してください",
        "{q}の意味は？",
        "{q}ってどういう意味？",
        "{q}は日本語でどう言いますか",
        "{q}の意味を教えてください",
        "英語の{q}は日本語で何？",
        "{q}という英語の意味は？",
        "{q}を和訳して",
        "{q}って日本語で何？",
        "{q}とは日本語で何のことですか",
        "{q}という単語の意味を教えて",
        "{q}はどういう意味ですか",
        "{q}、日本語では？",
        "{q}の訳は？",
        "英単語{q}の意味は何ですか",
        "{q}を日本語にすると何になりますか",
        "{q}は何という意味ですか",
        "日本語にすると{q}は何？",
        "{q}の日本語訳を教えて",
    ],
}
JA_TO_EN = {
    "ja": [
        "{q}は英語で何ですか",
        "{q}を英語で言うと？",
        "{q}の英語は？",
        "英語で{q}は何と言いますか",
        "{q}を英語に訳してください",
        "{q}は英語でどう言いますか",
        "{q}って英語で何？",
        "{q}を英語にすると？",
        "{q}の英訳は？",
        "{q}の英語を教えてください",
        "英語で{q}",
        "{q}を英訳して",
        "{q}は英語で何と言うの？",
        "{q}という言葉を英語で教えて",
        "{q}の英単語は何ですか",
        "{q}、英語では？",
        "{q}を英語で教えて",
        "{q}を英語では何と呼びますか",
        "英語だと{q}は何になりますか",
        "{q}に当たる英語は？",
        "{q}は英語でなんて言う？",
        "英語で{q}って何？",
        "日本語の{q}は英語で何ですか",
    ],
    "en": [
        "What does {q} mean?",
        "What is {q} in English?",
        "What's the meaning of {q}?",
        "Translate {q} into English.",
        "{q} in English",
        "{q} meaning",
        "What does the word {q} mean in English?",
        "How do you say {q} in English?",
        "Tell me what {q} means.",
        "I don't know the word {q}. What is it?",
        "Meaning of {q}?",
        "Please explain the word {q}.",
        "What is the English for {q}?",
        "Do you know what {q} means?",
        "Can you translate {q}?",
        "What is {q}?",
        "I saw the word {q}. What does it mean?",
        "English translation of {q}",
        "{q} means what?",
        "What's {q} in English?",
        "Could you give me the English for {q}?",
        "What would {q} be in English?",
    ],
}
READING = {
    "en": [
        "How do you read {q}?",
        "How is {q} read?",
        "What is the reading of {q}?",
        "How do I pronounce {q}?",
        "Reading of {q}?",
        "{q} reading",
        "How is {q} pronounced?",
        "Tell me how to read {q}.",
        "What's {q} in hiragana?",
        "Write {q} in kana.",
        "How should I read {q}?",
    ],
    "ja": [
        "{q}は何と読みますか",
        "{q}の読み方は？",
        "{q}はどう読みますか",
        "{q}の読みを教えてください",
        "{q}をひらがなで書いて",
        "{q}って何て読むの？",
        "{q}の読み方を教えて",
        "{q}はなんと読むのですか",
        "{q}の読み仮名は？",
        "漢字{q}の読み方は？",
        "{q}をひらがなで",
    ],
}
THAT_READING = {
    "en": [
        "How do I read that?",
        "How is it read?",
        "What's the reading?",
        "How is that pronounced?",
        "And the reading?",
        "How do you pronounce it?",
        "In hiragana?",
        "Could you write that in kana?",
        "How do you read this?",
        "Please tell me how to read it",
        "And how do I say it?",
    ],
    "ja": [
        "何と読みますか",
        "読み方は？",
        "どう読みますか",
        "それは何と読むの？",
        "読み方を教えて",
        "ひらがなで書いて",
        "それの読みは？",
        "その読み方は？",
        "ひらがなでは？",
        "どうやって読むのですか",
    ],
}
AND_WORD = {
    "en": [
        "And {q}?",
        "What about {q}?",
        "How about {q}?",
        "and {q}",
        "{q}?",
        "Now {q}",
        "And what about {q}?",
        "Then {q}?",
        "Next, {q}",
        "How about the word {q}?",
        "OK, and {q}?",
        "What of {q}?",
    ],
    "ja": [
        "{q}は？",
        "じゃあ{q}は？",
        "では、{q}は？",
        "{q}はどうですか",
        "{q}なら？",
        "次は{q}",
        "それから{q}は？",
        "{q}も教えて",
        "{q}も同じようにお願いします",
        "あと、{q}は？",
        "{q}だと？",
    ],
}


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
        exchange = [(ask(READING[lang], lang, rng, q=quoted(row["ja"], lang, rng)), say_reading(row, lang))]
        if maybe(rng, 0.3):
            row = rng.choice(kanji)
            exchange.append((ask(AND_WORD[lang], lang, rng, q=quoted(row["ja"], lang, rng)), say_reading(row, lang)))
        return exchange
    exchange = [one(row, EN_TO_JA if into_ja else JA_TO_EN)]
    if roll < 0.42:
        for _ in range(rng.choice([1, 1, 2])):
            row = rng.choice(table)
            exchange.append(one(row, AND_WORD))
    if row["en"] in OPPOSITES and maybe(rng, 0.3):
        exchange.append((typed(rng.choice(THAT_OPPOSITE[lang]), lang, rng), say_opposite(row, into_ja, lang)))
    elif maybe(rng, 0.06):
        other = "ja" if lang == "en" else "en"
        exchange.append(
            (typed(rng.choice(OTHER_LANGUAGE[other]), other, rng), (say_en_ja if into_ja else say_ja_en)(row, other))
        )
    elif row["ja"] != row["kana"] and maybe(rng, 0.22):
        exchange.append((ask(THAT_READING[lang], lang, rng), say_reading(row, lang)))
    return with_echo(exchange, lang, rng)


FORMS = {
    "masu": (
        ["polite form", "masu form", "formal form", "ます form"],
        ["丁寧な形", "ます形", "丁寧語", "丁寧な言い方"],
    ),
    "te": (["te form", "te-form", "て form"], ["て形", "テ形"]),
    "nai": (["negative form", "nai form", "plain negative", "negative"], ["否定形", "ない形", "否定の形"]),
    "ta": (["past form", "ta form", "plain past", "past tense"], ["過去形", "た形", "過去の形"]),
    "dict": (["dictionary form", "plain form", "casual form"], ["辞書形", "普通の形", "基本形"]),
}
FORM_ASK = {
    "en": [
        "What is the {f} of {q}?",
        "{f} of {q}?",
        "Give me the {f} of {q}.",
        "How do I make the {f} of {q}?",
        "Tell me the {f} of {q}.",
        "{q} {f}",
        "What's {q} in the {f}?",
        "Put {q} into the {f}.",
        "Change {q} to the {f}.",
        "How do you say {q} in the {f}?",
        "Please show the {f} of {q}.",
    ],
    "ja": [
        "{q}の{f}は何ですか",
        "{q}の{f}は？",
        "{q}を{f}にしてください",
        "{q}の{f}を教えて",
        "{q}を{f}で言うと？",
        "{q}は{f}にするとどうなりますか",
        "{q}を{f}に変えて",
        "{f}にすると{q}は？",
        "動詞{q}の{f}を教えてください",
        "{q}の{f}って何？",
    ],
}
AND_FORM = {
    "en": [
        "And the {f}?",
        "What about the {f}?",
        "And its {f}?",
        "How about the {f}?",
        "Now the {f}",
        "{f}?",
        "What's the {f}?",
        "Can you give me the {f}?",
        "and in the {f}?",
    ],
    "ja": [
        "{f}は？",
        "じゃあ{f}は？",
        "では{f}は？",
        "{f}にすると？",
        "その{f}は何ですか",
        "{f}も教えて",
        "{f}だとどうなりますか",
        "それを{f}で言うと？",
    ],
}
PAST_EN = {
    "en": [
        "What is the past tense of {q}?",
        "Past tense of {q}?",
        "{q} past tense",
        "How do you say {q} in the past?",
        "What's the past of {q}?",
        "Give me the past form of the English verb {q}.",
    ],
    "ja": [
        "{q}の過去形は？",
        "英語の{q}の過去形は何ですか",
        "{q}の過去形を教えて",
        "英語の動詞{q}を過去形にしてください",
        "{q}を過去形にすると？",
    ],
}


def say_form(row: dict[str, str], form: str, base: str, lang: str) -> str:
    if lang == "en":
        return f"The {FORMS[form][0][0]} of {base} is {row[form]}."
    return f"「{base}」の{FORMS[form][1][0]}は「{row[form]}」です。"


def verbs(lang: str, rng: random.Random) -> Exchange:
    row = rng.choice(rows("verbs"))
    at = 0 if lang == "en" else 1
    if maybe(rng, 0.25):
        past = (
            f'The past tense of "{row["en"]}" is "{row["en_past"]}".'
            if lang == "en"
            else f"{row['en']} の過去形は {row['en_past']} です。"
        )
        return [(ask(PAST_EN[lang], lang, rng, q=quoted(row["en"], lang, rng)), past)]
    form = rng.choice(["masu", "masu", "te", "nai", "ta", "dict"])
    base = row["masu"] if form == "dict" else row["dict"]
    exchange = [
        (
            ask(FORM_ASK[lang], lang, rng, q=quoted(base, lang, rng), f=rng.choice(FORMS[form][at])),
            say_form(row, form, base, lang),
        )
    ]
    if maybe(rng, 0.45):
        if maybe(rng, 0.5) and form != "dict":
            other = rng.choice([f for f in ("masu", "te", "nai", "ta") if f != form])
            exchange.append(
                (ask(AND_FORM[lang], lang, rng, f=rng.choice(FORMS[other][at])), say_form(row, other, base, lang))
            )
        else:
            row = rng.choice(rows("verbs"))
            base = row["masu"] if form == "dict" else row["dict"]
            exchange.append(
                (ask(AND_WORD[lang], lang, rng, q=quoted(base, lang, rng)), say_form(row, form, base, lang))
            )
    return exchange


def word_then_form(lang: str, rng: random.Random) -> Exchange:
    """A verb asked for, then a form of it: the second question means nothing without the first."""
    known = {r["ja"]: r for r in rows("words")}
    row = rng.choice([r for r in rows("verbs") if r["dict"] in known])
    word = known[row["dict"]]
    into_ja = maybe(rng, 0.6)
    source = word["en"] if into_ja else word["ja"]
    first = ask((EN_TO_JA if into_ja else JA_TO_EN)[lang], lang, rng, q=quoted(source, lang, rng))
    form = rng.choice(["masu", "masu", "te", "nai", "ta"])
    at = 0 if lang == "en" else 1
    return [
        (first, (say_en_ja if into_ja else say_ja_en)(word, lang)),
        (ask(AND_FORM[lang], lang, rng, f=rng.choice(FORMS[form][at])), say_form(row, form, row["dict"], lang)),
    ]


OPPOSITE = {
    "en": [
        "What is the opposite of {q}?",
        "Opposite of {q}?",
        "{q} opposite",
        "Give me the opposite of {q}.",
        "What's the antonym of {q}?",
        "What word is the opposite of {q}?",
        "Tell me the opposite of {q}.",
        "The opposite of {q} is what?",
        "Which word means the reverse of {q}?",
    ],
    "ja": [
        "{q}の反対は？",
        "{q}の反対語は何ですか",
        "{q}の対義語を教えて",
        "{q}の反対の言葉は？",
        "{q}の逆は？",
        "{q}の反対は何ですか",
        "{q}と反対の意味の言葉を教えて",
        "{q}の反意語は？",
    ],
}


THAT_OPPOSITE = {
    "en": [
        "And the opposite?",
        "What's the opposite of that?",
        "And its opposite?",
        "What is the opposite word?",
        "The opposite, please",
        "And the reverse?",
        "What would its antonym be?",
        "Now the opposite of it",
        "What about the opposite?",
        "How do you say the opposite?",
    ],
    "ja": [
        "その反対は？",
        "反対は？",
        "反対語は？",
        "じゃあ反対の言葉は？",
        "それの反対語は何ですか",
        "逆は？",
        "反対の意味の言葉は？",
        "その対義語を教えて",
        "では反対は？",
        "それと逆の言葉は？",
    ],
}
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
    exchange = [(ask(OPPOSITE[lang], lang, rng, q=quoted(pair[0], lang, rng)), say(pair))]
    if maybe(rng, 0.3):
        pair = rng.choice(table)
        templates = OPPOSITE if maybe(rng, 0.4) else AND_WORD
        exchange.append((ask(templates[lang], lang, rng, q=quoted(pair[0], lang, rng)), say(pair)))
    return exchange


PHRASE = {
    "ja": [
        'How do you say "{q}" in Japanese?',
        "How do I say '{q}' in Japanese?",
        "Translate into Japanese: {q}",
        'What is "{q}" in Japanese?',
        "{q} - in Japanese?",
        'Say "{q}" in Japanese.',
        "Please translate: {q}",
        'I want to say "{q}" in Japanese.',
        'Japanese for "{q}"',
        "Put this into Japanese: {q}",
        'Can you translate "{q}" into Japanese?',
        "What's the Japanese for '{q}'?",
        "In Japanese, how would I say '{q}'?",
        "How would you put '{q}' in Japanese?",
        "Could you tell me how to say '{q}'?",
        "「{q}」を日本語で言ってください",
        "「{q}」を日本語に訳して",
        "「{q}」は日本語で何と言いますか",
    ],
    "en": [
        "「{q}」は英語で何と言いますか",
        "「{q}」を英語で言ってください",
        "「{q}」を英語に訳して",
        "{q}を英語で",
        "英語で「{q}」はどう言いますか",
        "次の文を英語にしてください：{q}",
        "「{q}」の英語は？",
        "「{q}」を英訳してください",
        "「{q}」って英語でなんて言うの？",
        "「{q}」と英語で言いたいです",
        "「{q}」を英語にするとどうなりますか",
        "英語で「{q}」と言うには？",
        "「{q}」を英語で教えてください",
        'What does "{q}" mean?',
        "Translate into English: {q}",
        "What is 「{q}」 in English?",
        "{q} - what does that mean?",
        "What does 「{q}」 mean in English?",
    ],
}
CASUAL = [
    "And casually?",
    "How do I say it casually?",
    "What about to a friend?",
    "And in plain form?",
    "The casual version?",
    "Is there a casual way?",
    "How would I say that to a friend?",
    "Plain form, please",
    "Less polite, please",
    "And in casual speech?",
    "友達にはどう言いますか",
    "普通の形では？",
    "カジュアルに言うと？",
    "くだけた言い方は？",
    "友達に言うなら？",
    "タメ口だと？",
]


def phrases(lang: str, rng: random.Random) -> Exchange:
    row = rng.choice(rows("phrases"))
    if lang == "en":
        source, target = row["en"], f"{row['ja']}\n({row['romaji']})"
        if maybe(rng, 0.3):
            source = source.rstrip("?.!")
        if maybe(rng, 0.15):
            source = source.lower()
        exchange = [(ask(PHRASE["ja"], "en", rng, q=source), target)]
        if row["plain"] and maybe(rng, 0.4):
            exchange.append((typed(rng.choice(CASUAL), "en", rng), row["plain"]))
        return with_echo(exchange, lang, rng)
    source = row["ja"] if maybe(rng, 0.7) else row["ja"].rstrip("。")
    exchange = [(ask(PHRASE["en"], "ja", rng, q=source), row["en"])]
    if maybe(rng, 0.08):
        exchange.append((typed(rng.choice(OTHER_LANGUAGE["ja"][-4:]), "ja", rng), row["ja"]))
    return with_echo(exchange, lang, rng)


CAPITAL = {
    "en": [
        "What is the capital of {q}?",
        "Capital of {q}?",
        "{q} capital",
        "Which city is the capital of {q}?",
        "Tell me the capital of {q}.",
        "What's the capital city of {q}?",
        "Name the capital of {q}.",
        "Do you know the capital of {q}?",
        "{q}'s capital is?",
        "What city is the capital of {q}?",
        "The capital of {q}, please",
    ],
    "ja": [
        "{q}の首都はどこですか",
        "{q}の首都は？",
        "{q}の首都を教えてください",
        "{q}の首都は何という都市ですか",
        "{q}の首都はどこ？",
        "{q} 首都",
        "{q}の首都の名前は何ですか",
        "{q}の首都って何？",
        "{q}はどこが首都ですか",
        "首都はどこ？{q}の",
    ],
}


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
    exchange = [(ask(CAPITAL[lang], lang, rng, q=bare), say(row, lang))]
    roll = rng.random()
    if roll < 0.3:
        row = rng.choice(rows("capitals"))
        exchange.append((ask(AND_WORD[lang], lang, rng, q=row[f"country_{lang}"]), say(row, lang)))
    elif roll < 0.5:
        other = "ja" if lang == "en" else "en"
        exchange.append((typed(rng.choice(OTHER_LANGUAGE[other]), lang, rng), say(row, other)))
    return with_echo(exchange, lang, rng)


UNITS_EN = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
TENS_EN = ["_", "_", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
UNITS_JA = ["", "一", "二", "三", "四", "五", "六", "七", "八", "九"]
UNITS_KANA = ["", "いち", "に", "さん", "よん", "ご", "ろく", "なな", "はち", "きゅう"]


def number_en(n: int) -> str:
    if n == 100:
        return "one hundred"
    if n < 20:
        return UNITS_EN[n]
    return TENS_EN[n // 10] + (f"-{UNITS_EN[n % 10]}" if n % 10 else "")


def number_ja(n: int) -> tuple[str, str]:
    if n == 0:
        return "零", "ゼロ"
    if n == 100:
        return "百", "ひゃく"
    tens, unit = divmod(n, 10)
    kanji = (("" if tens == 1 else UNITS_JA[tens]) + "十" if tens else "") + UNITS_JA[unit]
    kana = (("" if tens == 1 else UNITS_KANA[tens]) + "じゅう" if tens else "") + UNITS_KANA[unit]
    return kanji, kana


SUMS = {
    "en": [
        "What is {a} + {b}?",
        "{a} + {b}",
        "{a}+{b}=?",
        "How much is {a} plus {b}?",
        "What's {a} plus {b}?",
        "Add {a} and {b}.",
        "{a} plus {b}",
        "Calculate {a} + {b}.",
    ],
    "ja": [
        "{a}足す{b}は？",
        "{a}+{b}は？",
        "{a}＋{b}は？",
        "{a}たす{b}はいくつですか",
        "{a} + {b} を計算して",
        "{a}と{b}を足すと？",
        "{a}プラス{b}は何ですか",
    ],
}
NUMBER_JA: dict[str, list[str]] = {"en": [], "ja": []}
NUMBER_EN: dict[str, list[str]] = {"en": [], "ja": []}
DAYS_EN = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
DAYS_JA = [f"{d}曜日" for d in "月火水木金土日"]
MONTHS_EN = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
MONTHS_JA = [f"{n}月" for n in range(1, 13)]
AFTER = {
    "en": [
        "What {u} comes after {q}?",
        "Which {u} is after {q}?",
        "What's the {u} after {q}?",
        "What {u} follows {q}?",
        "After {q}, what {u} is it?",
        "The {u} following {q}?",
        "If today is {q}, what is tomorrow?",
        "next {u} after {q}",
    ],
    "ja": [
        "{q}の次は？",
        "{q}の次は何{u}ですか",
        "{q}の後は何{u}？",
        "{q}の次の{u}は？",
        "{q}の次に来るのは？",
        "今日が{q}なら明日は？",
        "{q}のあとは？",
        "{q}の翌日は？",
    ],
}
BEFORE = {
    "en": [
        "What {u} comes before {q}?",
        "Which {u} is before {q}?",
        "What's the {u} before {q}?",
        "What {u} is just before {q}?",
        "If today is {q}, what was yesterday?",
    ],
    "ja": ["{q}の前は？", "{q}の前は何{u}ですか", "{q}の前の{u}は？", "{q}の一つ前は？", "今日が{q}なら昨日は？"],
}
THEN = {
    "en": [
        "And after that?",
        "And then?",
        "And the next one?",
        "What comes next?",
        "Then what?",
        "What's after that?",
        "Next?",
        "And the one after?",
    ],
    "ja": ["その次は？", "次は？", "それから？", "じゃあその次は？", "そのあとは？", "その後は？", "で、次は？"],
}


def numbers(lang: str, rng: random.Random) -> Exchange:
    roll = rng.random()
    if roll < 0.22:
        a, b = rng.randrange(11), rng.randrange(11)
        say = f"{a} + {b} = {a + b}." if lang == "en" else f"{a}足す{b}は{a + b}です。"
        return [(ask(SUMS[lang], lang, rng, a=str(a), b=str(b)), say)]
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
        to_ja = NUMBER_JA if index == 0 else AND_WORD
        to_en = NUMBER_EN if index == 0 else AND_WORD
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
    names = (DAYS_EN if day else MONTHS_EN) if lang == "en" else (DAYS_JA if day else MONTHS_JA)
    unit = ("day" if day else "month") if lang == "en" else ("曜日" if day else "月")
    step = 1 if maybe(rng, 0.65) else -1
    templates = (AFTER if step == 1 else BEFORE)[lang]
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
            exchange.append((typed(rng.choice(THEN[lang]), lang, rng), say((at + 1) % len(names))))
        else:
            at = rng.randrange(len(names))
            exchange.append((ask(AND_WORD[lang], lang, rng, q=names[at]), say(at)))
    return exchange


TOPIC = {
    "en": [
        "Tell me about {q}.",
        "Explain {q}.",
        "What do you know about {q}?",
        "What is {q}?",
        "Can you explain {q} to me?",
        "I want to learn about {q}.",
        "Who invented {q}?",
        "Why is {q} important?",
        "Describe {q} in detail.",
        "How does {q} work?",
        "Give me information on {q}.",
        "What do you think about {q}?",
        "Write an essay about {q}.",
        "What is the history of {q}?",
        "Summarize {q} for me.",
        "When did {q} begin?",
        "Where can I find {q}?",
        "Which {q} is best?",
        "Who is responsible for {q}?",
        "How much does {q} cost?",
        "Is {q} dangerous?",
        "What happened with {q} recently?",
        "Compare {q} with something else.",
    ],
    "ja": [
        "{q}について教えてください",
        "{q}とは何ですか",
        "{q}を説明してください",
        "{q}について知っていることは？",
        "{q}って何？",
        "{q}の仕組みは？",
        "{q}の歴史を教えて",
        "{q}はなぜ大切なのですか",
        "{q}について詳しく説明して",
        "{q}についてどう思いますか",
        "{q}について作文を書いて",
        "{q}を要約して",
        "{q}はいつ始まりましたか",
        "{q}は誰が作ったのですか",
        "{q}の作り方を教えてください",
        "{q}はいくらですか",
        "{q}はどこで買えますか",
        "最近の{q}はどうですか",
        "{q}のおすすめは？",
        "{q}の原因は何ですか",
    ],
}


# Everyday nouns in questions that nobody could answer from here: the noun is known, the question is not.
BEYOND = {
    "en": [
        "Which {q} should I buy?",
        "Where did I leave my {q}?",
        "How much does a {q} cost?",
        "Who invented the {q}?",
        "What is the best {q} in town?",
        "Can you book a {q} for me?",
        "How do I clean a dirty {q}?",
        "Is the {q} open on Sundays?",
        "When does the next {q} leave?",
        "How long does a {q} last?",
        "Why is my {q} so slow?",
        "What did my friend say about the {q}?",
        "How many {q}s are there in the world?",
        "Could you draw a {q}?",
        "Please find me a cheap {q}.",
        "What will happen to the {q} next year?",
        "Did the {q} win yesterday?",
        "How do I build a {q} at home?",
        "Is this {q} safe for children?",
        "Order a {q} for me, please.",
        "Who owns that {q}?",
        "How heavy is a {q}?",
        "What is the history of the {q}?",
        "Write me a poem about a {q}.",
        "Where is the nearest {q}?",
        "Which company makes the best {q}?",
        "Is my {q} ready yet?",
    ],
    "ja": [
        "どの{q}を買えばいいですか",
        "私の{q}はどこに置きましたか",
        "{q}はいくらしますか",
        "{q}を発明したのは誰ですか",
        "この町で一番いい{q}はどこですか",
        "{q}を予約してください",
        "汚れた{q}はどう洗えばいい？",
        "{q}は日曜日に開いていますか",
        "次の{q}は何時に出ますか",
        "{q}はどのくらい持ちますか",
        "どうして{q}がこんなに遅いのですか",
        "友達は{q}について何と言っていましたか",
        "世界に{q}はいくつありますか",
        "{q}の絵を描いてください",
        "安い{q}を探して",
        "来年{q}はどうなりますか",
        "昨日の{q}は勝ちましたか",
        "家で{q}を作る方法を詳しく教えて",
        "会社の{q}はどうなりましたか",
        "この{q}は子供に安全ですか",
        "{q}を注文しておいて",
        "あの{q}は誰のものですか",
        "{q}の重さはどのくらいですか",
        "{q}の歴史を詳しく教えて",
        "{q}の詩を書いてください",
        "一番近い{q}はどこ？",
        "どの会社の{q}が一番いいですか",
        "{q}はもうできましたか",
    ],
}
FAR = {
    "en": [
        "Lesser",
        "Mongolia",
        "Bolivia",
        "Nepal",
        "Estonia",
        "Latvia",
        "Lithuania",
        "Slovenia",
        "Croatia",
        "Serbia",
        "Albania",
        "Armenia",
        "Georgia",
        "Uzbekistan",
        "Kazakhstan",
        "Tajikistan",
        "Yemen",
        "Oman",
        "Qatar",
        "Kuwait",
        "Libya",
        "Sudan",
        "Chad",
        "Niger",
        "Mali",
        "Senegal",
        "Gambia",
        "Togo",
        "Benin",
        "Uganda",
        "Rwanda",
        "Burundi",
        "Angola",
        "Zambia",
        "Malawi",
        "Mozambique",
        "Madagascar",
        "Fiji",
        "Tonga",
        "Samoa",
        "Haiti",
        "Cuba",
        "Jamaica",
        "Panama",
        "Honduras",
        "Guatemala",
        "Paraguay",
        "Uruguay",
        "Ecuador",
        "Guyana",
        "Suriname",
        "Laos",
        "Cambodia",
        "Bhutan",
        "Brunei",
        "Malta",
        "Cyprus",
        "Moldova",
        "Belarus",
    ][1:],
    "ja": [
        "モンゴル",
        "ボリビア",
        "ネパール",
        "エストニア",
        "ラトビア",
        "リトアニア",
        "スロベニア",
        "クロアチア",
        "セルビア",
        "アルバニア",
        "アルメニア",
        "ジョージア",
        "ウズベキスタン",
        "カザフスタン",
        "イエメン",
        "オマーン",
        "カタール",
        "クウェート",
        "リビア",
        "スーダン",
        "チャド",
        "ニジェール",
        "マリ",
        "セネガル",
        "ウガンダ",
        "ルワンダ",
        "アンゴラ",
        "ザンビア",
        "モザンビーク",
        "マダガスカル",
        "フィジー",
        "トンガ",
        "サモア",
        "ハイチ",
        "キューバ",
        "ジャマイカ",
        "パナマ",
        "ホンジュラス",
        "グアテマラ",
        "パラグアイ",
        "ウルグアイ",
        "エクアドル",
        "ラオス",
        "カンボジア",
        "ブータン",
        "マルタ",
        "キプロス",
        "モルドバ",
        "ベラルーシ",
    ],
}
LARGE = {
    "en": [
        "Multiply {a} by {b}.",
        "How much is {a} times {b}?",
        "Divide {a} by {b}",
        "What is {a} minus {b}?",
        "{a} divided by {b}",
        "What's {a} percent of {b}?",
        "If I take {b} away from {a}, what is left?",
        "Add up {a} and {b}",
        "Solve {a}x = {b}",
        "What is the square root of {a}{b}?",
    ],
    "ja": [
        "{a}に{b}を掛けると？",
        "{a}かける{b}は？",
        "{a}割る{b}はいくつですか",
        "{a}引く{b}は？",
        "{a}の{b}パーセントは？",
        "{a}から{b}を引くといくつ残りますか",
        "{a}足す{b}を計算してください",
        "{a}と{b}の積は何ですか",
        "{a}掛ける{b}の答えを教えて",
        "{a}割る{b}を計算して",
    ],
}


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
        question = ask(BEYOND[lang], lang, rng, q=rng.choice(nouns))
    elif roll < 0.57:
        question = ask(CAPITAL[lang], lang, rng, q=rng.choice([each for each in FAR[lang] if each not in known]))
    elif roll < 0.75:
        question = ask(TOPIC[lang], lang, rng, q=rng.choice(toml("unknown")[f"topics_{lang}"]))
    elif roll < 0.93:
        into_ja = maybe(rng, 0.5)
        word = rng.choice(toml("unknown")["oov_en" if into_ja else "oov_ja"])
        question = ask((EN_TO_JA if into_ja else JA_TO_EN)[lang], lang, rng, q=quoted(word, lang, rng))
    elif roll < 0.965:
        question = ask(LARGE[lang], lang, rng, a=str(rng.randrange(12, 999)), b=str(rng.randrange(2, 999)))
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


NAMES = {
    "en": [
        "Ken",
        "Emma",
        "Tom",
        "Anna",
        "Jack",
        "Lily",
        "Noah",
        "Mia",
        "Lucas",
        "Sophie",
        "Ben",
        "Kate",
        "Oliver",
        "Grace",
        "Henry",
        "Alice",
        "Daniel",
        "Ruby",
        "Peter",
        "Jane",
        "David",
        "Sarah",
        "Mark",
        "Laura",
        "Paul",
        "Julia",
        "Max",
        "Chloe",
        "Leo",
        "Nina",
        "Sam",
        "Ella",
        "Yuki",
        "Hana",
        "Taro",
        "Maria",
        "Carlos",
        "Priya",
        "Wei",
        "Ali",
        "Fatima",
        "Omar",
        "Lucy",
        "George",
        "Helen",
        "Simon",
        "Rose",
        "Adam",
        "Eve",
        "Oscar",
        "Amy",
        "Hugo",
        "Clara",
        "Felix",
        "Ivy",
        "Jake",
        "Zoe",
        "Ryan",
        "Kenji",
        "Sakura",
    ],
    "ja": [
        "田中",
        "佐藤",
        "鈴木",
        "高橋",
        "伊藤",
        "渡辺",
        "山本",
        "中村",
        "小林",
        "加藤",
        "吉田",
        "山田",
        "佐々木",
        "山口",
        "松本",
        "井上",
        "木村",
        "林",
        "斎藤",
        "清水",
        "太郎",
        "花子",
        "健",
        "さくら",
        "由美",
        "翔太",
        "美咲",
        "大輔",
        "陽子",
        "健太",
        "エマ",
        "トム",
        "アンナ",
        "ジャック",
        "マリア",
        "ベン",
        "リリー",
        "ケン",
        "ルーカス",
        "ソフィー",
    ],
}
MY_NAME = {
    "en": [
        "My name is {q}.",
        "I'm {q}.",
        "I am {q}.",
        "Call me {q}.",
        "You can call me {q}.",
        "Hi, I'm {q}.",
        "Hello, my name is {q}.",
        "My name's {q}. Nice to meet you.",
        "This is {q}.",
    ],
    "ja": [
        "私の名前は{q}です",
        "{q}です。よろしくお願いします",
        "私は{q}です",
        "{q}と呼んでください",
        "{q}といいます",
        "名前は{q}です",
        "{q}と申します",
        "はじめまして、{q}です",
        "{q}って呼んで",
    ],
}
WHAT_NAME = {
    "en": [
        "What's my name?",
        "What is my name?",
        "Do you remember my name?",
        "Who am I?",
        "Can you tell me my name?",
        "Say my name.",
        "Do you know my name?",
        "What did I say my name was?",
        "What am I called?",
    ],
    "ja": [
        "私の名前は何ですか",
        "私の名前は？",
        "私の名前を覚えていますか",
        "私は誰ですか",
        "私の名前を言ってください",
        "私の名前を知っていますか",
        "名前を覚えてる？",
        "私は何と言う名前でしたか",
        "私の名前、分かる？",
    ],
}
NO_NAME = {"en": "You haven't told me your name yet.", "ja": "まだお名前を聞いていません。"}


def made_up_name(lang: str, rng: random.Random) -> str:
    """A name nobody has: one that can only be copied from where it was said, never known."""
    if lang == "en":
        syllables = [
            rng.choice(
                [
                    "b",
                    "d",
                    "f",
                    "g",
                    "h",
                    "j",
                    "k",
                    "l",
                    "m",
                    "n",
                    "p",
                    "r",
                    "s",
                    "t",
                    "v",
                    "w",
                    "y",
                    "z",
                    "br",
                    "tr",
                    "sh",
                    "ch",
                ]
            )
            + rng.choice(["a", "e", "i", "o", "u"])
            for _ in range(rng.choice([2, 2, 3]))
        ]
        return ("".join(syllables) + rng.choice(["", "", "n", "l", "r", "s"])).capitalize()
    if maybe(rng, 0.5):
        return "".join(
            rng.choice("アイウエオカキクケコサシスセソタチツテトナニネノハヒフヘホマミムメモヤユヨラリルレロワン")
            for _ in range(rng.choice([2, 3, 3, 4]))
        )
    return rng.choice("前青森石川西東北南上下中大小高松竹村森林谷岡島橋本") + rng.choice("田山川原野村口井木本崎沢島")


def names(lang: str, rng: random.Random) -> Exchange:
    """A name told and, some turns later, asked back."""
    name = rng.choice(NAMES[lang]) if maybe(rng, 0.4) else made_up_name(lang, rng)
    hello = f"Nice to meet you, {name}!" if lang == "en" else f"はじめまして、{name}さん。よろしくお願いします。"
    exchange = [(ask(MY_NAME[lang], lang, rng, q=name), hello)]
    if maybe(rng, 0.75):
        for _ in range(rng.choice([0, 0, 1, 1, 2])):
            exchange += rng.choice([from_intents("talk"), words, from_intents("facts")])(lang, rng)
        say = f"Your name is {name}." if lang == "en" else f"あなたのお名前は{name}さんです。"
        exchange.append((ask(WHAT_NAME[lang], lang, rng), say))
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
        turns.append((ask(WHAT_NAME[lang], lang, rng), NO_NAME[lang]))
    for _ in range(rng.choice([1, 1, 1, 1, 2, 2, 3, 4, 6, 9])):
        if maybe(rng, 0.2):
            lang = "ja" if lang == "en" else "en"
        turns += exchange(lang, rng)
    return turns


extend_templates()

if __name__ == "__main__":
    sample = random.Random(1)
    for _ in range(12):
        print("\n".join(f"ユーザー: {u}\nシステム: {r}" for u, r in conversation(sample)), end="\n\n")
