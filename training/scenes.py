"""Talk over several turns: small talk, facts asked back, stories, poems, quizzes, personas, lists, refusals."""

from __future__ import annotations

import random
import re
from typing import Any

from material import Exchange, W, ask, maybe, taught, toml, typed

from bilingual_chat.session.persona import persona as opening

S: dict[str, Any] = toml("scenes")
NAMES = {lang: W["names"][lang] for lang in ("en", "ja")}


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def made_up_word(lang: str, rng: random.Random) -> str:
    """A made-up word: the model can copy it from the conversation, but not know it."""
    if lang == "en":
        syllables = [rng.choice(W["made_up"]["onset"]) + rng.choice("aeiou") for _ in range(rng.choice([2, 2, 3]))]
        return ("".join(syllables) + rng.choice(["", "", "n", "l", "r", "s"])).capitalize()
    if maybe(rng, 0.5):
        return "".join(rng.choice(W["made_up"]["kana"]) for _ in range(rng.choice([2, 3, 3, 4])))
    return rng.choice(W["made_up"]["first"]) + rng.choice(W["made_up"]["last"])


def a_name(lang: str, rng: random.Random) -> str:
    return rng.choice(NAMES[lang]) if maybe(rng, 0.6) else made_up_word(lang, rng)


def slots(lang: str, rng: random.Random) -> dict[str, str]:
    drawn = {key.removesuffix(f"_{lang}"): rng.choice(value) for key, value in S["slots"].items() if key.endswith(lang)}
    if maybe(rng, 0.35):
        drawn["petname"] = made_up_word(lang, rng)
    return drawn


def filled(text: str, values: dict[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: values[found[1]], text)


def small_talk(lang: str, rng: random.Random) -> Exchange:
    """Cut a topic at some later turn; the slots stay the same."""
    turns = rng.choice(S["talk"])[lang]
    values = slots(lang, rng)
    exchange: Exchange = []
    for wordings, reply in turns[: rng.choice([1, 2, 3, 3])]:
        said = filled(reply, values)
        exchange.append((typed(filled(capital(rng.choice(wordings)), values), lang, rng), capital(said)))
    return exchange


def recall(lang: str, rng: random.Random) -> Exchange:
    """A fact, asked back at once or later; or asked although the user never gave it."""
    if maybe(rng, 0.25):
        asks, replies = S["unknown_recall"][lang]
        return [(typed(rng.choice(asks), lang, rng), replies[0])]
    kind = rng.choice(list(S["recall"]))
    tell, told, question, answer = S["recall"][kind][lang]
    thing = slots(lang, rng)[kind]
    exchange = [(ask([capital(each) for each in tell], lang, rng, x=thing), capital(told.format(x=thing)))]
    if maybe(rng, 0.4):
        exchange += small_talk(lang, rng)[:1]
    return [*exchange, (typed(rng.choice(question), lang, rng), capital(answer.format(x=thing)))]


def story(lang: str, rng: random.Random) -> Exchange:
    """Five sentences about the name that the user gave, or about one of the model's own."""
    exchange: Exchange = []
    for _ in range(rng.choice([1, 1, 2])):
        name, who = a_name(lang, rng), rng.choice(S["story"][f"who_{lang}"])
        values = {"name": name, "who": who, "bare": who.split(" ", 1)[-1]}
        named = maybe(rng, 0.75)
        frames = S["story"][lang] if named else S["story"][f"plain_{lang}"]
        parts = [rng.choice(S["story"][f"{part}_{lang}"]) for part in ("start", "second", "third", "fourth", "fifth")]
        said = (" " if lang == "en" else "").join(capital(filled(part, values)) for part in parts)
        exchange.append((typed(filled(rng.choice(frames), values), lang, rng), said))
    if maybe(rng, 0.3):
        say = S["story"]["who_say"][lang].format(name=values["name"])
        exchange.append((typed(rng.choice(S["story"][f"who_ask_{lang}"]), lang, rng), say))
    return exchange


def poem(lang: str, rng: random.Random) -> Exchange:
    exchange: Exchange = []
    for _ in range(rng.choice([1, 1, 2])):
        topic = rng.choice(S["poem"][f"topics_{lang}"])
        lines = [rng.choice(S["poem"][f"{part}_{lang}"]).format(x=topic) for part in ("first", "second", "third")]
        exchange.append((ask(S["poem"][lang], lang, rng, x=topic), "\n".join(lines)))
    return exchange


def joke(lang: str, rng: random.Random) -> Exchange:
    replies = rng.sample(S["joke"][f"reply_{lang}"], rng.choice([1, 2]))
    return [(typed(rng.choice(S["joke"][lang]), lang, rng), reply) for reply in replies]


def quiz_question(row: dict[str, str], into_ja: bool, lang: str) -> str:
    if lang == "en":
        return f'What is "{row["en"]}" in Japanese?' if into_ja else f"What does {row['ja']} mean?"
    return f"{row['en']} は日本語で何でしょう？" if into_ja else f"「{row['ja']}」は英語で何でしょう？"


def quiz_verdict(row: dict[str, str], into_ja: bool, lang: str, right: bool) -> str:
    if lang == "en":
        fact = f'"{row["en"]}" is {row["ja"]} ({row["romaji"]})' if into_ja else f'{row["ja"]} means "{row["en"]}"'
        return f"Right! {fact}." if right else f"Not quite: {fact}."
    fact = f"{row['en']} は「{row['ja']}」" if into_ja else f"「{row['ja']}」は {row['en']} "
    return f"正解です！{fact}です。" if right else f"残念、{fact}です。"


def quiz(lang: str, rng: random.Random) -> Exchange:
    """Questions with right answers, wrong ones or none, and the solution."""
    exchange: Exchange = []
    said = typed(rng.choice(S["quiz"][lang]), lang, rng)
    into_ja = maybe(rng, 0.5)
    pending = ""
    for _ in range(rng.choice([1, 2, 3])):
        row, other = rng.sample(taught()[: 400 if maybe(rng, 0.6) else None], 2)
        exchange.append((said, pending + quiz_question(row, into_ja, lang)))
        key = "ja" if into_ja else "en"
        outcome = rng.choice(["right", "right", "wrong", "wrong", "give up"])
        answer = {"right": row[key], "wrong": other[key]}.get(outcome) or rng.choice(S["quiz"][f"give_up_{lang}"])
        verdict = quiz_verdict(row, into_ja, lang, outcome == "right")
        if maybe(rng, 0.2):
            answer += rng.choice(["?", "です", "."] if lang == "ja" else ["?", ".", ", I think"])
        said, pending = answer, verdict + (" Next: " if lang == "en" else "次の問題です。")
        if maybe(rng, 0.5):
            exchange.append((answer, verdict))
            said, pending = rng.choice(S["quiz"][f"next_{lang}"]), ""
    if not pending:
        return exchange
    exchange.append((said, verdict))
    if maybe(rng, 0.2):
        exchange.append((typed(rng.choice(S["quiz"][f"stop_{lang}"]), lang, rng), S["quiz"]["stopped"][lang]))
    return exchange


PRESENT = {"have", "am", "study", "work", "wear", "collect", "can't"}


def remark(lang: str, rng: random.Random) -> Exchange:
    """A statement about anything: the reply is glad, sorry or curious to match."""
    data, kind = S["remark"], rng.choice(["good", "bad", "plain"])
    values = slots(lang, rng)
    who, when = filled(rng.choice(data[f"who_{lang}"]), values), rng.choice(data[f"when_{lang}"])
    what = rng.choice(data[f"{kind}_{lang}"])
    if what.split(" ")[0] in PRESENT:  # "My aunt have"
        who, when = "I", ""
    said = f"{who} {what}{when}" if lang == "en" else f"{when}{who}{what}"
    exchange = [(typed(said + rng.choice(["", "", ".", "!"]), lang, rng), data[f"reply_{kind}"][lang])]
    if maybe(rng, 0.4):
        exchange.append((typed(rng.choice(data[f"then_{kind}"][lang]), lang, rng), data[f"end_{kind}"][lang]))
    return exchange


def opinion(lang: str, rng: random.Random) -> Exchange:
    data, values = S["opinion"], slots(lang, rng)
    thing = values[rng.choice(["food", "hobby", "kind_of_music"])]
    exchange = [(ask(data[lang], lang, rng, x=thing), data["reply"][lang].format(x=thing))]
    if maybe(rng, 0.4):
        exchange.append((typed(rng.choice(data["then"][lang]), lang, rng), data["end"][lang]))
    return exchange


def persona(lang: str, rng: random.Random) -> Exchange:
    """A role that the first turn sets, and the model keeps: set in the chat, or with bchat's own opening exchange."""
    name = rng.choice(list(S["persona"]))
    said = S["says"][name]
    question = typed(rng.choice(S["persona"][name][lang]), lang, rng)
    agreed = "".join(each.text for each in opening(question)[1:])
    exchange = [(question, agreed if maybe(rng, 0.6) else said["yes"][lang])]
    for what in rng.sample(list(S["to_persona"]), rng.choice([1, 2, 3])):
        exchange.append((typed(rng.choice(S["to_persona"][what][lang]), lang, rng), said[what][lang]))
    return exchange


def counted_list(lang: str, rng: random.Random) -> Exchange:
    """Some things of a kind; more of them; the same in the other language."""
    data = S["lists"]
    kind = rng.choice(list(data["names_en"]))
    pairs = [each.split(" ") for each in data[kind]]
    rng.shuffle(pairs)
    n = rng.choice([2, 3, 3, 4, 5])
    at = 0 if lang == "en" else 1
    number = rng.choice([str(n), W["units_en"][n]]) if lang == "en" else ["二つ", "三つ", "四つ", "五つ"][n - 2]
    join = ", " if lang == "en" else "、"
    exchange = [
        (
            ask(data[lang], lang, rng, n=number, x=rng.choice(data[f"names_{lang}"][kind])),
            join.join(pair[at] for pair in pairs[:n]) + (". " if lang == "en" else "。").strip(),
        )
    ]
    roll = rng.random()
    if roll < 0.3:
        exchange.append(
            (
                typed(rng.choice(data[f"other_{lang}"]), lang, rng),
                ("、", ", ")[at].join(p[1 - at] for p in pairs[:n]) + ("。", ".")[at],
            )
        )
    elif roll < 0.55 and len(pairs) >= n + 2:
        more = W["units_en"][2] if lang == "en" else "二つ"
        exchange.append(
            (
                ask([capital(e) for e in data[f"more_{lang}"]], lang, rng, n=more),
                join.join(p[at] for p in pairs[n : n + 2]) + (".", "。")[at],
            )
        )
    return exchange


def clarify(lang: str, rng: random.Random) -> Exchange:
    asks, reply = S["clarify"][lang]
    return [(rng.choice(asks), reply)]
