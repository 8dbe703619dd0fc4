"""Sentences of the command line."""

from __future__ import annotations

from bilingual_chat.messages.message import Message

SENTENCES: dict[str, Message] = {
    "heading.setting": Message("SETTING", "設定"),
    "heading.value": Message("VALUE", "値"),
    "heading.range": Message("RANGE", "範囲"),
    "heading.layer": Message("FROM", "由来"),
    "models.unreadable": Message(
        "{path} cannot be read ({reason}): a model that lies there cannot be opened.",
        "{path} を読み込めません（{reason}）。そこにあるモデルは開けません。",
    ),
    "cli.not-utf8": Message(
        "Some of the question is not UTF-8 and was replaced; convert it first, as with: iconv -t UTF-8",
        "質問に UTF-8 でない部分があり、置き換えました。iconv -t UTF-8 などで変換してからお試しください。",
    ),
    "cli.not-read": Message(
        "Standard input holds something, which was not read; - in place of the text reads it.",
        "標準入力に内容がありますが、読んでいません。読むには、質問の文の代わりに - を指定してください。",
    ),
    "cli.nothing-to-ask": Message(
        'Say what to ask, as in: bchat ask "Hello" (or - for standard input).',
        "質問を指定してください。例：bchat ask こんにちは（- なら標準入力）",
    ),
    "cli.usage": Message("{problem} See: {command} --help", "{problem} 使い方：{command} --help"),
    "cli.output-lost": Message(
        "The output cannot be written ({reason}); make room, or send it somewhere else.",
        "出力を書き込めません（{reason}）。空きを作るか、別の出力先にしてください。",
    ),
    "cli.unforeseen": Message(
        "Something unforeseen went wrong ({kind}); the details are in {path}. Your conversation is kept.",
        "予期しないエラーが起きました（{kind}）。詳細は {path} にあります。会話は保存されています。",
    ),
    "cli.unforeseen-unlogged": Message(
        "Something unforeseen went wrong ({kind}); --debug shows the details. Your conversation is kept.",
        "予期しないエラーが起きました（{kind}）。--debug を付けると詳細が表示されます。会話は保存されています。",
    ),
    "cli.no-option": Message(
        "There is no option {name}.{suggestion}", "{name} というオプションはありません。{suggestion}"
    ),
    "cli.no-option-setting": Message(
        "There is no option {name}; a setting is given with: --set {setting}={value}.",
        "{name} というオプションはありません。設定は --set {setting}={value} で指定してください。",
    ),
    "cli.slash": Message(
        "{name} is a command of the chat; start bchat, then type it there.",
        "{name} はチャットのコマンドです。bchat を起動してから入力してください。",
    ),
    "cli.no-command": Message(
        "There is no command {name}.{suggestion}", "{name} というコマンドはありません。{suggestion}"
    ),
    "cli.no-argument": Message("The argument {name} is missing.", "引数 {name} がありません。"),
    "cli.no-value": Message("The option {name} needs a value.", "オプション {name} には値が必要です。"),
    "cli.any-value": Message("The option {name} takes no value.", "オプション {name} に値は付けられません。"),
    "cli.extra": Message("There is too much on the command line: {name}.", "余分な引数があります：{name}。"),
    "cli.pull-stopped": Message(
        "Stopped; what has come is kept, and `bchat pull {name}` goes on from there.",
        "中止しました。届いた分は残っています。bchat pull {name} で続きから再開できます。",
    ),
    "cli.pulled": Message(
        "{name} is here, every file verified. Chat with it: bchat --model {name}",
        "{name} を入手し、全ファイルを検証しました。bchat --model {name} で会話できます。",
    ),
    "cli.was-here": Message(
        "{name} is here already. Chat with it: bchat --model {name}",
        "{name} はすでにあります。bchat --model {name} で会話できます。",
    ),
    "cli.nothing-found": Message("No conversation holds {words!r}.", "{words!r} を含む会話はありません。"),
    "cli.which-transcript": Message(
        "There is no conversation {which!r}; `bchat transcripts list` shows them.",
        "会話 {which!r} はありません。`bchat transcripts list` で一覧を見られます。",
    ),
    "cli.app": Message(
        "Chat in Japanese and English with rinna's GPT-NeoX models.",
        "rinna の GPT-NeoX モデルと日本語・英語で会話します。",
    ),
    "cli.chat": Message("Chat (the same as bchat alone).", "会話する（bchat だけでも同じ）。"),
    "cli.ask": Message("One reply to standard output.", "ひとつの返答を標準出力に書く。"),
    "cli.presets": Message("List the decoding presets.", "デコード設定のプリセット一覧。"),
    "cli.models": Message("List the models.", "モデルの一覧。"),
    "cli.rm": Message("Delete a downloaded model.", "ダウンロードしたモデルを削除する。"),
    "option.name": Message("Only this model.", "このモデルだけ。"),
    "option.verify": Message("Compare every file with its digest.", "すべてのファイルをダイジェストと照合する。"),
    "heading.model": Message("MODEL", "モデル"),
    "heading.state": Message("STATE", "状態"),
    "heading.size": Message("SIZE", "サイズ"),
    "heading.note": Message(
        "what it is for · licence · published scores, 4 tasks/6 tasks",
        "用途 · ライセンス · 公表スコア（4 タスク/6 タスク）",
    ),
    "models.legend": Message(
        "Memory in GB, weights and a full KV cache: {free} are free here, what does not fit is in (brackets). "
        "* opens by itself ({name}). `bchat models NAME` says all of one.",
        "メモリーは重みと KV キャッシュの合計（GB）。空きは {free} GB、収まらないものは（括弧）付きです。"
        "* は指定なしで開くモデル（{name}）。詳細は bchat models 名前。",
    ),
    "models.legend-unknown": Message(
        "Memory in GB, weights and a full KV cache; this system does not say how much is free. "
        "* opens by itself ({name}). `bchat models NAME` says all of one.",
        "メモリーは重みと KV キャッシュの合計（GB）。このシステムでは空き容量が分かりません。"
        "* は指定なしで開くモデル（{name}）。詳細は bchat models 名前。",
    ),
    "fact.name": Message("name", "名前"),
    "fact.description": Message("for", "用途"),
    "fact.hub": Message("on the hub", "Hub"),
    "fact.state": Message("state", "状態"),
    "fact.file": Message("files", "ファイル"),
    "fact.to-fetch": Message("{small}, {first} (else {second})", "{small}、{first}（なければ {second}）"),
    "fact.size": Message("size", "サイズ"),
    "fact.memory": Message("memory", "メモリー"),
    "fact.fits": Message("fits ({free} GB are free)", "収まります（空き {free} GB）"),
    "fact.too-large": Message("does not fit ({free} GB are free)", "収まりません（空き {free} GB）"),
    "fact.unknown-fit": Message("", ""),
    "fact.prompt": Message("prompt", "プロンプト"),
    "fact.message": Message("Hello", "こんにちは"),
    "fact.template": Message("the chat template in its files", "モデルのファイルにあるチャットテンプレート"),
    "fact.stop": Message("stops at", "停止文字列"),
    "fact.context": Message("context", "コンテキスト"),
    "fact.preset": Message("settings", "設定"),
    "fact.licence": Message("licence", "ライセンス"),
    "fact.scores": Message("scores", "スコア"),
    "fact.md5": Message("known MD5", "既知の MD5"),
    "fact.withdrawn": Message("withdrawn MD5", "公開停止の MD5"),
    "models.none-here": Message("No downloaded model is here.", "ダウンロード済みのモデルはありません。"),
    "models.withdrawn": Message(
        "{name} has weights that were withdrawn for their training data; bchat rm {name}, then bchat pull {name}.",
        "{name} の重みは公開停止になったものです。bchat rm {name} の後に bchat pull {name} を実行してください。",
    ),
    "models.withdrawn-elsewhere": Message(
        "{path} was withdrawn by its publisher for its training data; get the good weights with: bchat pull {name}",
        "{path} は学習データのため公開停止になった重みです。bchat pull {name} で正しい重みを入手してください。",
    ),
    "models.damaged": Message(
        "Damaged: {names}. Fetch what is damaged again with: bchat pull {first}",
        "破損しています：{names}。bchat pull {first} で壊れた分を取り直せます。",
    ),
    "models.removed": Message("Removed {name}: {size} GB are free again.", "{name} を削除し、{size} GB 空けました。"),
    "models.nothing-removed": Message("{name} was not here.", "{name} はありませんでした。"),
    "cli.pull": Message("Download a model.", "モデルをダウンロードする。"),
    "cli.where": Message("Show where bchat keeps its files.", "ファイルの置き場所を表示する。"),
    "cli.transcripts": Message("List, show and search saved conversations.", "保存した会話の一覧・表示・検索。"),
    "cli.transcripts.list": Message("List the conversations, newest first.", "会話の一覧（新しい順）。"),
    "cli.transcripts.show": Message(
        "Print one: as JSON, or as --as says.", "会話を 1 つ表示する（JSON、または --as の形式）。"
    ),
    "cli.as": Message(
        "There is no format {name!r}; use one of {known}.{suggestion}",
        "{name!r} という形式はありません。{known} のどれかにしてください。{suggestion}",
    ),
    "cli.transcripts.search": Message(
        "Find words in all of them; kana and width do not matter.", "会話を検索する（かな・全角半角の違いは無視）。"
    ),
    "option.model": Message(
        "A model's name, or the path of its directory.", "モデルの名前、またはディレクトリのパス。"
    ),
    "option.like": Message(
        "Speak to the model in the format and with the settings of this one.",
        "このモデルの形式と設定で会話する（ディレクトリを開くときに）。",
    ),
    "option.preset": Message("A decoding preset (bchat presets).", "デコード設定のプリセット（bchat presets）。"),
    "option.set": Message("Change a setting; may be repeated.", "設定を変える（繰り返し可）。"),
    "option.seed": Message("The seed, for a reply that can be repeated.", "返答を再現するためのシード。"),
    "option.persona": Message("Who the model is to be.", "モデルの役割。"),
    "option.load": Message("Go on from a saved conversation.", "保存した会話から続ける。"),
    "option.config": Message(
        "Read this TOML file instead of yours and the project's.", "通常の設定ファイルの代わりにこの TOML を読む。"
    ),
    "option.lang": Message("Language of bchat's messages: en or ja.", "bchat のメッセージの言語（en または ja）。"),
    "option.as": Message(
        "Which format: json (what --load takes), md, html, or jsonl (for fine-tuning).",
        "形式：json（--load で読める）、md、html、jsonl（ファインチューニング用）。",
    ),
    "option.device": Message("Where to compute.", "計算に使うデバイス。"),
    "option.quantize": Message(
        "Weights in 8 or 4 bits: faster, less memory; auto where 16 do not fit. w8a8: prompts faster yet, less exact.",
        "重みを 8 または 4 ビットにする（速く、省メモリー）。auto は 16 ビットで収まらないとき。"
        "w8a8 はプロンプトがさらに速く、精度は少し落ちる。",
    ),
    "option.wrong-device": Message(
        "--device is one of {known}, not {name!r}.", "--device は {known} のどれかです（{name!r} は使えません）。"
    ),
    "option.accept-withdrawn": Message(
        "Open weights that were withdrawn all the same; it is kept on record.",
        "公開停止の重みでも開く（記録に残ります）。",
    ),
    "option.debug": Message(
        "Show a traceback when something unforeseen happens, and what libraries print.",
        "予期しないエラーの詳細と、ライブラリの警告やログを表示する。",
    ),
    "option.help": Message("Show this help.", "このヘルプを表示する。"),
    "option.install-completion": Message("Set up completion in this shell.", "このシェルに補完を設定する。"),
    "option.show-completion": Message("Print that completion script.", "補完用のスクリプトを表示する。"),
    "option.version": Message("Print the version.", "バージョンを表示する。"),
    "option.json": Message("Print one JSON object with everything.", "すべての情報を JSON で出力する。"),
    "option.text": Message("What to ask; - reads it from standard input.", "質問。- なら標準入力から読む。"),
    "cli.bench": Message(
        "Measure a model here: speed, or with --quality what quantising costs.",
        "このマシンでモデルを測る（速度。--quality なら量子化の影響）。",
    ),
    "option.bench-name": Message(
        "The model; with --quality a text file (none: bchat's own conversation).",
        "モデル。--quality ではテキストファイル（なければ bchat 付属の会話文）。",
    ),
    "option.bench": Message("Measure with these weights; may be repeated.", "この形の重みで測る（繰り返し可）。"),
    "option.quality": Message(
        "Perplexity, and divergence from the most exact weights.",
        "パープレキシティと、最も正確な重みとの差を測る。",
    ),
}
