"""Sentences of the chat loop and its screen."""

from __future__ import annotations

from bilingual_chat.messages.message import Message

SENTENCES: dict[str, Message] = {
    "chat.how-to-leave": Message(
        "Ctrl-C once more, Ctrl-D or /exit leaves.", "もう一度 Ctrl-C を押すか、Ctrl-D か /exit で終了します。"
    ),
    "chat.not-loaded": Message(
        "The model {name} could not be loaded ({reason}); /model chooses another.",
        "モデル {name} を読み込めませんでした（{reason}）。/model で別のモデルを選べます。",
    ),
    "chat.reading": Message(
        "(the model reads the conversation, {percent} %)",
        "（モデルが会話を読んでいます：{percent} %）",
    ),
    "chat.waiting": Message(
        "(the model is loading; your message waits for it)",
        "（モデルを読み込み中です。読み込みが終わりしだい答えます）",
    ),
    "chat.waiting-at": Message(
        "(the model is loading, {percent} %; your message waits for it)",
        "（モデルを読み込み中です：{percent} %。読み込みが終わりしだい答えます）",
    ),
    "chat.too-long": Message(
        "{reason} It is kept among the lines typed before: Up brings it back.",
        "{reason}入力履歴に残っているので、↑キーで呼び出せます。",
    ),
    "chat.stopped-beside": Message(
        "(stopped; the earlier reply stays, /replies lists all)",
        "（中止しました。前の返答はそのままです。/replies で一覧を見られます）",
    ),
    "chat.stopped-unanswered": Message(
        "(stopped; your message is kept, /retry sends it again)",
        "（中止しました。メッセージは残っています。/retry で送り直せます）",
    ),
    "chat.stopped": Message("(stopped)", "（中止しました）"),
    "toolbar.loading": Message("loading …", "読み込み中 …"),
    "toolbar.failed": Message("not loaded", "読み込み失敗"),
    "toolbar.ahead": Message("reading ahead {percent} %", "先読み {percent} %"),
    "toolbar.seed": Message("last seed {seed}", "直前のシード {seed}"),
    "toolbar.unsaved": Message("NOT SAVED", "未保存"),
    "banner.demo": Message(
        "{name}: a tiny demonstration model ({size} M parameters), trained for small talk and first words.",
        "{name}：とても小さなデモ用モデル（パラメータ {size} M）です。あいさつや単語の練習ができます。",
    ),
    "banner.real": Message(
        "The real one, rinna's bilingual 4B model ({size} GB): /pull fetches it while you chat.",
        "本物の rinna バイリンガル 4B モデル（{size} GB）は、/pull で会話しながら取得できます。",
    ),
    "banner.model": Message("{name}: {description}", "{name}：{description}"),
    "banner.base": Message(
        "A base model continues texts; it does not converse.",
        "ベースモデルは文章の続きを書くもので、対話用ではありません。",
    ),
    "banner.help": Message("/help lists the commands, Ctrl-D leaves.", "/help でコマンド一覧、Ctrl-D で終了します。"),
}
