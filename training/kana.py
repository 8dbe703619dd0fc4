"""Kana by rule: hiragana, katakana and Hepburn romaji with long vowels spelled out (koohii, gyuunyuu)."""

from __future__ import annotations

ROWS = {
    "": "あいうえお", "k": "かきくけこ", "s": "さしすせそ", "t": "たちつてと", "n": "なにぬねの", "h": "はひふへほ",
    "m": "まみむめも", "r": "らりるれろ", "g": "がぎぐげご", "z": "ざじずぜぞ", "d": "だぢづでど", "b": "ばびぶべぼ",
    "p": "ぱぴぷぺぽ",
}  # fmt: skip
ROMAJI = {kana: row + vowel for row, line in ROWS.items() for kana, vowel in zip(line, "aiueo", strict=True)}
ROMAJI |= {"や": "ya", "ゆ": "yu", "よ": "yo", "わ": "wa", "を": "o", "ん": "n", "し": "shi", "ち": "chi", "つ": "tsu"}
ROMAJI |= {"ふ": "fu", "じ": "ji", "ぢ": "ji", "づ": "zu", "ゔ": "vu"}
SMALL = {"ゃ": "a", "ゅ": "u", "ょ": "o", "ぁ": "a", "ぃ": "i", "ぅ": "u", "ぇ": "e", "ぉ": "o"}


def hiragana(text: str) -> str:
    return "".join(chr(ord(each) - 0x60) if "ァ" <= each <= "ヴ" else each for each in text)


def katakana(text: str) -> str:
    return "".join(chr(ord(each) + 0x60) if "ぁ" <= each <= "ゔ" else each for each in text)


def romaji(kana: str) -> str:
    out, doubled = "", False
    for each in hiragana(kana):
        if each == "っ":
            doubled = True
        elif each in SMALL:
            out = _with_small(out, each)
        elif each == "ー":
            out += out[-1:]
        else:
            syllable = ROMAJI.get(each, each)
            if out.endswith("n") and each in "あいうえおやゆよ" and out[-2:-1] not in ("", " ", "n"):
                out += "'"
            out += ("t" if syllable.startswith("ch") else syllable[:1]) * doubled + syllable
            doubled = False
    return out


def _with_small(out: str, small: str) -> str:
    if small not in "ゃゅょ":
        return out[:-1] + SMALL[small] if not out.endswith(("u", "i")) else out[:-1] + _glide(out) + SMALL[small]
    return out[:-1] + ("" if out.endswith(("shi", "chi", "ji")) else "y") + SMALL[small]


def _glide(out: str) -> str:
    return "w" if out.endswith("u") and not out.endswith(("fu", "vu")) else ""
