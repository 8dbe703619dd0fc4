"""Sentences of engines and weights."""

from __future__ import annotations

from bilingual_chat.messages.message import Message

SENTENCES: dict[str, Message] = {
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
    "reason.full": Message("the disk is full", "ディスクに空きがありません"),
    "reason.read-only": Message("that place is read-only", "読み取り専用の場所です"),
    "reason.denied": Message("permission denied", "権限がありません"),
    "reason.missing": Message("no such file or folder", "ファイルまたはフォルダーがありません"),
    "reason.too-many-open": Message("too many files are open", "開いているファイルが多すぎます"),
    "reason.other": Message("{text}", "{text}"),
}
