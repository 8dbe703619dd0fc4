"""Sentences of the set-up."""

from __future__ import annotations

from bilingual_chat.messages.message import Message

SENTENCES: dict[str, Message] = {
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
