"""The Python API, as `bilingual_chat` exports it: open a model, chat with it, generate and score token ids."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TypedDict, Unpack

from bilingual_chat.engines.protocol import DeviceName, OpenOptions, Progress, QuantizeName
from bilingual_chat.messages import Phrase, render
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.session import model as session_model
from bilingual_chat.session.model import Completion, open_model
from bilingual_chat.session.persona import persona as opening_of
from bilingual_chat.session.session import Event, Session
from bilingual_chat.settings import catalogue
from bilingual_chat.settings.config import Config, Settings, SettingsChange, load_config, settings_for
from bilingual_chat.text.conversation import FinishReason, Turn
from bilingual_chat.text.prompt import Prompt
from bilingual_chat.transcript import document

# fmt: off
__all__ = [
    "BchatError", "Chat", "Completion", "DecodingSettings", "FinishReason", "Model", "Prompt", "Turn", "open",
]
# fmt: on


class DecodingSettings(TypedDict, total=False):
    """The decoding settings that `reply`, `retry`, `generate` and `chat` take as keyword arguments.

    Names and meaning are those of transformers' `GenerationConfig`; `bchat` shows the ranges with /settings.

    Example: `settings: bchat.DecodingSettings = {"temperature": 0.7, "seed": 1}; chat.reply("Hi", **settings)`
    """

    temperature: float  # 0 to 10; 0 takes the likeliest token
    top_k: int  # tokens; 0 keeps all
    top_p: float  # probability, 0.0001 to 1
    repetition_penalty: float  # 0.1 to 10; above 1, tokens already used become less likely
    min_new_tokens: int  # tokens
    max_new_tokens: int  # tokens
    seed: int | None  # None: a fresh one for each reply
    min_p: float  # probability as a share of the likeliest token's; 0: off
    typical_p: float  # probability; 1: off
    epsilon_cutoff: float  # probability; 0: off
    eta_cutoff: float  # probability; 0: off
    top_h: float  # share of the entropy; 0: off
    top_n_sigma: float  # standard deviations; 0: off
    presence_penalty: float  # logits; 0: off
    frequency_penalty: float  # logits a use; 0: off
    dry_multiplier: float  # logits; 0: off
    dry_base: float
    dry_allowed_length: int  # tokens
    no_repeat_ngram_size: int  # tokens; 0: off
    penalty_scope: str  # "all" (prompt and reply) or "reply"
    logit_bias: Sequence[str]  # "TEXT=NUMBER" or "id:N=NUMBER"
    bad_words: Sequence[str]  # texts or "id:N"
    stop: Sequence[str]  # texts


def open(
    name: str | os.PathLike[str] = "demo",
    *,
    device: DeviceName = "auto",
    quantize: QuantizeName = "auto",
    config: str | os.PathLike[str] | None = None,
    like: str | None = None,
    accept_withdrawn: bool = False,
    progress: Progress | None = None,
) -> Model:
    """Open a model that is on this machine, and return it.

    name: a model that `bchat models` lists, or the path of a model directory.
    quantize: the precision of the weights; "auto" takes the most exact one that fits.
    config: a TOML file to read in place of the user's and the project's.
    like: a catalogue model with the same prompt format, for a directory of your own.
    progress: called with (bytes done, bytes in all) while large weights are verified or converted.

    Raises BchatError: status MODEL if the model is missing, damaged, withdrawn or too large; DATA or USAGE for the
    configuration.

    Example: `model = bchat.open("demo", device="cpu")`
    """
    known = load_config(Path(config) if config is not None else None)
    entry = catalogue.find(known.catalogue, os.fspath(name))
    if like is not None:
        entry = catalogue.spoken_to_like(entry, catalogue.find(known.catalogue, like))
    how = OpenOptions(device, accept_withdrawn, tuple(known.catalogue.values()), quantize)
    return Model(known, open_model(entry, how, progress))


class Model:
    """An open model. It computes one reply at a time; several chats may take turns. Not safe for several threads.

    Example: `"".join(bchat.open("demo").chat().reply("Hello!"))`
    """

    def __init__(self, config: Config, model: session_model.Model) -> None:
        """Use `bchat.open`."""
        self._config = config
        self._model = model

    def __repr__(self) -> str:
        return f"<bilingual_chat.Model {self.name} ({self.precision}, {self.device})>"

    @property
    def name(self) -> str:
        """The name in the catalogue, or the path."""
        return self._model.entry.name

    @property
    def context_length(self) -> int:
        """The most tokens of a prompt and its reply together."""
        return self._model.context_length

    @property
    def precision(self) -> str:
        """The precision of the weights: "float32", "bfloat16", "int8", …"""
        return self._model.precision

    @property
    def device(self) -> str:
        """The device: "cpu", "cuda:0", …"""
        return self._model.engine.device_name

    @property
    def notices(self) -> tuple[str, ...]:
        """Sentences about how the model was opened, in English; for example, why it runs slowly."""
        return tuple(_sentence(notice) for notice in (*self._config.notices, *self._model.notices))

    def encode(self, text: str) -> list[int]:
        """Return the token ids of `text`, without special tokens.

        Example: `ids = model.encode("ユーザー: こんにちは\\nシステム: ")`
        """
        return self._model.tokenizer.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids; bytes that form no character become U+FFFD. Raises IndexError.

        Example: `model.decode(model.encode("猫")) == "猫"`
        """
        return self._model.tokenizer.decode(ids)

    def chat(
        self, persona: str | None = None, *, preset: str | None = None, **settings: Unpack[DecodingSettings]
    ) -> Chat:
        """Begin a conversation, with settings for all its replies.

        persona: the role that the opening exchange gives the model; None takes the configuration's, "" none.
        preset: a name that `bchat presets` lists; `settings` override it.

        Raises BchatError (USAGE): unknown preset, setting out of range, persona for a base model.

        Example: `chat = model.chat(persona="あなたは猫です。", preset="creative", seed=1)`
        """
        if persona is not None and self._model.format.kind == "plain":
            raise BchatError("persona.base", status=ExitStatus.USAGE, name=self.name)
        return Chat(self._model, self._settings(preset, settings), self._config.persona if persona is None else persona)

    def load(self, path: str | os.PathLike[str], **settings: Unpack[DecodingSettings]) -> Chat:
        """Continue a saved conversation: a file of `Chat.save` or `/save`, or a journal.

        Raises BchatError (DATA) for any other file.

        Example: `chat = model.load("x.json"); chat.turns[-1].reply`
        """
        chat = Chat(self._model, self._settings(None, settings), "")
        chat._continue(Path(path))
        return chat

    def generate(self, ids: Sequence[int], **settings: Unpack[DecodingSettings]) -> Iterator[int]:
        """Continue token ids; yield each new id as it is computed.

        ids: at least one id; ids and continuation together have at most `context_length`.
        Ends before the end-of-sequence token, after `max_new_tokens`, or where the context is full. Settings that
        are not given are those of a new chat.

        Raises BchatError for settings out of range and for a prompt that fills the context; ValueError for ids
        outside the vocabulary. Both are raised at the first step.

        Example: `model.decode(list(model.generate(model.encode("ユーザー: やあ\\nシステム: "), temperature=0)))`
        """
        parameters = self._settings(None, settings).parameters
        with closing(self._model.engine.complete(ids, parameters)) as chunks:
            for chunk in chunks:
                if chunk.finish is not FinishReason.STOP:
                    yield chunk.token_id

    def score(self, ids: Sequence[int]) -> list[float]:
        """Return the natural-log probability of each id after the ids before it: `len(ids) - 1` values, in nats.

        The probabilities are the model's own, over its whole vocabulary: without temperature, top_k, top_p and
        penalty. `math.exp(-sum(values) / len(values))` is the perplexity.

        Raises BchatError for more ids than `context_length`; ValueError for no ids, or ids outside the vocabulary.

        Example: `model.score(model.encode("日本の首都は東京です。"))`
        """
        found: list[float] = []
        for logits in self._model.engine.score(ids):
            following = ids[len(found) + 1 : len(found) + 1 + len(logits)]
            logprobs = logits.double().log_softmax(-1)
            found += logprobs[list(range(len(following))), list(following)].tolist()
        return found

    def _settings(self, preset: str | None, settings: DecodingSettings) -> Settings:
        return settings_for(self._config, self._model.entry, preset, dict(settings))


class Chat:
    """A conversation with a model. `Model.chat` and `Model.load` make one. It is in memory until you `save` it.

    Example: `chat = bchat.open("demo").chat(); print(*chat.reply("Hello!"), sep="")`
    """

    def __init__(self, model: session_model.Model, settings: Settings, persona: str) -> None:
        """Use `Model.chat`."""
        opening = () if model.format.kind == "plain" else opening_of(persona)
        self._remarks: list[str] = []
        self._session = Session(lambda: model, settings, entry=model.entry, directory=None, opening=opening)

    @property
    def turns(self) -> tuple[Turn, ...]:
        """The turns so far: each has `user`, `reply`, `finish` and `details` (settings, seed, token counts)."""
        return self._session.conversation.turns

    @property
    def last(self) -> Completion | None:
        """The last reply with its prompt, token ids, settings, seed and timings in seconds; None before the first."""
        return self._session.last

    @property
    def remarks(self) -> tuple[str, ...]:
        """Sentences about the last reply, in English; for example, that it was cut at `max_new_tokens`."""
        return tuple(self._remarks)

    def reply(self, text: str, *, preset: str | None = None, **settings: Unpack[DecodingSettings]) -> Iterator[str]:
        """Answer `text`; yield the reply in pieces of complete characters.

        preset, settings: for this reply only. The turn is in `turns` when the iteration ends, also after `break`
        (as INTERRUPTED) or an error (as FAILED).

        Raises BchatError: USAGE for settings out of range, at once; others at the first piece.

        Example: `for piece in chat.reply("こんにちは", temperature=0.7): print(piece, end="")`
        """
        return self._pieces(self._session.reply(text, self._change(preset, settings)))

    def retry(self, *, preset: str | None = None, **settings: Unpack[DecodingSettings]) -> Iterator[str]:
        """Answer the last message again; `turns[-1].replies` has every reply that it had. Arguments as in `reply`.

        Example: `"".join(chat.retry(temperature=1.2))`
        """
        return self._pieces(self._session.retry(self._change(preset, settings)))

    def prompt(self, text: str) -> Prompt:
        """Return the prompt that `reply(text)` would send: `text`, `ids` and the number of `dropped_turns`.

        Raises BchatError if the message is too long for the model.

        Example: `chat.prompt("Hello!").ids`
        """
        return self._session.prompt_for(text)

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write the conversation as one JSON file, whole or not at all, and return its path.

        An earlier file of bchat's is replaced; `overwrite` replaces any file. Raises BchatError (DATA, FAILED).

        Example: `chat.save("x.json")`
        """
        return document.write_document(Path(path), self._session.snapshot(), overwrite=overwrite)

    def _change(self, preset: str | None, settings: DecodingSettings) -> SettingsChange:
        change = SettingsChange(preset or "", dict(settings))
        self._session.settings.with_change(change)  # raises at once
        return change

    def _pieces(self, events: Generator[Event, None, None]) -> Iterator[str]:
        self._remarks = []
        with closing(events):
            for event in events:
                if isinstance(event, str):
                    yield event
                else:
                    self._remarks.append(_sentence(event))

    def _continue(self, path: Path) -> None:
        loaded = document.read_document(path)
        self._session.continue_from(loaded)
        self._remarks = [str(problem) for problem in loaded.problems]


def _sentence(said: Phrase) -> str:
    return render(said.key, "en", **said.values)
