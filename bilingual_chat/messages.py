"""Every sentence bchat says, in English and Japanese.

A plain table at the bottom of the house, so that any room can raise an error that speaks both
languages. Placeholders are filled as by `str.format`; both languages must use the same ones (test).

A remedy depends on the place: `/retry` means nothing in a shell. The key `KEY@shell` or `KEY@chat` holds
the sentence for one place, where it differs from `KEY`. A count takes its noun from `FORMS`: `{count:turn}`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from string import Formatter
from typing import Any, Literal, NamedTuple

LANGUAGES = ("en", "ja")
Place = Literal["", "chat", "shell"]  # where a sentence is read; "" for logs and tests


def language_of(environ: Mapping[str, str]) -> str:
    """ "ja" or "en", as the locale's variables say; the first that is set decides, as in POSIX."""
    locale = next((environ[name] for name in ("LC_ALL", "LC_MESSAGES", "LANG") if environ.get(name)), "")
    return "ja" if locale.lower().startswith("ja") else "en"


class Message(NamedTuple):
    en: str
    ja: str


class Phrase:
    """A part of a sentence that is itself in the table; it speaks the language of the whole."""

    def __init__(self, key: str, **values: object) -> None:
        self.key = key
        self.values = values


class Forms(NamedTuple):
    """How a count is said: of one, and of any other number."""

    one: Message
    other: Message


class _Writer(Formatter):
    """Fills the placeholders of one language; a format that names `FORMS` says a count."""

    def __init__(self, lang: str) -> None:
        self._lang = lang

    def write(self, message: Message, values: Mapping[str, object]) -> str:
        return self.vformat(message.ja if self._lang == "ja" else message.en, (), values)

    def format_field(self, value: Any, format_spec: str) -> str:
        forms = FORMS.get(format_spec)
        if forms is None:
            return str(super().format_field(value, format_spec))
        return self.write(forms.one if str(value) == "1" else forms.other, {"n": value})


def render(key: str, lang: str, place: Place = "", /, **values: object) -> str:
    """The sentence `key` in `lang`, as it is said in `place`; raises KeyError for a key that is not in the table."""
    message = TABLE.get(f"{key}@{place}") or TABLE[key]
    spoken = {
        name: render(value.key, lang, place, **value.values) if isinstance(value, Phrase) else value
        for name, value in values.items()
    }
    return _Writer(lang).write(message, spoken)


def did_you_mean(name: str, known: Iterable[str]) -> Phrase:
    """The clause " Did you mean X?" for the nearest known name, or an empty one."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return Phrase("suggestion", name=close[0]) if close else Phrase("nothing")


FORMS: dict[str, Forms] = {
    "turn": Forms(Message("1 turn", "1 往復"), Message("{n} turns", "{n} 往復")),
    "first-turns": Forms(Message("first turn", "最初の 1 往復"), Message("first {n} turns", "最初の {n} 往復")),
    "character": Forms(Message("1 character", "1 文字"), Message("{n} characters", "{n} 文字")),
    "first-characters": Forms(
        Message("first character", "最初の 1 文字"), Message("first {n} characters", "最初の {n} 文字")
    ),
    "token": Forms(Message("1 token", "1 トークン"), Message("{n} tokens", "{n} トークン")),
    "tensor": Forms(Message("1 tensor", "テンソル 1 個"), Message("{n} tensors", "テンソル {n} 個")),
    "position": Forms(Message("1 position", "位置 1"), Message("{n} positions", "位置 {n}")),
    "damaged-line": Forms(Message("1 damaged line", "壊れた 1 行"), Message("{n} damaged lines", "壊れた {n} 行")),
    # What may be chosen, where the numbers begin at 1.
    "choice": Forms(Message("1", "1"), Message("1–{n}", "1〜{n}")),
    "number": Forms(Message("the number 1", "番号 1 "), Message("a number from 1 to {n}", "1 〜 {n} の番号")),
}

TABLE: dict[str, Message] = {
    "nothing": Message("", ""),
    # -- decoding
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
    # -- prompt
    "prompt.too-long": Message(
        "The message is too long: {tokens:token}, with room for {budget}. Shorten it, or lower max_new_tokens.",
        "メッセージが長すぎます（{tokens:token}、上限 {budget}）。短くするか、max_new_tokens を下げてください。",
    ),
    # -- paths, config, catalogue
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
    # -- hub
    "model.file-damaged": Message(
        "{file} of the model {name} is not what the hub has: it is damaged; fetch it again with: bchat pull {name}",
        "モデル {name} の {file} が壊れています（Hub のものと異なります）。bchat pull {name} で取り直してください。",
    ),
    "model.file-damaged@chat": Message(
        "{file} of the model {name} is not what the hub has: it is damaged; fetch it again with: /pull {name}",
        "モデル {name} の {file} が壊れています（Hub のものと異なります）。/pull {name} で取り直してください。",
    ),
    "hub.nothing-to-fetch": Message(
        "The model {name} is not on the hub; there is nothing to download.",
        "モデル {name} は Hugging Face Hub にないため、ダウンロードするものがありません。",
    ),
    "hub.own-file": Message(
        "{file} in {directory} is not the file that {repo} has, and bchat leaves your own files alone; "
        "move it away and pull again, or take hub_id out of the model's table.",
        "{directory} の {file} は {repo} のものと異なります（bchat は手持ちのファイルに触りません）。"
        "別の場所に移して pull し直すか、モデルの表から hub_id を外してください。",
    ),
    "hub.offline": Message(
        "HF_HUB_OFFLINE is set, so nothing is downloaded; unset it and try again.",
        "HF_HUB_OFFLINE が設定されているため、ダウンロードしません。解除してからもう一度お試しください。",
    ),
    "hub.no-network": Message(
        "{endpoint} could not be reached; check the network (or HF_ENDPOINT) and try again.",
        "{endpoint} に接続できません。ネットワーク（または HF_ENDPOINT）を確認して、もう一度お試しください。",
    ),
    "hub.unknown": Message(
        "{endpoint} has no repository {repo}, or it is private; check the name, or set HF_TOKEN.",
        "{endpoint} にリポジトリ {repo} がないか、非公開です。名前を確認するか、HF_TOKEN を設定してください。",
    ),
    "hub.gated": Message(
        "{repo} asks for its conditions to be accepted; do that on its page and set HF_TOKEN.",
        "{repo} の利用には条件への同意が必要です。そのページで同意し、HF_TOKEN を設定してください。",
    ),
    "hub.revision": Message(
        "{repo} has no revision {revision}; check `revision` in the model's table.",
        "{repo} にリビジョン {revision} がありません。モデルの表の revision を確認してください。",
    ),
    "hub.status": Message(
        "{endpoint} answered with HTTP status {code}; try again later.",
        "{endpoint} が HTTP ステータス {code} を返しました。後でもう一度お試しください。",
    ),
    "hub.not-a-model": Message(
        "{repo} cannot be opened by bchat: it has no {file}.",
        "{repo} には {file} がないため、bchat では開けません。",
    ),
    "hub.no-space": Message(
        "{needed} are needed in {directory}, and {free} are free; make room, or set HF_HOME to another disk.",
        "{directory} に {needed} 必要ですが、空きは {free} です。空きを作るか、HF_HOME を別のディスクにしてください。",
    ),
    "hub.not-written": Message(
        "{directory} cannot be written: {reason}. Mend that, or set HF_HOME to another place.",
        "{directory} に書き込めません（{reason}）。原因を直すか、HF_HOME を別の場所にしてください。",
    ),
    "hub.disk-full": Message(
        "The disk that holds {directory} is full; make room, or set HF_HOME to another disk.",
        "{directory} のディスクに空きがありません。空きを作るか、HF_HOME を別のディスクにしてください。",
    ),
    "hub.cut": Message(
        "The download of {repo} broke off; start it again: it goes on where it stopped.",
        "{repo} のダウンロードが途中で切れました。もう一度実行すると、続きから再開します。",
    ),
    "hub.slow": Message(
        "{endpoint} sends next to nothing of {repo}; try again later: what has come is kept.",
        "{endpoint} から {repo} がほとんど届きません。後でもう一度お試しください（届いた分は残っています）。",
    ),
    "hub.busy": Message(
        "{endpoint} allows no more requests now; try again in {seconds} s: what has come is kept.",
        "{endpoint} の利用制限に達しました。{seconds} 秒後にもう一度お試しください（届いた分は残っています）。",
    ),
    "hub.forbidden": Message(
        "{endpoint} does not let you read {repo}; set HF_TOKEN to a token that may.",
        "{endpoint} に {repo} の閲覧を拒否されました。閲覧できるトークンを HF_TOKEN に設定してください。",
    ),
    "hub.token": Message(
        "HF_TOKEN holds characters that no token has; copy it again.",
        "HF_TOKEN にトークンでは使えない文字が含まれています。コピーし直してください。",
    ),
    "hub.endpoint": Message(
        "HF_ENDPOINT is no web address: {endpoint}. Write it as https://huggingface.co, or unset it.",
        "HF_ENDPOINT が URL ではありません（{endpoint}）。https://huggingface.co のように書くか、解除してください。",
    ),
    "hub.no-hub": Message(
        "{endpoint} does not answer as a hub does; check HF_ENDPOINT, and whether the network wants you to log in.",
        "{endpoint} の応答が Hub のものではありません。HF_ENDPOINT か、ネットワークのログイン画面を確認してください。",
    ),
    "hub.no-digest": Message(
        "{endpoint} states no checksum of {file} in {repo}, so it cannot be verified; use another HF_ENDPOINT.",
        "{endpoint} が {repo} の {file} のチェックサムを示さず、検証できません。別の HF_ENDPOINT を使ってください。",
    ),
    "hub.wrong-digest": Message(
        "{file} of {repo} came damaged (its checksum is wrong) and was thrown away; try again.",
        "{repo} の {file} が壊れて届いた（チェックサム不一致）ため、破棄しました。もう一度お試しください。",
    ),
    "hub.other-weights": Message(
        "{file} of {repo} is not the file that bchat knows (its MD5 is {md5}), so it is not used; "
        "if you trust it, write its MD5 under models.{name}.weights_md5 in your settings.",
        "{repo} の {file} は既知のファイルと異なる（MD5 {md5}）ため使いません。"
        "信頼できる場合は、設定の models.{name}.weights_md5 にその MD5 を書いてください。",
    ),
    "hub.withdrawn": Message(
        "{file} of {repo} is the version that was withdrawn, because part of its training data has a "
        "non-commercial licence; get the current one with `bchat rm` and `bchat pull`, or add --accept-withdrawn.",
        "{repo} の {file} は、学習データの一部が非商用ライセンスだったため公開が取り下げられた版です。"
        "`bchat rm` と `bchat pull` で現在の版にするか、--accept-withdrawn を付けてください。",
    ),
    "hub.withdrawn@chat": Message(
        "{file} of {repo} is the version that was withdrawn, because part of its training data has a "
        "non-commercial licence; get the current one in the shell with `bchat rm` and `bchat pull`, or add "
        "--accept-withdrawn there.",
        "{repo} の {file} は、学習データの一部が非商用ライセンスだったため公開が取り下げられた版です。"
        "シェルで `bchat rm` と `bchat pull` を実行して現在の版にするか、--accept-withdrawn を付けてください。",
    ),
    "hub.not-read": Message(
        "{path} cannot be read: {reason}. Mend that and try again.",
        "{path} を読み込めません（{reason}）。原因を直して、もう一度お試しください。",
    ),
    "hub.embedded": Message(
        "The model {name} is part of bchat; it goes when bchat is uninstalled.",
        "モデル {name} は bchat の一部です。bchat をアンインストールすると削除されます。",
    ),
    "hub.not-ours": Message(
        "The model {name} lies in {path}, which is not bchat's to remove; delete it yourself if you want to.",
        "モデル {name} は {path} にあり、bchat は削除しません。不要ならご自身で削除してください。",
    ),
    "hub.in-use": Message(
        "The model {name} is being downloaded; stop that first.",
        "モデル {name} はダウンロード中です。先にダウンロードを止めてください。",
    ),
    "hub.not-removed": Message(
        "{path} could not be removed: {reason}. Mend that and try again.",
        "{path} を削除できません（{reason}）。原因を直して、もう一度お試しください。",
    ),
    "hub.failed": Message(
        "{repo} could not be downloaded: {reason}. Try again.",
        "{repo} をダウンロードできませんでした（{reason}）。もう一度お試しください。",
    ),
    # -- tokenizer
    "tokenizer.unreadable": Message(
        "The tokenizer {path} cannot be read: {reason}.",
        "トークナイザー {path} を読み込めません（{reason}）。",
    ),
    "tokenizer.broken": Message(
        "{path} is no sentencepiece model, or damaged; download the model again.",
        "{path} は sentencepiece のモデルではないか、壊れています。モデルをダウンロードし直してください。",
    ),
    "tokenizer.lossy": Message(
        "The tokenizer {path} would damage what is said ({what}); bchat does not talk through it.",
        "トークナイザー {path} は発言を損なうため（{what}）、使えません。",
    ),
    "tokenizer.no-end": Message("it has no end-of-sequence token", "終端トークンがありません"),
    "tokenizer.space": Message("spaces are added or lost", "空白が増減します"),
    "tokenizer.newline": Message("newlines are lost", "改行が失われます"),
    "tokenizer.tab": Message("tabs are lost", "タブが失われます"),
    "tokenizer.rare": Message("rare characters are lost", "珍しい文字が失われます"),
    "tokenizer.special": Message("typed text becomes special tokens", "入力した文字が特殊トークンになります"),
    "tokenizer.other": Message("some characters are lost", "一部の文字が失われます"),
    "tokenizer.no-template": Message(
        "The model in {path} has no chat template, so bchat cannot know how to talk to it; use a model tuned for chat.",
        "{path} のモデルにはチャットテンプレートがなく、会話の形式が分かりません。対話用のモデルを使ってください。",
    ),
    "tokenizer.template": Message(
        "The chat template of the model in {path} does not take this conversation ({reason}); /clear starts a new one.",
        "{path} のモデルのチャットテンプレートがこの会話を受け付けません（{reason}）。/clear でやり直せます。",
    ),
    "tokenizer.template@shell": Message(
        "The chat template of the model in {path} does not take this conversation ({reason}); ask without it, or use "
        "another model.",
        "{path} のモデルのチャットテンプレートがこの会話を受け付けません（{reason}）。"
        "会話なしで質問するか、別のモデルを使ってください。",
    ),
    "tokenizer.template-silent": Message(
        "The chat template of the model in {path} leaves out what is said to it; use another model.",
        "{path} のモデルのチャットテンプレートは発言の内容を渡しません。別のモデルを使ってください。",
    ),
    # -- engines
    "engine.file-missing": Message(
        "The model in {directory} lacks the file {file}; download the model again.",
        "{directory} のモデルにファイル {file} がありません。モデルをダウンロードし直してください。",
    ),
    "engine.file-empty": Message(
        "{file} in {directory} is empty; download the model again.",
        "{directory} の {file} は空です。モデルをダウンロードし直してください。",
    ),
    "engine.file-pointer": Message(
        "{file} in {directory} is only a Git-LFS pointer, not the file itself; run `git lfs pull` there.",
        "{directory} の {file} は Git LFS のポインターで、本体ではありません。"
        "そこで `git lfs pull` を実行してください。",
    ),
    "engine.file-unreadable": Message(
        "{file} in {directory} cannot be read ({reason}); check its permissions and the disk.",
        "{directory} の {file} を読めません（{reason}）。権限とディスクを確認してください。",
    ),
    "engine.json": Message(
        "{file} in {directory} does not hold what it should; download the model again.",
        "{directory} の {file} の内容が正しくありません。モデルをダウンロードし直してください。",
    ),
    "engine.weights-missing": Message(
        "There are no weights in {directory} (model.safetensors or pytorch_model.bin); download the model again.",
        "{directory} に重み（model.safetensors または pytorch_model.bin）がありません。"
        "モデルをダウンロードし直してください。",
    ),
    "engine.weights-cut": Message(
        "{file} in {directory} is cut off; download the model again.",
        "{directory} の {file} は途中で切れています。モデルをダウンロードし直してください。",
    ),
    "engine.weights-damaged": Message(
        "{file} in {directory} is damaged or no file of weights; download the model again.",
        "{directory} の {file} は壊れているか、重みのファイルではありません。モデルをダウンロードし直してください。",
    ),
    "engine.weights-code": Message(
        "{file} in {directory} holds something other than weights and was not run; do not use this model.",
        "{directory} の {file} には重み以外のものが含まれているため、実行しませんでした。"
        "このモデルは使わないでください。",
    ),
    "engine.weights-incomplete": Message(
        "The weights in {directory} lack {count:tensor}, {name} the first; download the model again.",
        "{directory} の重みは{count:tensor}が足りません（最初は {name}）。モデルをダウンロードし直してください。",
    ),
    "engine.weights-foreign": Message(
        "{file} in {directory} holds the tensor {name}, which is no part of its config.json; use matching files.",
        "{directory} の {file} には config.json にないテンソル {name} があります。対応するファイルを使ってください。",
    ),
    "engine.weights-shape": Message(
        "{name} in {file} ({directory}) is {shape}, but config.json means {expected}; use matching files.",
        "{directory} の {file} の {name} は {shape} ですが、config.json では {expected} です。"
        "対応するファイルを使ってください。",
    ),
    "engine.weights-kind": Message(
        "{name} in {file} ({directory}) is stored as {kind}; use weights in 16 or 32 bits.",
        "{directory} の {file} の {name} は {kind} で保存されています。16 または 32 ビットの重みを使ってください。",
    ),
    "engine.weights-not-numbers": Message(
        "The weights of this model are damaged (they do not give finite numbers); download the model again.",
        "このモデルの重みは壊れています（有限の数値になりません）。モデルをダウンロードし直してください。",
    ),
    "engine.model-type": Message(
        "A model of type {model_type!r} cannot be opened here; bchat speaks with gpt_neox models.",
        "種類 {model_type!r} のモデルは開けません。bchat が扱えるのは gpt_neox のモデルです。",
    ),
    "engine.foreign-type": Message(
        "This transformers knows no model of type {model_type!r} that continues text; use another model.",
        "種類 {model_type!r} のモデルは開けません。この版の transformers が対応する文章生成モデルを使ってください。",
    ),
    "engine.foreign-code": Message(
        "{file} in {directory} asks for program code of its own to be run, which bchat never does; use another model.",
        "{directory} の {file} は独自のプログラムの実行を求めていますが、bchat は実行しません。"
        "別のモデルを使ってください。",
    ),
    "engine.foreign-pickle": Message(
        "{file} in {directory} is no safetensors file; get the model's safetensors.",
        "{directory} の {file} は safetensors ではありません。safetensors 形式のものを入手してください。",
    ),
    "engine.foreign-damaged": Message(
        "The model in {directory} cannot be opened: its files are damaged or do not belong together ({kind}); "
        "download it again.",
        "{directory} のモデルを開けません。ファイルが壊れているか、対応していません（{kind}）。"
        "ダウンロードし直してください。",
    ),
    "engine.foreign-keys": Message(
        "The weights in {directory} do not match its config.json ({count:tensor}, {name} the first); "
        "use files that belong together.",
        "{directory} の重みは config.json と一致しません（{count:tensor}、最初は {name}）。"
        "対応するファイルを使ってください。",
    ),
    "engine.foreign-fails": Message(
        "This kind of model does not compute here ({kind}); use another model.",
        "この種類のモデルはここでは計算できません（{kind}）。別のモデルを使ってください。",
    ),
    "engine.option": Message(
        "config.json of this model sets {name} to {value!r}, which bchat does not support; use another model.",
        "このモデルの config.json の {name}（{value!r}）には対応していません。別のモデルを使ってください。",
    ),
    "engine.vocabulary": Message(
        "The model knows {model:token} but its tokenizer has {tokenizer}; use files that belong together.",
        "モデルの語彙は {model:token}ですが、トークナイザーには {tokenizer} 個あります。"
        "対応するファイルを使ってください。",
    ),
    "engine.memory": Message(
        "This model needs {needed} GB of memory and {available} GB are free; {choice}.",
        "このモデルには {needed} GB のメモリーが必要ですが、空きは {available} GB です。{choice}。",
    ),
    "engine.choose-dtype": Message(
        "in {dtype} it needs {needed} GB and fits",
        "{dtype} なら {needed} GB で収まります",
    ),
    "engine.choose-quantize": Message(
        "`bchat --quantize {precision}` in the shell needs {needed} GB and fits",
        "シェルの `bchat --quantize {precision}` なら {needed} GB で収まります",
    ),
    "engine.quantize": Message(
        "This model cannot be computed in {precision} on {device}; in the shell, use `bchat --quantize none`.",
        "このモデルは {device} では {precision} で計算できません。シェルで `bchat --quantize none` を使ってください。",
    ),
    "engine.quantize-family": Message(
        "{name} is not a GPT-NeoX model, so bchat cannot quantize it to {precision}; in the shell, use"
        " `bchat --quantize none`.",
        "{name} は GPT-NeoX のモデルではないため、{precision} に量子化できません。"
        "シェルで `bchat --quantize none` を使ってください。",
    ),
    "engine.rounded": Message(
        "The weights are stored in {dtype}, which is slow on a CPU; they are rounded to {narrow}."
        " In the shell, `bchat --quantize none` computes them in float32 instead, which takes twice the memory.",
        "重みは {dtype} で保存されていますが、CPU では遅いため {narrow} に丸めて計算します。"
        "丸めずに float32 で計算するには、シェルで `bchat --quantize none` を使ってください（メモリーは 2 倍）。",
    ),
    "engine.narrowed": Message(
        "The weights are opened in {precision}: in {dtype} they would take {needed} GB of the {available} GB that are"
        " free. In the shell, `bchat --quantize none` insists.",
        "重みを {precision} で開きました。{dtype} では空きメモリー {available} GB のうち {needed} GB を使うためです。"
        "元のまま開くには、シェルで `bchat --quantize none` を使ってください。",
    ),
    "engine.no-kernels": Message(
        "bchat's own CPU kernels are not available, so torch computes this model, more slowly: {reason}.",
        "bchat 専用の CPU カーネルを使えないため、torch で計算します（遅くなります）：{reason}。",
    ),
    "engine.no-kernels-quantized": Message(
        "bchat's own CPU kernels are not available, so {precision} is slow here: {reason}."
        " In the shell, `bchat --quantize none` is quicker.",
        "bchat 専用の CPU カーネルを使えないため、{precision} の計算は遅くなります：{reason}。"
        "シェルで `bchat --quantize none` を使うほうが速く計算できます。",
    ),
    "native.no-compiler": Message(
        "no C compiler was found; install cc, gcc or clang",
        "C コンパイラが見つかりません。cc、gcc、clang のいずれかをインストールしてください",
    ),
    "native.windows": Message(
        "they need POSIX threads, which Windows does not have",
        "カーネルに必要な POSIX スレッドが Windows にはありません",
    ),
    "native.compile": Message(
        "{compiler} failed with status {code} ({line}); {where}",
        "{compiler} が終了コード {code} で失敗しました（{line}）。{where}",
    ),
    "native.timeout": Message(
        "{compiler} did not finish within {seconds} s; {where}",
        "{compiler} が {seconds} 秒以内に終わりませんでした。{where}",
    ),
    "native.cannot-run": Message(
        "{compiler} cannot be run ({reason}); install another C compiler, or name it in CC",
        "{compiler} を実行できません（{reason}）。"
        "別の C コンパイラをインストールするか、環境変数 CC で指定してください",
    ),
    "native.cache": Message(
        "{path} cannot be written or read ({reason}); make it writable, or set XDG_CACHE_HOME to another directory",
        "{path} を読み書きできません（{reason}）。"
        "書き込めるようにするか、XDG_CACHE_HOME を別のディレクトリにしてください",
    ),
    "native.load": Message(
        "the compiled library {path} cannot be loaded ({reason}); a cache directory mounted noexec is the usual cause,"
        " and XDG_CACHE_HOME names another one",
        "コンパイルしたライブラリ {path} を読み込めません（{reason}）。"
        "キャッシュのディレクトリが noexec でマウントされている場合は、XDG_CACHE_HOME を別のディレクトリにしてください",
    ),
    "native.log": Message("its output is in {path}", "出力は {path} にあります"),
    "native.no-log": Message(
        "its output could not be kept in {path} ({reason})", "出力を {path} に保存できませんでした（{reason}）"
    ),
    "engine.choose-cpu": Message(
        "on the CPU (`bchat --device cpu` in the shell) there is room for the {needed} GB that it needs there",
        "CPU（シェルで `bchat --device cpu`）なら必要な {needed} GB が空いています",
    ),
    "engine.choose-model": Message(
        "the model {name} needs {needed} GB and fits",
        "モデル {name} なら {needed} GB で収まります",
    ),
    "engine.choose-smaller": Message(
        "close other programs or choose a smaller model",
        "ほかのプログラムを閉じるか、より小さいモデルを選んでください",
    ),
    "engine.withdrawn": Message(
        "{file} in {directory} was withdrawn by its publisher, because part of its training data has a non-commercial "
        "licence; get the good weights{good} with `bchat pull {name}`, or add --accept-withdrawn.",
        "{directory} の {file} は、学習データの一部が非商用ライセンスのため公開元が取り下げた重みです。"
        "`bchat pull {name}` で正しい重み{good}を入手するか、--accept-withdrawn を付けてください。",
    ),
    "engine.withdrawn@chat": Message(
        "{file} in {directory} was withdrawn by its publisher, because part of its training data has a non-commercial "
        "licence; get the good weights{good} in the shell with `bchat rm {name}` and `bchat pull {name}`, or start "
        "bchat with --accept-withdrawn.",
        "{directory} の {file} は、学習データの一部が非商用ライセンスのため公開元が取り下げた重みです。シェルで"
        " `bchat rm {name}` と `bchat pull {name}` を実行して正しい重み{good}を入手するか、"
        "--accept-withdrawn を付けて bchat を起動してください。",
    ),
    "engine.good-weights": Message(" ({good}, MD5 {md5})", "（{good}、MD5 {md5}）"),
    "engine.no-room-to-convert": Message(
        "The weights were opened without converting them, which is slower every time: that takes {needed} of disk, "
        "and {free} are free.",
        "重みを変換せずに開いたため、毎回時間がかかります（変換に必要な空きは {needed}、今の空きは {free}）。",
    ),
    "engine.not-converted": Message(
        "The weights were opened without converting them, which is slower every time: bchat's cache cannot be "
        "written ({reason}).",
        "重みを変換せずに開いたため、毎回時間がかかります（bchat のキャッシュに書き込めません: {reason}）。",
    ),
    "engine.device": Message(
        "There is no {device} device that torch can use here; choose cpu.",
        "torch が使える {device} デバイスがありません。cpu を選んでください。",
    ),
    "engine.out-of-memory": Message(
        "The memory ran out; close other programs, shorten the conversation or choose a smaller model.",
        "メモリーが足りなくなりました。ほかのプログラムを閉じるか、会話を短くするか、より小さいモデルを選んでください。",
    ),
    "engine.prompt-too-long": Message(
        "The prompt has {prompt:token}, and the model has {context:position} for prompt and reply; shorten it.",
        "プロンプトは {prompt:token}ですが、返答を含めて入るのは{context:position} までです。短くしてください。",
    ),
    "engine.not-numbers": Message(
        "The model gave something that is no number; its weights are damaged: download the model again.",
        "モデルの出力が数値になりませんでした。重みが壊れています。モデルをダウンロードし直してください。",
    ),
    # -- session
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
    "model.not-here": Message(
        "The model {name} is not on this machine; get it with: bchat pull {name}",
        "モデル {name} はこのマシンにありません。bchat pull {name} で入手できます。",
    ),
    "model.not-here@chat": Message(
        "The model {name} is not on this machine; get it while you chat with: /pull {name}",
        "モデル {name} はこのマシンにありません。/pull {name} を実行すると、会話しながら入手できます。",
    ),
    # -- transcript
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
    "reason.full": Message("the disk is full", "ディスクに空きがありません"),
    "reason.read-only": Message("that place is read-only", "読み取り専用の場所です"),
    "reason.denied": Message("permission denied", "権限がありません"),
    "reason.missing": Message("no such file or folder", "ファイルまたはフォルダーがありません"),
    "reason.too-many-open": Message("too many files are open", "開いているファイルが多すぎます"),
    "reason.other": Message("{text}", "{text}"),
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
    # -- display
    # -- commands
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
    "heading.setting": Message("SETTING", "設定"),
    "heading.value": Message("VALUE", "値"),
    "heading.range": Message("RANGE", "範囲"),
    "heading.layer": Message("FROM", "由来"),
    "layer.default": Message("default", "既定値"),
    "layer.environment": Message("environment", "環境変数"),
    "layer.option": Message("command line", "コマンドライン"),
    "layer.session": Message("/set", "/set"),
    "preset.chosen": Message("Preset {name}.", "プリセットを {name} にしました。"),
    "preset.replaced": Message(
        "Preset {name}; it replaces {values}.", "プリセットを {name} にしました（置き換えた値：{values}）。"
    ),
    "lang.unknown": Message(
        "bchat speaks en and ja, not {name!r}.", "使える言語は en と ja です（{name!r} は使えません）。"
    ),
    "lang.chosen": Message("bchat's messages are in English.", "bchat のメッセージは日本語です。"),
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
    "progress": Message(
        "{file} {file_percent} % · all: {percent} % of {size}",
        "{file} {file_percent} % · 全体：{size} の {percent} %",
    ),
    "progress.rate": Message("{where}, {rate} MB/s, {left} left", "{where}、{rate} MB/秒、残り {left}"),
    "finish.stop": Message("whole", "完了"),
    "finish.length": Message("cut at max_new_tokens", "max_new_tokens で打ち切り"),
    "finish.interrupted": Message("stopped by you", "中止"),
    "finish.repetition": Message("stopped: repetition", "繰り返しのため停止"),
    "finish.failed": Message("failed", "失敗"),
    "prompt.counts": Message(
        "{tokens:token} of {context}, {characters:character}, {dropped:turn} left out.",
        "{tokens:token}（上限 {context}）、{characters:character}（除いたのは {dropped:turn}）。",
    ),
    "prompt.ids": Message("the token ids", "トークン ID"),
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
    "model.here": Message("here", "あり"),
    "model.coming": Message("fetching, {percent} %", "取得中、{percent} %"),
    "model.unreadable-state": Message("UNREADABLE", "読み込み不可"),
    "models.unreadable": Message(
        "{path} cannot be read ({reason}): a model that lies there cannot be opened.",
        "{path} を読み込めません（{reason}）。そこにあるモデルは開けません。",
    ),
    "model.absent": Message("not here", "なし"),
    "model.chosen": Message("Model {name}, preset {preset}.", "モデルを {name}、プリセットを {preset} にしました。"),
    # -- fetching
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
    "pull.begun": Message(
        "Fetching {name}; go on chatting. The bottom line shows how far it is, /pull stop stops it.",
        "{name} の取得を始めました。そのまま会話できます。進み具合は最下行に表示され、/pull stop で中止します。",
    ),
    "pull.comparing": Message(
        "The model {name} is here; what is there is compared with {repo}, and what is missing is fetched. "
        "Go on chatting; /pull stop stops it.",
        "モデル {name} はあります。{repo} のものと照合し、足りないものを取得します。"
        "そのまま会話できます。/pull stop で中止します。",
    ),
    "pull.beginning": Message("fetching {name} …", "{name} を取得中 …"),
    "pull.progress": Message("fetching {name}: {percent} %", "{name} を取得中：{percent} %"),
    "pull.done": Message(
        "The model {name} is here and verified; switch to it with: /model {name}",
        "モデル {name} を取得し、検証しました。/model {name} で切り替えられます。",
    ),
    "pull.stopped": Message(
        "Stopped fetching {name} at {percent} %; what has come is kept: /pull {name} goes on.",
        "{name} の取得を {percent} % で中止しました。届いた分は残っています。/pull {name} で続きから再開します。",
    ),
    "pull.stopped@shell": Message(
        "Stopped fetching {name} at {percent} %; what has come is kept: bchat pull {name} goes on.",
        "{name} の取得を {percent} % で中止しました。届いた分は残っています。bchat pull {name} で続きから再開します。",
    ),
    "pull.here": Message(
        "The model {name} is on this machine already; switch to it with: /model {name}",
        "モデル {name} はすでにこのマシンにあります。/model {name} で切り替えられます。",
    ),
    "pull.not-yet": Message(
        "The model {name} is still being fetched ({percent} %); bchat tells you when it is here.",
        "モデル {name} はまだ取得中です（{percent} %）。取得できたらお知らせします。",
    ),
    "pull.none": Message(
        "Nothing is being fetched; begin with: /pull NAME", "取得中のモデルはありません。/pull 名前 で取得できます。"
    ),
    "pull.busy": Message(
        "The model {name} is being fetched; wait for it, or stop that with: /pull stop",
        "モデル {name} を取得中です。終わるのを待つか、/pull stop で中止してください。",
    ),
    "pull.memory": Message(
        "(opening {name} will need {needed} GB of memory; {free} GB are free now)",
        "（{name} を開くには {needed} GB のメモリーが必要です。今の空きは {free} GB です）",
    ),
    "pull.stop": Message("stop what is being fetched", "取得を中止する"),
    # -- repl
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
    # -- cli
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
    "pull.size": Message(
        "Fetching {name}: {missing} of {size}, into {directory} ({free} free).",
        "{name} を {directory} に取得します（{size} のうち {missing}、空き {free}）。",
    ),
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
    "model.embedded": Message("ships with bchat", "同梱"),
    "model.good": Message("here, verified", "あり（検証済み）"),
    "model.unknown-state": Message("here, not verified", "あり（未検証）"),
    "model.changed": Message("here, CHANGED", "あり（変更あり）"),
    "model.damaged": Message("DAMAGED", "破損"),
    "model.withdrawn": Message("here, WITHDRAWN", "あり（公開停止）"),
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
    "place.config": Message("your settings", "設定ファイル"),
    "place.project": Message("settings of this directory", "このディレクトリの設定"),
    "place.conversations": Message("conversations", "会話"),
    "place.state": Message("line history, logs", "入力履歴・ログ"),
    "place.cache": Message("cache", "キャッシュ"),
    "place.models": Message("downloaded models", "ダウンロードしたモデル"),
    "place.demo": Message("embedded model", "同梱モデル"),
    "place.presets": Message("presets", "プリセット"),
    "place.catalogue": Message("models known by name", "モデルカタログ"),
    # -- bench
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
    # -- bootstrap
    "bootstrap.python": Message(
        "bchat needs Python {needed} or newer, and this one is {found}; run the command with a newer Python.",
        "bchat には Python {needed} 以上が必要です（これは {found} です）。新しい Python で実行してください。",
    ),
    "bootstrap.libraries-missing": Message(
        "Libraries of bchat are missing from this Python ({names}); install the package again with pip.",
        "bchat に必要なライブラリー（{names}）がありません。pip でパッケージを入れ直してください。",
    ),
    "bootstrap.environment": Message(
        "setting up, this once: making {path} with Python {version} …",
        "初回の準備をします。Python {version} で {path} を作成中…",
    ),
    "bootstrap.torch-cpu": Message(
        "installing torch {version}, the CPU build …",
        "torch {version}（CPU 版）をインストール中…",
    ),
    "bootstrap.torch-pytorch": Message(
        "your package index has no CPU build of torch; trying PyTorch's index …",
        "パッケージインデックスに torch の CPU 版がないため、PyTorch のインデックスを試します…",
    ),
    "bootstrap.torch-cuda": Message(
        "installing torch {version}, the CUDA build; it downloads about 3 GB (BCHAT_TORCH=cpu: 0.2 GB) …",
        "torch {version}（CUDA 版）をインストール中です。約 3 GB をダウンロードします（BCHAT_TORCH=cpu なら 0.2 GB）…",
    ),
    "bootstrap.torch-without-cuda": Message(
        "your package index has no CUDA build of torch; installing the build that it has …",
        "パッケージインデックスに torch の CUDA 版がないため、インデックスにあるものを入れます…",
    ),
    "bootstrap.torch-question": Message(
        "Neither your package index nor PyTorch's offers a CPU build of torch here. The CUDA build also runs without"
        " a GPU, but downloads about 3 GB and takes 5 GB on disk. Install the CUDA build? [y/N]",
        "torch の CPU 版が、お使いのパッケージインデックスからも PyTorch のインデックスからも取得できません。"
        "CUDA 版は GPU がなくても動きますが、約 3 GB をダウンロードし、ディスクを 5 GB 使います。"
        "CUDA 版をインストールしますか？ [y/N]",
    ),
    "bootstrap.torch-none": Message(
        "Set-up stopped: no package index offered a CPU build of torch {version}, and bchat does not download the CUDA"
        " build (3 GB, 5 GB on disk) unasked. Set PIP_EXTRA_INDEX_URL to an index with that CPU build, or"
        " BCHAT_TORCH=cuda to accept the CUDA build, and run this again.",
        "準備を中止しました。torch {version} の CPU 版を取得できるパッケージインデックスがありません。"
        "CUDA 版（3 GB、ディスク 5 GB）は、指示がない限りダウンロードしません。CPU 版のあるインデックスを"
        " PIP_EXTRA_INDEX_URL に指定するか、CUDA 版でよければ BCHAT_TORCH=cuda を指定して、もう一度実行してください。",
    ),
    "bootstrap.torch-no-cuda": Message(
        "Set-up stopped: your package index has no CUDA build of torch {version}. Set PIP_EXTRA_INDEX_URL to an index"
        " that has it, or unset BCHAT_TORCH, and run this again.",
        "準備を中止しました。パッケージインデックスに torch {version} の CUDA 版がありません。"
        "CUDA 版のあるインデックスを PIP_EXTRA_INDEX_URL に指定するか、BCHAT_TORCH の指定をやめて、"
        "もう一度実行してください。",
    ),
    "bootstrap.torch-choice": Message(
        "BCHAT_TORCH is '{value}'; set it to cpu, cuda or any, or unset it.",
        "BCHAT_TORCH が「{value}」になっています。cpu、cuda、any のどれかにするか、指定をやめてください。",
    ),
    "bootstrap.libraries": Message("installing bchat and its libraries …", "bchat とライブラリーをインストール中…"),
    "bootstrap.downloading": Message("  downloading {name}, {size}", "  ダウンロード中: {name}（{size}）"),
    "bootstrap.done": Message("set up in {seconds} s.", "準備ができました（{seconds} 秒）。"),
    "bootstrap.waiting": Message(
        "another bchat is setting this checkout up; waiting for it …",
        "別の bchat が準備中です。終わるのを待っています…",
    ),
    "bootstrap.interrupted": Message(
        "set-up interrupted; the same command does it next time.",
        "準備を中断しました。同じコマンドでやり直せます。",
    ),
    "bootstrap.foreign": Message(
        "{path} is not an environment that bchat can use, and bchat did not make it; move it away and run this again.",
        "{path} は bchat が作った環境ではなく、使えません。別の場所に移してからもう一度実行してください。",
    ),
    "bootstrap.no-venv": Message(
        "This Python {version} cannot make environments (venv or ensurepip is missing); on Debian and Ubuntu"
        " `sudo apt install python{version}-venv` mends that, then run this again.",
        "この Python {version} では仮想環境を作れません（venv か ensurepip がありません）。Debian や Ubuntu では"
        " `sudo apt install python{version}-venv` の後、もう一度実行してください。",
    ),
    "bootstrap.venv-failed": Message(
        "The environment {path} could not be made, for the reason above; mend that and run this again.",
        "上の理由で {path} を作れませんでした。原因を直してからもう一度実行してください。",
    ),
    "bootstrap.offline": Message(
        "Set-up failed, since pip could not reach its package index; check the network and run this again"
        " (pip's whole answer: {log}).",
        "pip がパッケージの配布元に接続できず、準備に失敗しました。ネットワークを確認して、もう一度実行してください"
        "（pip の全出力: {log}）。",
    ),
    "bootstrap.pip-failed": Message(
        "Set-up failed, since pip could not install the libraries, for the reason above; mend that and run this again"
        " (pip's whole answer: {log}).",
        "上の理由で pip がライブラリーをインストールできず、準備に失敗しました。原因を直して、もう一度実行してください"
        "（pip の全出力: {log}）。",
    ),
    "bootstrap.os": Message(
        "Set-up failed: {reason}; mend that and run this again.",
        "準備に失敗しました（{reason}）。原因を直して、もう一度実行してください。",
    ),
}
