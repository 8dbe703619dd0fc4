"""Exchanges about numbers, counters, dates and times."""

from __future__ import annotations

import random

from grammar import COUNTERS, MONTHS_READ, counted, day_of_month, number_en, number_ja, ordinal_en, time_en, time_of_day
from kana import romaji
from material import Exchange, W, ask, maybe, quoted, toml, typed

N = toml("numbers")


def a_number(rng: random.Random) -> int:
    """Small numbers more often; round ones often enough."""
    limit = rng.choice([11, 21, 101, 101, 1000, 10_000])
    n = rng.randrange(limit)
    return n - n % rng.choice([1, 1, 10, 100]) if n > 200 else n


def shown(n: int, rng: random.Random) -> str:
    return f"{n:,}" if n > 999 and maybe(rng, 0.4) else str(n)


def number_exchange(n: int, lang: str, way: str, first: bool, rng: random.Random) -> tuple[str, str]:
    kanji, kana = number_ja(n)
    figure = shown(n, rng)
    if way == "read":
        said = f"{figure} is read {kana} ({romaji(kana)})." if lang == "en" else f"「{figure}」は「{kana}」と読みます。"
        return ask((N["read"] if first else W["and_word"])[lang], lang, rng, q=figure), said
    if way == "write":
        said = f"{figure} is written {kanji}." if lang == "en" else f"「{figure}」は漢字で「{kanji}」です。"
        return ask((N["write"] if first else W["and_word"])[lang], lang, rng, q=figure), said
    if way == "figure":
        said = f"{kanji} ({kana}) is {n}." if lang == "en" else f"「{kanji}」は {n} です。"
        return ask((N["figure"] if first else W["and_word"])[lang], lang, rng, q=quoted(kanji, lang, rng)), said
    source = rng.choice([figure, figure, number_en(n)]) if lang == "en" else rng.choice([figure, figure, kanji])
    templates = (W["number_ja"] if lang == "en" else W["number_en"])[lang] if first else W["and_word"][lang]
    said = (
        f"{source} in Japanese is {kanji} ({kana})." if lang == "en" else f"「{source}」は英語で {number_en(n)} です。"
    )
    return ask(templates, lang, rng, q=quoted(source, lang, rng)), said


def plain_numbers(lang: str, rng: random.Random) -> Exchange:
    way = rng.choice(["word", "word", "read", "write", "figure"])
    return [number_exchange(a_number(rng), lang, way, at == 0, rng) for at in range(rng.choice([1, 1, 2, 3]))]


def sums(lang: str, rng: random.Random) -> Exchange:
    a, b = rng.randrange(11), rng.randrange(11)
    say = f"{a} + {b} = {a + b}." if lang == "en" else f"{a}足す{b}は{a + b}です。"
    return [(ask(W["sums"][lang], lang, rng, a=str(a), b=str(b)), say)]


def counters(lang: str, rng: random.Random) -> Exchange:
    """Counted things: three books, 三冊."""
    exchange: Exchange = []
    for at in range(rng.choice([1, 1, 2])):
        counter, n = rng.choice(list(COUNTERS)), rng.randrange(1, 11)
        english, japanese, _ = COUNTERS[counter]
        english = singular(english) if n == 1 else english
        written, read = counted(counter, n)
        if lang == "en":
            thing = f"{number_en(n)} {english}" if maybe(rng, 0.6) else f"{n} {english}"
            said = f"{capital(thing)}: {written} ({read}, {romaji(read)})."
            exchange.append((ask(N["count" if at == 0 else "and_count"]["en"], lang, rng, q=thing), said))
        else:
            templates = N["count" if at == 0 else "and_count"]["ja"]
            question = ask(
                templates, lang, rng, q=rng.choice([written, f"{n}{counter}"]), j=japanese, n=number_ja(n)[0]
            )
            exchange.append((question, f"「{written}」は「{read}」と読みます。"))
    return exchange


def singular(things: str) -> str:
    """cups of tea: cup of tea"""
    if things == "people":
        return "person"
    first, *others = things.split(" ")
    return " ".join([first.removesuffix("s"), *others])


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def dates(lang: str, rng: random.Random) -> Exchange:
    """A day of the month, a month, or a time."""
    kind = rng.choice(["day", "month", "time", "time"])
    if kind == "day":
        n = rng.randrange(1, 32)
        written, read = day_of_month(n)
        english = f"the {ordinal_en(n)}"
    elif kind == "month":
        n = rng.randrange(12)
        written, read, english = f"{number_ja(n + 1)[0]}月", MONTHS_READ[n], W["months_en"][n]
    else:
        hour, minute = rng.randrange(1, 13), rng.choice([0, 0, 30, 30, 5, 10, 15, 20, 25, 40, 45, 50])
        written, read = time_of_day(hour, minute)
        english = time_en(hour, minute)
    if lang == "en":
        return [
            (ask(N["date"]["en"], lang, rng, q=english), f"{capital(english)}: {written} ({read}, {romaji(read)}).")
        ]
    if maybe(rng, 0.5):
        return [
            (ask(W["reading"]["ja"], lang, rng, q=quoted(written, lang, rng)), f"「{written}」は「{read}」と読みます。")
        ]
    return [
        (ask(W["ja_to_en"]["ja"], lang, rng, q=quoted(written, lang, rng)), f"「{written}」は英語で {english} です。")
    ]


def count_up(lang: str, rng: random.Random) -> Exchange:
    exchange: Exchange = []
    other = maybe(rng, 0.7)
    for at in range(rng.choice([1, 2])):
        n = rng.choice([3, 5, 5, 10, 10])
        if (lang == "en") == other:
            said = "、".join(f"{number_ja(i)[0]} ({number_ja(i)[1]})" for i in range(1, n + 1)) + "。"
        else:
            said = capital(", ".join(number_en(i) for i in range(1, n + 1))) + "."
        frames = N["up_other" if other else "up"][lang] if at == 0 else N["and_up"][lang]
        word = number_en(n) if lang == "en" else number_ja(n)[0]
        exchange.append((ask(frames, lang, rng, n=rng.choice([word, str(n)])), said))
    return exchange


def in_order(lang: str, rng: random.Random) -> Exchange:
    """The day or month after or before; perhaps after the word itself was asked for."""
    day = maybe(rng, 0.5)
    english = W["days_en"] if day else W["months_en"]
    japanese = [f"{d}曜日" for d in "月火水木金土日"] if day else [f"{number_ja(n)[0]}月" for n in range(1, 13)]
    names = english if lang == "en" else japanese
    unit = ("day" if day else "month") if lang == "en" else ("曜日" if day else "月")
    at, step = rng.randrange(len(names)), rng.choice([1, 1, -1])
    if maybe(rng, 0.3):
        other = japanese if lang == "en" else english
        key = "en_to_ja" if lang == "en" else "ja_to_en"
        say = (
            (lambda i: f'"{names[i]}" in Japanese is {other[i]}.')
            if lang == "en"
            else (lambda i: f"「{names[i]}」は英語で {other[i]} です。")
        )
        nxt = (at + 1) % len(names)
        return [
            (ask(W[key][lang], lang, rng, q=quoted(names[at], lang, rng)), say(at)),
            (typed(rng.choice(N["one_after"][lang]), lang, rng), say(nxt)),
        ]
    templates = [t for t in W["after" if step == 1 else "before"][lang] if day or not re_today(t)]

    def said(at: int) -> str:
        other = names[(at + step) % len(names)]
        if lang == "en":
            return f"{other} comes {'after' if step == 1 else 'before'} {names[at]}."
        return f"{names[at]}の{'次' if step == 1 else '前'}は{other}です。"

    exchange = [(ask(templates, lang, rng, q=names[at], u=unit), said(at))]
    if step == 1 and maybe(rng, 0.5):
        exchange.append((typed(rng.choice(W["then"][lang]), lang, rng), said((at + 1) % len(names))))
    elif maybe(rng, 0.3):
        at = rng.randrange(len(names))
        exchange.append((ask(W["and_word"][lang], lang, rng, q=names[at]), said(at)))
    return exchange


def re_today(template: str) -> bool:
    return any(word in template for word in ("today", "今日", "翌日"))


MAKERS = [
    plain_numbers,
    plain_numbers,
    plain_numbers,
    sums,
    sums,
    counters,
    counters,
    dates,
    dates,
    count_up,
    in_order,
    in_order,
]


def numbers(lang: str, rng: random.Random) -> Exchange:
    return rng.choice(MAKERS)(lang, rng)
