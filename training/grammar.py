"""Japanese and English by rule: numbers to 9,999, counters, dates, times, forms of verbs and adjectives."""

from __future__ import annotations

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
TENS_EN = ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
KANJI = "〇一二三四五六七八九"
KANA = ["", "いち", "に", "さん", "よん", "ご", "ろく", "なな", "はち", "きゅう"]
HUNDREDS = {1: "ひゃく", 3: "さんびゃく", 6: "ろっぴゃく", 8: "はっぴゃく"}
THOUSANDS = {1: "せん", 3: "さんぜん", 8: "はっせん"}

# -- numbers ----------------------------------------------------------------------------------------


def number_en(n: int) -> str:
    if n < 20:
        return UNITS_EN[n]
    if n < 100:
        return TENS_EN[n // 10] + (f"-{UNITS_EN[n % 10]}" if n % 10 else "")
    unit, name = (100, "hundred") if n < 1000 else (1000, "thousand")
    rest = n % unit
    between = " and " if 0 < rest < 100 else " "
    return f"{UNITS_EN[n // unit]} {name}" + (between + number_en(rest) if rest else "")


def number_ja(n: int) -> tuple[str, str]:
    """(kanji, kana) of 0 to 9,999."""
    if n == 0:
        return "零", "ゼロ"
    kanji = kana = ""
    for unit, name, reading, special in (
        (1000, "千", "せん", THOUSANDS),
        (100, "百", "ひゃく", HUNDREDS),
        (10, "十", "じゅう", {1: "じゅう"}),
    ):
        digit = n // unit % 10
        if digit:
            kanji += (KANJI[digit] if digit > 1 else "") + name
            kana += special.get(digit, KANA[digit] + reading)
    unit = n % 10
    return kanji + (KANJI[unit] if unit else ""), kana + KANA[unit]


# -- counters ---------------------------------------------------------------------------------------

# name: (what is counted in English and Japanese, the counter, the readings of 1 to 10)
COUNTERS: dict[str, tuple[str, str, list[str]]] = {
    "冊": ("books", "本", ["いっさつ", "にさつ", "さんさつ", "よんさつ", "ごさつ", "ろくさつ", "ななさつ", "はっさつ", "きゅうさつ", "じゅっさつ"]),
    "人": ("people", "人", ["ひとり", "ふたり", "さんにん", "よにん", "ごにん", "ろくにん", "しちにん", "はちにん", "きゅうにん", "じゅうにん"]),
    "匹": ("cats", "猫", ["いっぴき", "にひき", "さんびき", "よんひき", "ごひき", "ろっぴき", "ななひき", "はっぴき", "きゅうひき", "じゅっぴき"]),
    "枚": ("sheets of paper", "紙", ["いちまい", "にまい", "さんまい", "よんまい", "ごまい", "ろくまい", "ななまい", "はちまい", "きゅうまい", "じゅうまい"]),
    "本": ("bottles", "瓶", ["いっぽん", "にほん", "さんぼん", "よんほん", "ごほん", "ろっぽん", "ななほん", "はっぽん", "きゅうほん", "じゅっぽん"]),
    "台": ("cars", "車", ["いちだい", "にだい", "さんだい", "よんだい", "ごだい", "ろくだい", "ななだい", "はちだい", "きゅうだい", "じゅうだい"]),
    "個": ("apples", "りんご", ["いっこ", "にこ", "さんこ", "よんこ", "ごこ", "ろっこ", "ななこ", "はっこ", "きゅうこ", "じゅっこ"]),
    "杯": ("cups of tea", "お茶", ["いっぱい", "にはい", "さんばい", "よんはい", "ごはい", "ろっぱい", "ななはい", "はっぱい", "きゅうはい", "じゅっぱい"]),
    "回": ("times", "回数", ["いっかい", "にかい", "さんかい", "よんかい", "ごかい", "ろっかい", "ななかい", "はっかい", "きゅうかい", "じゅっかい"]),
    "歳": ("years of age", "年齢", ["いっさい", "にさい", "さんさい", "よんさい", "ごさい", "ろくさい", "ななさい", "はっさい", "きゅうさい", "じゅっさい"]),
    "つ": ("things", "物", ["ひとつ", "ふたつ", "みっつ", "よっつ", "いつつ", "むっつ", "ななつ", "やっつ", "ここのつ", "とお"]),
}  # fmt: skip


def counted(counter: str, n: int) -> tuple[str, str]:
    """(written, read), as 三冊 and さんさつ."""
    readings = COUNTERS[counter][2]
    return ("十" if counter == "つ" and n == 10 else number_ja(n)[0] + counter), readings[n - 1]


# -- dates and times --------------------------------------------------------------------------------

DAYS_READ = dict(
    zip(
        [*range(1, 11), 14, 20, 24],
        [
            "ついたち",
            "ふつか",
            "みっか",
            "よっか",
            "いつか",
            "むいか",
            "なのか",
            "ようか",
            "ここのか",
            "とおか",
            "じゅうよっか",
            "はつか",
            "にじゅうよっか",
        ],
        strict=True,
    )
)
HOURS = [
    "れいじ",
    "いちじ",
    "にじ",
    "さんじ",
    "よじ",
    "ごじ",
    "ろくじ",
    "しちじ",
    "はちじ",
    "くじ",
    "じゅうじ",
    "じゅういちじ",
    "じゅうにじ",
]
MONTHS_READ = [
    "いちがつ",
    "にがつ",
    "さんがつ",
    "しがつ",
    "ごがつ",
    "ろくがつ",
    "しちがつ",
    "はちがつ",
    "くがつ",
    "じゅうがつ",
    "じゅういちがつ",
    "じゅうにがつ",
]
MINUTES = {1: "いっぷん", 3: "さんぷん", 4: "よんぷん", 6: "ろっぷん", 8: "はっぷん", 0: "じゅっぷん"}


def day_of_month(n: int) -> tuple[str, str]:
    nine = {19: "じゅうくにち", 29: "にじゅうくにち", 17: "じゅうしちにち", 27: "にじゅうしちにち"}
    return number_ja(n)[0] + "日", DAYS_READ.get(n) or nine.get(n) or number_ja(n)[1] + "にち"


def ordinal_en(n: int) -> str:
    ending = "th" if n // 10 == 1 else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{ending}"


def time_of_day(hour: int, minute: int) -> tuple[str, str]:
    """(written, read): on the hour, half past, or a multiple of five minutes."""
    written, read = number_ja(hour)[0] + "時", HOURS[hour]
    if minute == 30:
        return written + "半", read + "はん"
    if minute == 0:
        return written, read
    kanji, kana = number_ja(minute)
    end = MINUTES.get(minute % 10)
    stem = number_ja(minute - minute % 10)[1] if minute % 10 else kana.removesuffix("じゅう")
    return written + kanji + "分", read + (stem + end if end else kana + "ふん")


def time_en(hour: int, minute: int) -> str:
    if minute == 0:
        return f"{number_en(hour)} o'clock"
    if minute == 30:
        return f"half past {number_en(hour)}"
    return f"{number_en(hour)} {number_en(minute)}" if minute > 9 else f"{number_en(hour)} oh {number_en(minute)}"


# -- verbs ------------------------------------------------------------------------------------------

ENDS = "うくぐすつぬぶむる"
I_ROW = dict(zip(ENDS, "いきぎしちにびみり", strict=True))
A_ROW = dict(zip(ENDS, "わかがさたなばまら", strict=True))
TE = dict(zip(ENDS, ["って", "いて", "いで", "して", "って", "んで", "んで", "んで", "って"], strict=True))


def verb_forms(verb: str, kind: str) -> dict[str, str]:
    """The forms of a verb in the dictionary form: of kind 1 (食べる), 5 (飲む), suru or kuru."""
    if kind == "suru":
        stem, negative, te = verb[:-2] + "し", verb[:-2] + "しない", verb[:-2] + "して"
    elif kind == "kuru":
        stem, negative, te = "来", "来ない", "来て"
    elif kind == "1":
        stem, negative, te = verb[:-1], verb[:-1] + "ない", verb[:-1] + "て"
    else:
        base, end = verb[:-1], verb[-1]
        stem, negative = base + I_ROW[end], base + A_ROW[end] + "ない"
        te = base + ("って" if verb in ("行く", "いく") else TE[end])
    past = te[:-1] + ("だ" if te.endswith("で") else "た")
    return {
        "dict": verb, "masu": stem + "ます", "te": te, "nai": "ない" if verb == "ある" else negative, "ta": past,
        "mashita": stem + "ました", "masen": stem + "ません", "tai": stem + "たい", "nakatta": negative[:-1] + "かった",
    }  # fmt: skip


def adjective_forms(word: str, kind: str) -> dict[str, str]:
    """The forms of an adjective of kind i (高い) or na (静か)."""
    if kind == "na":
        return {
            "polite": word + "です", "nai": word + "じゃない", "ta": word + "だった", "deshita": word + "でした",
            "te": word + "で",
        }  # fmt: skip
    stem = "よ" if word in ("いい", "良い") else word[:-1]
    return {
        "polite": word + "です", "nai": stem + "くない", "ta": stem + "かった", "deshita": stem + "かったです", "te": stem + "くて",
    }  # fmt: skip
