"""Sentences of downloads."""

from __future__ import annotations

from bilingual_chat.messages.message import Message

SENTENCES: dict[str, Message] = {
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
    "progress": Message(
        "{file} {file_percent} % · all: {percent} % of {size}",
        "{file} {file_percent} % · 全体：{size} の {percent} %",
    ),
    "progress.rate": Message("{where}, {rate} MB/s, {left} left", "{where}、{rate} MB/秒、残り {left}"),
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
    "pull.size": Message(
        "Fetching {name}: {missing} of {size}, into {directory} ({free} free).",
        "{name} を {directory} に取得します（{size} のうち {missing}、空き {free}）。",
    ),
}
