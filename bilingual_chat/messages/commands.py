"""Sentences of slash commands."""

from __future__ import annotations

from bilingual_chat.messages.message import Message

SENTENCES: dict[str, Message] = {
    "command.unknown": Message(
        "There is no command /{name}.{suggestion} /help lists them; // sends a line that begins with /.",
        "/{name} というコマンドはありません。{suggestion} /help で一覧を見られます（/ で始まる文は // で送れます）。",
    ),
    "command.no-argument": Message(
        "{usage} takes nothing after it (there is {argument!r}).", "{usage} の後には何も書けません（{argument!r}）。"
    ),
    "command.value-missing": Message(
        "{name} needs a value, as in: /set {name} 1", "{name} には値が必要です。例：/set {name} 1"
    ),
    "command.one-value": Message(
        "{name} takes one value; {value} is one too many.",
        "{name} に指定できる値は 1 つです（{value} が余分です）。",
    ),
    "command.no-choice": Message(
        "There is no preset or setting {name!r}.{suggestion} Presets: {known}; a setting is NAME=VALUE.",
        "プリセットや設定 {name!r} はありません。{suggestion} プリセットは {known}、設定は「名前=値」です。",
    ),
    "command.of-shell": Message(
        "/{name} is no command of the chat; in the shell: bchat {form}",
        "/{name} はチャットのコマンドではありません。シェルで bchat {form} を使ってください。",
    ),
    "command.argument-missing": Message("Something is missing; write: {usage}", "指定が足りません。使い方：{usage}"),
    "command.help": Message("this list, or what a command or setting does", "この一覧、またはコマンドや設定の説明"),
    "command.settings": Message("every setting: value, range, where it came from", "すべての設定の値・範囲・由来"),
    "command.set": Message("change a setting, or reset it", "設定を変える、または元に戻す"),
    "command.temperature": Message(
        "how freely words are chosen (0: always the likeliest)", "言葉選びの自由さ（0 なら常に最有力）"
    ),
    "command.top_p": Message(
        "choose among the likeliest words that make up this share", "確率の合計がこの値になるまでの候補から選ぶ"
    ),
    "command.top_k": Message(
        "choose among this many likeliest words (0: all)", "上位この個数の候補から選ぶ（0 なら全部）"
    ),
    "command.repetition_penalty": Message(
        "make words said before less likely (above 1)", "既出の語を出にくくする（1 より大）"
    ),
    "command.max_new_tokens": Message("the longest a reply may get, in tokens", "返答の最大の長さ（トークン数）"),
    "command.seed": Message("make replies repeatable", "返答を再現できるようにする"),
    "command.preset": Message("list presets, or choose one", "プリセットの一覧、または選択"),
    "command.persona": Message(
        "say who the model is to be (an opening exchange)", "モデルの役割を決める（会話の冒頭に置く）"
    ),
    "command.undo": Message(
        "take back the last /retry or choice, or the last turn", "最後のやり直し、または最後のやり取りを取り消す"
    ),
    "command.compare": Message(
        "answer the last message under several settings, side by side",
        "最後の発言への返答を、いくつかの設定で並べて比べる",
    ),
    "command.take": Message("make one of the compared replies the reply", "比べた返答のひとつを採用する"),
    "take.nothing": Message(
        "Nothing was compared for the last message; /compare does that.",
        "最後の発言についてはまだ比べていません。/compare で比べられます。",
    ),
    "take.number": Message(
        "/take takes {most:number}, not {value!r}.",
        "/take には{most:number}を書いてください（{value!r} は使えません）。",
    ),
    "take.anew": Message(
        "That reply was not shown to its end: it is answered anew, in full, with its settings.",
        "この返答は最後まで表示していないため、同じ設定で最後まで答え直します。",
    ),
    "command.retry": Message("answer again, with other settings if given", "返答をやり直す（設定の変更も可）"),
    "command.replies": Message(
        "list the replies the last message has had, or choose one", "最後の発言への返答の一覧、または選び直し"
    ),
    "command.last": Message("how the last reply was made", "最後の返答の設定・シード・速度など"),
    "command.edit": Message("change your last message and send it again", "最後のメッセージを直して送り直す"),
    "command.clear": Message("start over (the conversation stays saved)", "最初からやり直す（会話は保存されたまま）"),
    "command.history": Message("the conversation so far", "これまでの会話"),
    "command.prompt": Message("exactly what the model would be told", "モデルに渡される内容そのもの"),
    "command.save": Message("save the conversation as JSON", "会話を JSON で保存する"),
    "command.load": Message("go on from a saved conversation", "保存した会話を読み込んで続ける"),
    "command.resume": Message("go on with a recent conversation", "最近の会話を再開する"),
    "command.export": Message("write Markdown, HTML or JSONL", "Markdown・HTML・JSONL に書き出す"),
    "command.model": Message("list models, or switch to one", "モデルの一覧、または切り替え"),
    "command.pull": Message(
        "fetch a model while you chat, or stop that", "会話しながらモデルを取得する、または中止する"
    ),
    "command.lang": Message("bchat's own messages in English or Japanese", "bchat のメッセージの言語を切り替える"),
    "command.exit": Message("leave (also Ctrl-D)", "終了する（Ctrl-D でも可）"),
    "help.aliases": Message("also {names}", "別名 {names}"),
    "help.keys": Message(
        "Alt+Enter: new line · Ctrl-C: stop a reply, put a draft aside (Up: back) · "
        "Ctrl-R: search earlier lines · Ctrl-D: leave",
        "Alt+Enter：改行 · Ctrl-C：返答の中止、下書きを脇に置く（↑ で戻す） · Ctrl-R：以前の入力を検索 · Ctrl-D：終了",
    ),
    "lang.unknown": Message(
        "bchat speaks en and ja, not {name!r}.", "使える言語は en と ja です（{name!r} は使えません）。"
    ),
    "lang.chosen": Message("bchat's messages are in English.", "bchat のメッセージは日本語です。"),
    "undo.done": Message("Taken back: {text}", "取り消しました：{text}"),
    "undo.reply": Message(
        "(back to reply {number} of {of}; /undo again goes further back)",
        "（{of} 個中 {number} 番目の返答に戻しました。/undo でさらに戻せます）",
    ),
    "undo.count": Message(
        "There is no more than {turns:turn} to take back, so {value!r} cannot be done; write: /undo {turns:choice}",
        "取り消せるのは最大 {turns:turn}です（{value!r} は使えません）。例：/undo {turns:choice}",
    ),
    "clear.done": Message(
        "A new conversation; the old one is kept (/resume).",
        "新しい会話を始めます。前の会話は残っています（/resume）。",
    ),
    "history.empty": Message("Nothing has been said yet.", "まだ何も話していません。"),
    "history.nothing-to-save": Message(
        "Nothing has been said yet, so there is nothing to write.",
        "まだ何も話していないので、書き出すものがありません。",
    ),
    "save.done": Message("Saved {turns:turn} to {path}", "{turns:turn}を {path} に保存しました。"),
    "save.export": Message(
        "/save writes JSON, which can be loaded again; write: /export {path}",
        "/save は読み込み直せる JSON を書きます。この形式なら /export {path} を使ってください。",
    ),
    "save.replace": Message(
        "{path} holds another conversation. Replace it? [y/N] ",
        "{path} には別の会話があります。置き換えますか？ [y/N] ",
    ),
    "save.another": Message(
        "{path} holds another conversation and was left as it is; choose another name.",
        "{path} には別の会話があるため、そのまま残しました。別の名前にしてください。",
    ),
    "save.overwrite": Message(
        "{path} exists, and is not a transcript of bchat's. Overwrite it? [y/N] ",
        "{path} はすでにあり、bchat の会話ファイルではありません。上書きしますか？ [y/N] ",
    ),
    "save.exists": Message(
        "{path} exists already. Overwrite it? [y/N] ",
        "{path} はすでにあります。上書きしますか？ [y/N] ",
    ),
    "load.done": Message("Going on after {turns:turn}.", "{turns:turn}の会話を続けます。"),
    "load.other-model": Message(
        "The last reply is by {name}; /model {name} goes on with it.",
        "最後の返答は {name} のものです。/model {name} で同じモデルと続けられます。",
    ),
    "load.other-settings": Message(
        "The last reply had other settings; /set {changes} brings them back.",
        "最後の返答は設定が違いました。/set {changes} で同じ設定になります。",
    ),
    "load.pending": Message(
        "The last message had no reply yet; it is in the line for you to send.",
        "最後のメッセージにはまだ返答がありません。入力欄に入れたので、そのまま送れます。",
    ),
    "load.pending-piped": Message(
        "The last message had no reply yet; /retry answers it.",
        "最後のメッセージにはまだ返答がありません。/retry で返答できます。",
    ),
    "edit.next-line": Message(
        "The next line takes the place of your last message.", "次の行が最後のメッセージと入れ替わります。"
    ),
    "load.left-out": Message(
        "The last message of the file has no reply; it was left out.",
        "ファイルの最後のメッセージには返答がないため、除きました。",
    ),
    "resume.open": Message("(open in a bchat)", "（使用中）"),
    "resume.damaged": Message("(damaged)", "（破損あり）"),
    "resume.none": Message("There is no earlier conversation.", "以前の会話はありません。"),
    "resume.which": Message(
        "Which ({last:choice}, Enter: none)? ", "どれを再開しますか（{last:choice}、Enter で取り消し）？ "
    ),
    "resume.unknown": Message(
        "There is no conversation {which!r}; give {last:number}.",
        "会話 {which!r} はありません。{last:number}を指定してください。",
    ),
    "offer.whole": Message(
        "The real one, rinna's bilingual 4B model, is not on this machine. Fetch it now, {size} GB into {directory} "
        "({free} GB free), while you chat with the small one? y fetches it, n does not; anything else is for the chat.",
        "本物の rinna バイリンガル 4B モデルはまだこのマシンにありません。小さいモデルと話している間に {directory} へ"
        "取得しますか（{size} GB、空き {free} GB）？ y で取得、n で取得しない、ほかの入力は会話になります。",
    ),
    "offer.rest": Message(
        "The real one, rinna's bilingual 4B model: {here} of {size} GB are here already. Fetch the rest now "
        "({free} GB free in {directory}), while you chat with the small one? y fetches it, n does not; anything else "
        "is for the chat.",
        "本物の rinna バイリンガル 4B モデルは {size} GB のうち {here} GB を取得済みです。小さいモデルと話している間に"
        "残りを {directory} へ取得しますか（空き {free} GB）？ y で取得、n で取得しない、ほかの入力は会話になります。",
    ),
    "offer.declined": Message(
        "You will not be asked again; /pull {name} fetches it whenever you like.",
        "今後はお尋ねしません。/pull {name} でいつでも取得できます。",
    ),
}
