"""A model that is ready to answer, and the result of one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from bilingual_chat import __version__
from bilingual_chat.engines import protocol
from bilingual_chat.engines.protocol import Chunk
from bilingual_chat.engines.weights.files import digest_model, digest_tokenizer, find_weights
from bilingual_chat.engines.weights.withdrawn import check_withdrawn
from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.settings.catalogue import (
    CONFIG_FILE,
    OTHER_TOKENIZER_FILE,
    TOKENIZER_FILE,
    ModelEntry,
    is_other_family,
    require_here,
)
from bilingual_chat.settings.decoding import DecodingParameters
from bilingual_chat.text.conversation import FinishReason, Utterance
from bilingual_chat.text.detokenizer import Detokenizer
from bilingual_chat.text.prompt import NOTHING, Beginning, Prompt, PromptFormat
from bilingual_chat.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from bilingual_chat.engines.engine import CachedEngine


class ChatTokenizer(Protocol):
    """The tokenizer of a chat: `text.tokenizer.Tokenizer`, or that of a model of another family."""

    @property
    def vocab_size(self) -> int: ...

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...

    reserved_ids: frozenset[int]  # not text: the end of a reply, and other special tokens

    def piece(self, token_id: int) -> str | bytes: ...

    def encode_prompt(
        self, utterances: Sequence[Utterance], format: PromptFormat, *, asks: bool = True, begin: str = ""
    ) -> Prompt: ...

    def detokenizer(self, format: PromptFormat) -> Detokenizer: ...


@dataclass(frozen=True)
class Model:
    """An open model: engine, tokenizer and prompt format."""

    entry: ModelEntry
    tokenizer: ChatTokenizer
    engine: protocol.Engine
    notices: tuple[Phrase, ...] = ()  # about how it was opened
    is_withdrawn: bool = False  # opened because the user accepted it
    server: Mapping[str, Any] = field(default_factory=dict)  # details of the server, for transcripts
    run: Mapping[str, Any] = field(default_factory=dict)  # details of files, code and hardware, for transcripts

    @property
    def precision(self) -> str:
        """See `Engine.precision`."""
        return self.engine.precision

    @property
    def record(self) -> dict[str, Any]:
        """The details of the model that a transcript records."""
        withdrawn = {"withdrawn": True} if self.is_withdrawn else {}
        extra = {"server": self.server, "run": self.run}
        where = {"precision": self.precision, "device": self.engine.device_name}
        kept = {name: dict(value) for name, value in extra.items() if value}
        return {"model": self.entry.name, **withdrawn, **where, **kept}

    @property
    def context_length(self) -> int:
        return min(self.engine.context_length, self.entry.context_length or self.engine.context_length)

    @property
    def format(self) -> PromptFormat:
        return self.entry.prompt

    def count(self, utterances: Sequence[Utterance]) -> int:
        """Return the number of tokens of `utterances` in a prompt, without the label of the next reply."""
        if not utterances:
            return 0
        return len(self.tokenizer.encode_prompt(utterances, self.format, asks=False).ids)

    def encode_prompt(self, utterances: Sequence[Utterance], beginning: Beginning = NOTHING) -> Prompt:
        """Return the prompt that asks for the reply to `utterances`, or for the rest of a reply with this beginning."""
        prompt = self.tokenizer.encode_prompt(utterances, self.format, begin=beginning.text)
        return replace(prompt, ids=prompt.ids + beginning.ids, beginning=beginning)

    def detokenizer(self, beginning: Beginning) -> Detokenizer:
        """Return the detokenizer of a reply that has this beginning already."""
        detokenizer = self.tokenizer.detokenizer(self.format)
        detokenizer.start_with(beginning.text)
        for token_id in beginning.ids:
            detokenizer.push(token_id)
        return detokenizer


def open_model(
    entry: ModelEntry, options: protocol.OpenOptions | None = None, progress: protocol.Progress | None = None
) -> Model:
    """Open the model of `entry`. Raises BchatError (MODEL): missing, damaged, withdrawn or too large.

    `progress` is called with (bytes done, bytes in all) while large weights are verified or converted, once per file.
    """
    options = options or protocol.OpenOptions()
    directory = require_here(entry)
    if entry.server:
        from bilingual_chat.session.served import open_served

        return open_served(entry, directory, options)
    is_other = is_other_family(directory)
    if is_other and options.quantize not in ("auto", "none"):
        raise BchatError("engine.quantize-family", status=ExitStatus.MODEL, name=entry.name, precision=options.quantize)
    _check_whole(entry, directory, progress)
    if is_other:
        from bilingual_chat.engines.other_families import transformers_engine  # takes seconds, for such a model only

        accept, weights = options.accept_withdrawn, find_weights(directory)
        is_withdrawn = check_withdrawn(weights, entry, options.others, accept=accept, progress=progress)
        template, other = transformers_engine.open_transformers_engine(directory, entry, options)
        return Model(entry, template, other, other.notices, is_withdrawn, run=_run(directory, other))
    from bilingual_chat.engines.local import LocalEngine  # imports torch, which takes a second

    tokenizer = Tokenizer(directory / TOKENIZER_FILE, newline=entry.prompt.newline)
    engine = LocalEngine(directory, entry, tokenizer, options, progress)
    return Model(entry, tokenizer, engine, engine.notices, engine.withdrawn, run=_run(directory, engine))


def _run(directory: Path, engine: CachedEngine) -> dict[str, Any]:
    """Return everything else that a reply depends on: digests, code, hardware, versions."""
    digests = {"digest": digest_model(directory), "tokenizer": digest_tokenizer(directory)}
    return {**digests, **engine.computation(), "versions": versions()}


def _check_whole(entry: ModelEntry, directory: Path, progress: protocol.Progress | None) -> None:
    """Raise BchatError if a file downloaded from the hub is damaged. Reads only files that changed.

    A directory of the user's own is not checked: there, other weights are intended.
    """
    if directory.parent.name != "snapshots":
        return
    from bilingual_chat.hub import state, verify  # takes 20 ms, so not before the first prompt

    report = state.last_report(entry)
    if report is not None and report.state is state.State.CHANGED:
        report = verify.verify(entry, (lambda now: progress(now.done, now.size)) if progress else None)
    needed = {CONFIG_FILE, TOKENIZER_FILE, OTHER_TOKENIZER_FILE, *state.weight_files(directory)}
    for file in report.files if report else ():
        if file.state is state.State.DAMAGED and file.name in needed:
            raise BchatError("model.file-damaged", status=ExitStatus.MODEL, name=entry.name, file=file.name)


@dataclass(frozen=True)
class Completion:
    """Input and output of one call of the engine: everything that `ask --json` prints."""

    model: Mapping[str, Any]  # `Model.record`
    prompt: Prompt
    reply: str
    reply_ids: tuple[int, ...]
    finish: FinishReason
    parameters: DecodingParameters  # seed included
    cached_tokens: int
    first_token_s: float | None  # None if no token came
    total_s: float
    chunks: tuple[Chunk, ...] = ()  # the tokens with their probabilities, the end token included

    @property
    def tokens_per_second(self) -> float | None:
        """The speed after the first token; None for less than two tokens."""
        if self.first_token_s is None or len(self.reply_ids) < 2 or self.total_s <= self.first_token_s:
            return None
        return (len(self.reply_ids) - 1) / (self.total_s - self.first_token_s)

    @property
    def usage(self) -> dict[str, int]:
        return {
            "prompt_tokens": len(self.prompt.ids),
            "cached_tokens": self.cached_tokens,
            "completion_tokens": len(self.reply_ids),
        }

    @property
    def timings(self) -> dict[str, float | None]:
        rounded = {
            "first_token_s": self.first_token_s,
            "total_s": self.total_s,
            "tokens_per_second": self.tokens_per_second,
        }
        return {name: None if value is None else round(value, 4) for name, value in rounded.items()}


def versions() -> dict[str, str]:
    """Return the versions that a transcript records, read without importing the libraries."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"bchat": __version__}
    for name in ("torch", "transformers", "sentencepiece"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
