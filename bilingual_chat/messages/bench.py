"""Sentences of benchmarks."""

from __future__ import annotations

from bilingual_chat.messages.message import Message

SENTENCES: dict[str, Message] = {
    "bench.quantize": Message(
        "--quantize is one of {known}, not {name!r}.{suggestion}",
        "--quantize は {known} のどれかです（{name!r} は使えません）。{suggestion}",
    ),
    "bench.two-models": Message(
        "Two models are named, {first!r} and {second!r}; name one.",
        "モデルが2つ指定されています（{first!r} と {second!r}）。1つにしてください。",
    ),
    "bench.foreign": Message(
        "{name} is not a GPT-NeoX model, and only those can be measured here; choose another with --model.",
        "{name} は GPT-NeoX のモデルではないため測れません。--model で別のモデルを選んでください。",
    ),
    "bench.text-missing": Message(
        "There is no file {path}; with --quality the file of a text follows (the model is named with --model).",
        "ファイル {path} がありません。--quality の後にはテキストファイルを書きます（モデルは --model で指定）。",
    ),
    "bench.text-not-a-file": Message(
        "{path} is not an ordinary file; choose a text file.",
        "{path} は通常のファイルではありません。テキストファイルを選んでください。",
    ),
    "bench.text-large": Message(
        "{path} is larger than {limit} MiB; a part of it is enough.",
        "{path} は {limit} MiB を超えています。一部を切り出せば十分です。",
    ),
    "bench.text-unreadable": Message(
        "{path} cannot be read ({reason}); mend that or choose another file.",
        "{path} を読み込めません（{reason}）。原因を直すか、別のファイルにしてください。",
    ),
    "bench.text-not-utf8": Message(
        "{path} is not text in UTF-8; choose another file, or convert it first, as with: iconv -t UTF-8",
        "{path} は UTF-8 のテキストではありません。別のファイルにするか、iconv -t UTF-8 などで変換してください。",
    ),
    "bench.text-empty": Message(
        "{path} is empty; choose a file with some text.", "{path} は空です。文章のあるファイルを選んでください。"
    ),
    "bench.text-short": Message(
        "The text has only {tokens:token}, which is too little; take one of at least {least}.",
        "テキストが {tokens:token}しかありません。{least} トークン以上のものにしてください。",
    ),
    "bench.no-room": Message(
        "{needed} are needed for a while in {directory}, and {free} are free; make room and try again.",
        "一時的に {directory} に {needed} 必要ですが、空きは {free} です。空きを作ってからお試しください。",
    ),
    "bench.not-kept": Message(
        "{directory} cannot be written ({reason}); mend that and try again.",
        "{directory} に書き込めません（{reason}）。原因を直して、もう一度お試しください。",
    ),
    "bench.step": Message("{name} {step}/{steps}: {doing} …", "{name} {step}/{steps}：{doing}…"),
    "bench.percent": Message("{doing}, {percent} %", "{doing}（{percent} %）"),
    "bench.doing.load": Message("opening the model", "モデルを開いています"),
    "bench.doing.prepare": Message("preparing the weights, once", "重みを準備しています（初回のみ）"),
    "bench.doing.bandwidth": Message("reading the weights", "重みを読んでいます"),
    "bench.doing.prefill": Message("reading a prompt", "プロンプトを読ませています"),
    "bench.doing.decode": Message("decoding at {positions:position}", "{positions:position} から生成しています"),
    "bench.doing.turns": Message("a chat of twenty turns", "20 往復の会話を試しています"),
    "bench.doing.judge": Message("judging {tokens:token}", "{tokens:token}を評価しています"),
    "bench.stopped": Message("Stopped; this was measured until then.", "中止しました。そこまでの測定結果です。"),
    "bench.explained": Message(
        "Limit: every token needs all weights, so none can come faster than memory gives them; in brackets the share "
        "of it that is reached.",
        "上限：1トークンごとに重みをすべて読むため、メモリーの速さで決まります。括弧内は上限に対する割合です。",
    ),
    "bench.turns": Message(
        "Turns are of {tokens:token} each; what was read in earlier ones is not read again.",
        "会話は1往復 {tokens:token}です。前の往復で読んだ部分は読み直しません。",
    ),
    "bench.row.precision": Message("weights in", "重みの精度"),
    "bench.row.load": Message("opening it", "読み込み"),
    "bench.row.bytes": Message("weights read for a token", "1トークンで読む重み"),
    "bench.row.bandwidth": Message("memory gives", "メモリーの速さ"),
    "bench.row.limit": Message("limit", "上限"),
    "bench.row.prefill": Message("prompt of {tokens:token}", "プロンプト（{tokens:token}）"),
    "bench.row.decode": Message("reply at {positions:position}", "生成（{positions:position}）"),
    "bench.row.turn": Message("first token, turn {turn}", "最初のトークンまで（{turn} 往復目）"),
    "bench.row.private": Message("memory, not mapped from files", "メモリー（ファイル以外）"),
    "bench.row.peak": Message("memory at most, mapped files too", "メモリー最大（ファイル込み）"),
    "bench.heading.precision": Message("WEIGHTS IN", "重みの精度"),
    "bench.heading.perplexity": Message("PERPLEXITY", "パープレキシティ"),
    "bench.heading.kl": Message("KL, MEAN", "KL 平均"),
    "bench.heading.kl-p99": Message("KL, 99 %", "KL 99 %"),
    "bench.heading.agreement": Message("SAME LIKELIEST TOKEN", "最有力トークンの一致"),
    "bench.own-conversation": Message(
        "the replies in bchat's own conversation in both languages", "bchat 付属の会話（日英）の返答"
    ),
    "bench.text-read": Message(
        "Judged: {tokens} of the {all} tokens of {source}, in windows of {window}; KL in nats from {precision}.",
        "評価の対象：{source}、{all} トークン中 {tokens} トークン（窓 {window}）。KL（nat）の基準は {precision} です。",
    ),
}
