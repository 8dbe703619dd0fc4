"""Sentences of turns."""

from __future__ import annotations

from bilingual_chat.messages.message import Message

SENTENCES: dict[str, Message] = {
    "session.too-long": Message(
        "The message is too long: {count:character}, with a limit of {limit}. Shorten it.",
        "メッセージが長すぎます（{count:character}、上限 {limit}）。短くしてください。",
    ),
    "session.nothing-said": Message(
        "There is nothing to tell the model yet; write something.",
        "モデルに渡す文章がまだありません。何か入力してください。",
    ),
    "session.broke-off": Message(
        "The reply broke off without an end; what came is kept. /retry asks again.",
        "返答が途中で途切れました。届いた分は残しました。/retry でやり直せます。",
    ),
    "session.broke-off@shell": Message(
        "The reply broke off without an end; ask again.",
        "返答が途中で途切れました。もう一度質問してください。",
    ),
    "session.silent": Message(
        "(the model said nothing; /retry asks again)",
        "（モデルは何も答えませんでした。/retry でやり直せます）",
    ),
    "session.silent@shell": Message(
        "(the model said nothing; ask again, or with another --seed)",
        "（モデルは何も答えませんでした。もう一度質問するか、--seed を変えてください）",
    ),
    "session.full": Message(
        "(the model's context is full, so the reply ends here; the next message makes room)",
        "（モデルのコンテキストがいっぱいになり、返答はここまでです。次のメッセージで古い部分を除きます）",
    ),
    "session.full@shell": Message(
        "(the model's context is full, so the reply ends here)",
        "（モデルのコンテキストがいっぱいになり、返答はここまでです）",
    ),
    "session.dropped": Message(
        "The conversation no longer fits the model's context: it is now told without its {count:first-turns}.",
        "会話がモデルのコンテキストに収まらなくなったため、{count:first-turns}を除いて伝えます。",
    ),
    "session.cut": Message(
        "The text no longer fits the model's context: the model reads it without its {count:first-characters}.",
        "文章がモデルのコンテキストに収まらないため、{count:first-characters}を除いて渡します。",
    ),
    "session.look-alike": Message(
        "Some text looks like a speaker label or a separator; bchat spells it differently for the model.",
        "話者ラベルや区切り記号のように見える箇所があるため、モデルには表記を少し変えて渡します。",
    ),
    "session.length": Message(
        "(max_new_tokens reached; /max_new_tokens allows longer replies)",
        "（max_new_tokens に達しました。/max_new_tokens で長くできます）",
    ),
    "session.length@shell": Message(
        "(max_new_tokens reached; --set max_new_tokens=N allows longer replies)",
        "（max_new_tokens に達しました。--set max_new_tokens=N で長くできます）",
    ),
    "session.same-again": Message(
        "(temperature 0 gives the same reply each time; /retry temperature=0.8 gives another)",
        "（temperature が 0 だと返答は毎回同じです。/retry temperature=0.8 なら変わります）",
    ),
    "session.same-seed": Message(
        "(the seed is {seed} again, so the reply is the same; /retry seed={other} gives another)",
        "（シードが同じ {seed} なので返答も同じです。/retry seed={other} なら変わります）",
    ),
    "session.repetition": Message(
        "(stopped: the reply went round in circles; /retry repetition_penalty={penalty} tries again)",
        "（同じ内容の繰り返しになったため止めました。/retry repetition_penalty={penalty} でやり直せます）",
    ),
    "session.repetition@shell": Message(
        "(stopped: the reply went round in circles; try --set repetition_penalty={penalty})",
        "（同じ内容の繰り返しになったため止めました。--set repetition_penalty={penalty} を試してください）",
    ),
    "session.nothing-to-undo": Message(
        "There is no turn yet; say something first.", "まだやり取りがありません。先に何か話しかけてください。"
    ),
    "compare.variant": Message("[{number}] {label}", "[{number}] {label}"),
    "compare.same": Message("(the same as {number})", "（{number} と同じ）"),
    "compare.done": Message(
        "The conversation is unchanged; /take NUMBER makes one of these its reply.",
        "どれもまだ会話には入っていません。/take 番号 で採用できます。",
    ),
    "compare.count": Message(
        "/compare takes 2 to {most} presets or settings (temperature=0.3 or temperature=0.3,top_p=0.9), not {count}.",
        "/compare にはプリセットか設定（temperature=0.3 や temperature=0.3,top_p=0.9）を 2 〜 {most} 個書いてください"
        "（{count} 個ありました）。",
    ),
    "replies.none": Message(
        "The last message has no reply yet; /retry answers it.",
        "最後の発言にはまだ返答がありません。/retry で返答できます。",
    ),
    "replies.choose": Message(
        "/replies N chooses one; * is the conversation's.", "/replies 番号 で選べます（* が会話の返答）。"
    ),
    "replies.only": Message(
        "There is no other reply; /retry asks for one.", "ほかの返答はありません。/retry でやり直せます。"
    ),
    "replies.number": Message(
        "/replies takes {most:number}, not {value!r}.",
        "/replies には{most:number}を書いてください（{value!r} は使えません）。",
    ),
    "replies.chosen": Message("(reply {number} of {of})", "（{of} 個中 {number} 番目の返答にしました）"),
    "replies.same": Message("the same as {number}", "{number} と同じ"),
    "last.number": Message("reply", "返答"),
    "last.model": Message("model", "モデル"),
    "last.preset": Message("preset", "プリセット"),
    "last.settings": Message("settings", "設定"),
    "last.seed": Message("seed", "シード"),
    "last.prompt": Message("prompt", "プロンプト"),
    "last.prompt-tokens": Message(
        "{tokens:token}, {cached} of them cached", "{tokens:token}（うち {cached} はキャッシュ済み）"
    ),
    "last.reply": Message("length", "長さ"),
    "last.reply-tokens": Message("{tokens:token}", "{tokens:token}"),
    "last.first": Message("first token after", "最初のトークンまで"),
    "last.speed": Message("speed", "速度"),
    "last.finish": Message("end", "終わり方"),
    "persona.none": Message(
        "There is no persona; set one with: /persona TEXT", "役割は未設定です。/persona 文 で設定できます。"
    ),
    "persona.set": Message(
        "The persona opens the conversation from now on.", "役割を設定しました。会話の冒頭に置かれます。"
    ),
    "persona.base": Message(
        "{name} is a base model, which continues texts: write who it is to be into your message instead.",
        "{name} は文章の続きを書くベースモデルです。役割はメッセージの中に書いてください。",
    ),
    "persona.not-told": Message(
        "({name} is a base model, which is not told the persona: write who it is to be into your message instead)",
        "（{name} はベースモデルのため、役割は渡されません。メッセージの中に書いてください）",
    ),
    "persona.not-followed": Message(
        "({name} is too small to follow a persona; a larger model is needed for that)",
        "（{name} は小さいため、役割どおりには振る舞えません。大きなモデルを使ってください）",
    ),
    "persona.removed": Message("The persona is gone.", "役割を外しました。"),
    "finish.stop": Message("whole", "完了"),
    "finish.length": Message("cut at max_new_tokens", "max_new_tokens で打ち切り"),
    "finish.interrupted": Message("stopped by you", "中止"),
    "finish.repetition": Message("stopped: repetition", "繰り返しのため停止"),
    "finish.failed": Message("failed", "失敗"),
}
