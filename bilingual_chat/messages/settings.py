"""Sentences of settings, presets, models and paths."""

from __future__ import annotations

from bilingual_chat.messages.message import Message

SENTENCES: dict[str, Message] = {
    "nothing": Message("", ""),
    "setting.unknown": Message(
        "There is no setting {name!r}.{suggestion} /settings lists them.",
        "設定 {name!r} はありません。{suggestion} /settings で一覧を見られます。",
    ),
    "setting.unknown@shell": Message(
        "There is no setting {name!r}.{suggestion} Known: {known}.",
        "設定 {name!r} はありません。{suggestion} 使えるのは {known} です。",
    ),
    "setting.range": Message(
        "{name} must be between {low} and {high}, not {value}.",
        "{name} は {low} 以上 {high} 以下で指定してください（{value} は使えません）。",
    ),
    "setting.type": Message(
        "{name} takes {kind}, not {value!r}.",
        "{name} には{kind}を指定してください（{value!r} は使えません）。",
    ),
    "suggestion": Message(" Did you mean {name}?", "もしかして {name} ですか？"),
    "kind.int": Message("a whole number", "整数"),
    "kind.float": Message("a number", "数値"),
    "paths.no-home": Message(
        "There is no home directory; set HOME to a directory that you may write to.",
        "ホームディレクトリがありません。HOME に書き込めるディレクトリを設定してください。",
    ),
    "paths.not-shipped": Message(
        "{name} is missing from this installation; install bchat again.",
        "{name} がインストールされていません。bchat を入れ直してください。",
    ),
    "config.unreadable": Message(
        "{path} cannot be read: {reason}.",
        "{path} を読み込めません（{reason}）。",
    ),
    "config.not-a-file": Message(
        "{path} is not an ordinary file of at most {limit} KiB; settings are kept in a small text file.",
        "{path} は {limit} KiB 以下の通常のファイルではありません。設定は小さなテキストファイルに書いてください。",
    ),
    "config.not-utf8": Message(
        "{path} is not UTF-8; save it as UTF-8.",
        "{path} は UTF-8 ではありません。UTF-8 で保存してください。",
    ),
    "config.syntax": Message(
        "{where}: this is not TOML ({reason}).",
        "{where}: TOML として読めません（{reason}）。",
    ),
    "config.wrong": Message("{where}: {problem}", "{where}: {problem}"),
    "config.key": Message(
        "there is no key {field!r} here.{suggestion} Known: {known}.",
        "ここにキー {field!r} は置けません。{suggestion} 使えるのは {known} です。",
    ),
    "config.type": Message("{field} must be {kind}.", "{field} には{kind}を指定してください。"),
    "config.too-deep": Message(
        "a key has more than {limit} parts; settings need four at most.",
        "キーの階層が {limit} を超えています。設定に必要な階層は 4 つまでです。",
    ),
    "config.too-many": Message(
        "more than {limit} entries are here; keep fewer.",
        "項目が {limit} 個を超えています。減らしてください。",
    ),
    "config.too-long": Message(
        "{field} has more than {limit:character}; shorten it.",
        "{field} が {limit:character}を超えています。短くしてください。",
    ),
    "config.path": Message(
        "{field} holds a NUL character, which no file name can have.",
        "{field} にファイル名として使えない NUL 文字が含まれています。",
    ),
    "config.range": Message(
        "{field} must be a whole number from 0 to {most}.",
        "{field} には 0 以上 {most} 以下の整数を指定してください。",
    ),
    "config.skipped": Message(
        "The settings in {path} are ignored, because the file cannot be read ({reason}).",
        "設定ファイル {path} を読めないため（{reason}）、その内容を無視します。",
    ),
    "config.empty": Message("{field} must not be empty.", "{field} を空にはできません。"),
    "config.choice": Message(
        "{field} must be one of {known}, not {value!r}.{suggestion}",
        "{field} は {known} のどれかにしてください（{value!r} は使えません）。{suggestion}",
    ),
    "config.lacks": Message("the model {name!r} needs {field}.", "モデル {name!r} には {field} が必要です。"),
    "config.taken": Message(
        "{field} is already a name of the model {name!r}; choose another.",
        "{field} はすでにモデル {name!r} の名前です。別の名前にしてください。",
    ),
    "config.environment": Message(
        "The environment variable {name} is wrong: {problem}",
        "環境変数 {name} が正しくありません。{problem}",
    ),
    "config.variable": Message(
        "bchat reads no environment variable {name}.{suggestion}",
        "bchat は環境変数 {name} を使いません。{suggestion}",
    ),
    "config.assignment": Message(
        "{text!r} sets nothing; write NAME=VALUE, as in temperature=0.7.",
        "{text!r} は設定になっていません。temperature=0.7 のように「名前=値」で指定してください。",
    ),
    "kind.str": Message("text in quotes", "引用符で囲んだ文字列"),
    "kind.bool": Message("true or false", "true か false"),
    "kind.hub-id": Message("the name of a repository on the hub, such as owner/name", "リポジトリ名（owner/name）"),
    "kind.revision": Message("a branch, a tag or a commit", "ブランチ、タグ、コミットのいずれか"),
    "kind.md5": Message("an MD5 of 32 hexadecimal digits", "16 進数 32 桁の MD5"),
    "kind.table": Message("a table", "テーブル"),
    "kind.texts": Message("a list of texts", "文字列のリスト"),
    "preset.unknown": Message(
        "There is no preset {name!r}.{suggestion} Known: {known}.",
        "プリセット {name!r} はありません。{suggestion} 使えるのは {known} です。",
    ),
    "model.unknown": Message(
        "There is no model {name!r}.{suggestion} Known: {known}; or give the path of a model's directory.",
        "モデル {name!r} はありません。{suggestion} 使えるのは {known} か、モデルのディレクトリのパスです。",
    ),
    "model.unknown-name": Message(
        "There is no model {name!r}.{suggestion} Known: {known}.",
        "モデル {name!r} はありません。{suggestion} 使えるのは {known} です。",
    ),
    "model.no-directory": Message(
        "There is no directory {path}; give the directory that holds a model's config.json.",
        "ディレクトリ {path} がありません。モデルの config.json があるディレクトリを指定してください。",
    ),
    "model.unreadable": Message(
        "{path} cannot be read: {reason}. Mend that, or choose another model.",
        "{path} を読み込めません（{reason}）。原因を直すか、別のモデルを選んでください。",
    ),
    "model.incomplete": Message(
        "{path} holds no complete model: {file} is missing.",
        "{path} のモデルは不完全です（{file} がありません）。",
    ),
    "model.file-damaged": Message(
        "{file} of the model {name} is not what the hub has: it is damaged; fetch it again with: bchat pull {name}",
        "モデル {name} の {file} が壊れています（Hub のものと異なります）。bchat pull {name} で取り直してください。",
    ),
    "model.file-damaged@chat": Message(
        "{file} of the model {name} is not what the hub has: it is damaged; fetch it again with: /pull {name}",
        "モデル {name} の {file} が壊れています（Hub のものと異なります）。/pull {name} で取り直してください。",
    ),
    "model.not-here": Message(
        "The model {name} is not on this machine; get it with: bchat pull {name}",
        "モデル {name} はこのマシンにありません。bchat pull {name} で入手できます。",
    ),
    "model.not-here@chat": Message(
        "The model {name} is not on this machine; get it while you chat with: /pull {name}",
        "モデル {name} はこのマシンにありません。/pull {name} を実行すると、会話しながら入手できます。",
    ),
    "parameter.temperature": Message(
        "Divides the scores before a word is chosen: below 1 calmer, above 1 wilder, 0 always the likeliest.",
        "語を選ぶ前のスコアを割る値です。1 より小さいと落ち着き、大きいと奔放になり、0 なら常に最有力の語です。",
    ),
    "parameter.top_k": Message(
        "Only this many likeliest tokens can be chosen; 0 switches it off.",
        "上位この個数のトークンだけから選びます。0 で無効になります。",
    ),
    "parameter.top_p": Message(
        "Only the likeliest tokens that together reach this probability can be chosen; 1 switches it off.",
        "確率の合計がこの値に達するまでの上位トークンだけから選びます。1 で無効になります。",
    ),
    "parameter.repetition_penalty": Message(
        "Tokens that were there before become less likely above 1; 1 switches it off, 1.1 is a good try.",
        "1 より大きいと、既出のトークンが出にくくなります。1 で無効、まずは 1.1 がおすすめです。",
    ),
    "parameter.min_new_tokens": Message(
        "The model cannot end a reply before this many tokens.", "このトークン数までは返答を終えられません。"
    ),
    "parameter.max_new_tokens": Message(
        "A reply is cut after this many tokens.", "返答はこのトークン数で打ち切られます。"
    ),
    "parameter.seed": Message(
        "The same seed, settings and conversation give the same reply; none: a fresh one each time, on record.",
        "シード・設定・会話が同じなら返答も同じです。none なら毎回新しい値を使い、記録に残します。",
    ),
    "value.fresh": Message("fresh each time", "毎回新しい値"),
    "layer.default": Message("default", "既定値"),
    "layer.environment": Message("environment", "環境変数"),
    "layer.option": Message("command line", "コマンドライン"),
    "layer.session": Message("/set", "/set"),
    "preset.chosen": Message("Preset {name}.", "プリセットを {name} にしました。"),
    "preset.replaced": Message(
        "Preset {name}; it replaces {values}.", "プリセットを {name} にしました（置き換えた値：{values}）。"
    ),
    "model.here": Message("here", "あり"),
    "model.coming": Message("fetching, {percent} %", "取得中、{percent} %"),
    "model.unreadable-state": Message("UNREADABLE", "読み込み不可"),
    "model.absent": Message("not here", "なし"),
    "model.chosen": Message("Model {name}, preset {preset}.", "モデルを {name}、プリセットを {preset} にしました。"),
    "model.embedded": Message("ships with bchat", "同梱"),
    "model.good": Message("here, verified", "あり（検証済み）"),
    "model.unknown-state": Message("here, not verified", "あり（未検証）"),
    "model.changed": Message("here, CHANGED", "あり（変更あり）"),
    "model.damaged": Message("DAMAGED", "破損"),
    "model.withdrawn": Message("here, WITHDRAWN", "あり（公開停止）"),
    "place.config": Message("your settings", "設定ファイル"),
    "place.project": Message("settings of this directory", "このディレクトリの設定"),
    "place.conversations": Message("conversations", "会話"),
    "place.state": Message("line history, logs", "入力履歴・ログ"),
    "place.cache": Message("cache", "キャッシュ"),
    "place.models": Message("downloaded models", "ダウンロードしたモデル"),
    "place.demo": Message("embedded model", "同梱モデル"),
    "place.presets": Message("presets", "プリセット"),
    "place.catalogue": Message("models known by name", "モデルカタログ"),
}
