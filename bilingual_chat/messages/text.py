"""Sentences of prompts and tokenizers."""

from __future__ import annotations

from bilingual_chat.messages.message import Message

SENTENCES: dict[str, Message] = {
    "prompt.too-long": Message(
        "The message is too long: {tokens:token}, with room for {budget}. Shorten it, or lower max_new_tokens.",
        "メッセージが長すぎます（{tokens:token}、上限 {budget}）。短くするか、max_new_tokens を下げてください。",
    ),
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
    "prompt.counts": Message(
        "{tokens:token} of {context}, {characters:character}, {dropped:turn} left out.",
        "{tokens:token}（上限 {context}）、{characters:character}（除いたのは {dropped:turn}）。",
    ),
    "prompt.ids": Message("the token ids", "トークン ID"),
}
