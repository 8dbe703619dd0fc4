"""Sentences of transcripts."""

from __future__ import annotations

from bilingual_chat.messages.message import Message

SENTENCES: dict[str, Message] = {
    "transcript.not-saved": Message(
        "This conversation is not being saved to {path}: {reason}. What was saved before is whole; bchat tries again"
        " with the next message.",
        "会話を {path} に保存できません（{reason}）。保存済みの部分は無事です。次のメッセージでもう一度試します。",
    ),
    "transcript.locked": Message(
        "{path} is open in another bchat; what is said here goes into a copy.",
        "{path} は別の bchat で開かれています。ここからは写しに保存されます。",
    ),
    "transcript.not-written": Message(
        "{path} could not be written: {reason}. Mend that, or save to another place.",
        "{path} に書き込めません（{reason}）。原因を直すか、別の場所に保存してください。",
    ),
    "transcript.not-ours": Message(
        "{path} exists and is not a transcript of bchat's; it was left as it is. Choose another name, or allow"
        " overwriting it.",
        "{path} は bchat の保存ファイルではないので、そのまま残しました。別の名前にするか、上書きを許可してください。",
    ),
    "transcript.too-large-to-save": Message(
        "This conversation is too large for one JSON file: {path} was not written. Export it as .md, .html or .jsonl.",
        "会話が大きすぎて JSON に収まらず、{path} には保存できません。.md・.html・.jsonl で書き出してください。",
    ),
    "transcript.exists": Message(
        "{path} exists already, and was left as it is. Choose another name, or allow overwriting it.",
        "{path} はすでにあるため、そのまま残しました。別の名前にするか、上書きを許可してください。",
    ),
    "transcript.is-journal": Message(
        "{path} is a journal, in which bchat saves a conversation by itself; choose another name.",
        "{path} は bchat が会話を自動保存しているファイルです。別の名前を選んでください。",
    ),
    "transcript.read-only": Message(
        "{path} is write-protected; it was left as it is. Choose another name.",
        "{path} は書き込み禁止のため、上書きしませんでした。別の名前を選んでください。",
    ),
    "transcript.not-a-file": Message(
        "{path} is not an ordinary file; choose another one.",
        "{path} は通常のファイルではありません。別のファイルを選んでください。",
    ),
    "transcript.unreadable": Message(
        "{path} could not be read: {reason}.",
        "{path} を読み込めません（{reason}）。",
    ),
    "transcript.too-large": Message(
        "{path} is larger than {limit} MiB, which no transcript is; choose another file.",
        "{path} は {limit} MiB を超えており、会話の保存ファイルではありません。別のファイルを選んでください。",
    ),
    "transcript.invalid": Message(
        "{path} is not a transcript: {reason}.",
        "{path} は会話の保存ファイルではありません（{reason}）。",
    ),
    "transcript.misshapen": Message(
        "{path} is not a transcript: {where} should be {wanted}.",
        "{path} は会話の保存ファイルではありません（{where} には{wanted}が必要です）。",
    ),
    "transcript.not-a-transcript": Message(
        '{path} is not a transcript: it has neither "format": "bchat-transcript" nor a list of utterances.',
        '{path} は会話の保存ファイルではありません（"format": "bchat-transcript" も発話のリストもありません）。',
    ),
    "transcript.not-a-journal": Message(
        "{path} holds no conversation that could be read.",
        "{path} には読み込める会話がありません。",
    ),
    "transcript.newer": Message(
        "{path} has format version {version}; this bchat knows {known}. Update bchat to open it.",
        "{path} の形式はバージョン {version} ですが、この bchat は {known} までです。bchat を更新してください。",
    ),
    "transcript.torn": Message(
        "The last record of {path} was cut off and is left out; everything before it was read.",
        "{path} の最後の記録は途中で切れていたため除きました。それより前はすべて読み込みました。",
    ),
    "transcript.damaged": Message(
        "{path} was read but for {count:damaged-line} ({lines}).",
        "{path} の{count:damaged-line}（{lines}）を除きました。それ以外はすべて読み込みました。",
    ),
    "transcript.header-lost": Message(
        "The header of {path} was lost; model and time are not known, what was said was read.",
        "{path} の見出しが失われています。モデルと日時は不明ですが、会話は読み込みました。",
    ),
    "transcript.details": Message(
        "{path} has values that cannot be right ({names}); they are ignored, and everything that was said was read.",
        "{path} にありえない値（{names}）があったため無視しました。会話はすべて読み込みました。",
    ),
    "transcript.suffix": Message(
        "{suffix!r} is not a format to export to; use one of {known}.{suggestion}",
        "{suffix!r} の形式では書き出せません。{known} のどれかにしてください。{suggestion}",
    ),
    "json.encoding": Message(
        "it seems to be {name}; save it as UTF-8, or convert it: iconv -f {name} -t UTF-8",
        "文字コードが {name} のようです。UTF-8 で保存し直すか、iconv -f {name} -t UTF-8 で変換してください",
    ),
    "json.utf8": Message("line {line} is not UTF-8", "{line} 行目が UTF-8 ではありません"),
    "json.syntax": Message(
        "the JSON is broken at line {line}, column {column}", "JSON が {line} 行 {column} 文字目で壊れています"
    ),
    "json.depth": Message("it is nested more than {limit} levels deep", "入れ子が {limit} 段を超えています"),
    "json.values": Message("it holds more than {limit} values", "値の数が {limit} を超えています"),
    "json.duplicate": Message("the key {name!r} comes twice in one object", "キー {name!r} が重複しています"),
    "json.number": Message("{number} is not a number that fits", "{number} は扱えない数値です"),
    "shape.text": Message("text", "文字列"),
    "shape.object": Message("an object", "オブジェクト"),
    "shape.list": Message("a list", "リスト"),
    "shape.number": Message("a whole number from {low}", "{low} 以上の整数"),
    "shape.versions": Message("an object of texts", "文字列だけのオブジェクト"),
    "shape.speaker": Message("ユーザー or システム", "「ユーザー」か「システム」"),
    "shape.finish": Message(
        "stop, length, interrupted, repetition or failed", " stop・length・interrupted・repetition・failed のどれか"
    ),
    "shape.turn": Message("{speaker}, since the two take turns", "交互の発話なので「{speaker}」"),
    "shape.opening": Message("at most {count}, the number of utterances", "発話の数 {count} 以下の値"),
}
