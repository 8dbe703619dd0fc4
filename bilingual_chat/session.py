"""One turn, whole: from what a person typed to a reply that is on the screen and on disk. READ FIRST.

`Session.reply` is the program; everything else serves it. It knows no terminal: it yields pieces of
text (str) and remarks (`messages.Phrase`), and whoever consumes it shows them.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bilingual_chat import __version__, engines, prompt
from bilingual_chat.catalogue import ModelEntry, locate
from bilingual_chat.config import Settings
from bilingual_chat.conversation import Conversation, FinishReason, Speaker, Turn, Utterance
from bilingual_chat.decoding import DecodingParameters
from bilingual_chat.detokenizer import Detokenizer
from bilingual_chat.errors import BchatError, ExitStatus
from bilingual_chat.messages import Phrase
from bilingual_chat.prompt import Prompt, PromptFormat
from bilingual_chat.tokenizer import Tokenizer
from bilingual_chat.transcript import Loaded, new_header
from bilingual_chat.transcript.journal import Journal
from bilingual_chat.untrusted import inward

Event = str | Phrase

# An endless loop: a unit of at most LOOP_UNIT tokens, at least LOOP_TIMES in a row, over LOOP_TOKENS or more.
LOOP_UNIT, LOOP_TIMES, LOOP_TOKENS = 64, 4, 128


@dataclass(frozen=True)
class Model:
    """What a session talks to: an engine, and how its model reads and writes."""

    entry: ModelEntry
    tokenizer: Tokenizer
    engine: engines.Engine

    @property
    def context_length(self) -> int:
        return min(self.engine.context_length, self.entry.context_length or self.engine.context_length)

    @property
    def format(self) -> PromptFormat:
        return self.entry.prompt

    def count(self, utterances: Sequence[Utterance]) -> int:
        """Tokens of the whole text that a prompt with these utterances has."""
        return len(self.tokenizer.encode(prompt.render(utterances, self.format, self.tokenizer.normalize)))


def open_model(entry: ModelEntry) -> Model:
    """The model of `entry`, ready to answer. Raises BchatError (MODEL): not here, damaged, too large."""
    directory = locate(entry)
    if directory is None:
        raise BchatError("model.not-here", status=ExitStatus.MODEL, name=entry.name)
    tokenizer = Tokenizer(directory / "spiece.model", newline=entry.prompt.newline)
    return Model(entry, tokenizer, engines.open_engine(directory, tokenizer, name=entry.name))


@dataclass(frozen=True)
class Completion:
    """What one call of the engine was told and gave: everything `ask --json` prints."""

    prompt: Prompt
    reply: str
    reply_ids: tuple[int, ...]
    finish: FinishReason
    parameters: DecodingParameters  # seed included
    cached_tokens: int
    first_token_s: float | None  # None when nothing came
    total_s: float

    @property
    def tokens_per_second(self) -> float | None:
        """Speed after the first token; None where there is nothing to measure."""
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


class Session:
    """The conversation in force. State: the conversation, the settings, the journal, the last completion.

    `obtain_model` gives the model, waiting for it if need be (BchatError if it cannot be had).
    `directory` is where the journal is kept; None keeps none.
    """

    def __init__(
        self,
        obtain_model: Callable[[], Model],
        settings: Settings,
        *,
        entry: ModelEntry,
        directory: Path | None,
        opening: tuple[Utterance, ...] = (),
    ) -> None:
        self._obtain_model = obtain_model
        self._directory = directory
        self.entry = entry
        self.settings = settings
        self.conversation = Conversation(opening)
        self.last: Completion | None = None
        self._retries = 0
        self._dropped = 0
        self._warned_look_alike = False
        self._header = new_header(entry.name, versions())
        self._extra: Loaded | None = None
        self._journal = self._new_journal()

    # -- the turn -------------------------------------------------------------------------------------

    def reply(self, text: str, changes: Mapping[str, Any] | None = None) -> Generator[Event, None, None]:
        """Answer `text`; the turn that comes of it is the conversation's last, and on disk, however it ended.

        `changes` are settings for this reply alone. Closing the generator, or an interrupt in it, ends
        the reply and keeps what was said. Raises BchatError: a message that is too long for the model,
        a model that cannot be opened (both: nothing is kept), or a failure while replying (the turn is
        kept, marked as failed).
        """
        text = inward(text)
        yield from self._keep(lambda journal: journal.record_user(text))
        try:
            model = self._obtain_model()
            parameters = self._parameters(changes or {})
            asked = self._fit(model, text, parameters)
        except BchatError:
            self._keep_quietly(Journal.record_undo)
            raise
        yield from self._remarks_before(model, text, asked)
        yield from self._answer(model, text, asked, parameters)

    def retry(self, changes: Mapping[str, Any] | None = None) -> Generator[Event, None, None]:
        """Answer the last user's words again; another seed each time, also when one is set."""
        text = self.take_back()
        self._retries += 1
        yield from self.reply(text, changes)

    def _answer(
        self, model: Model, text: str, asked: Prompt, parameters: DecodingParameters
    ) -> Generator[Event, None, None]:
        """Stream the reply, then keep the turn. The order in `finally` is the promise of this program."""
        detokenizer = Detokenizer(
            model.tokenizer.piece, stop_strings=model.format.stop_strings, newline=model.format.newline
        )
        ids: list[int] = []
        loop = LoopDetector()
        began = time.perf_counter()
        first: float | None = None
        cached = 0
        finish = FinishReason.FAILED
        try:
            seed = parameters.seed if parameters.seed is not None else 0
            with closing(model.engine.complete(asked.ids, parameters, seed)) as chunks:  # type: ignore[type-var]
                for chunk in chunks:
                    first = time.perf_counter() - began if first is None else first
                    cached = chunk.cached_tokens
                    if chunk.finish is FinishReason.STOP:
                        finish = FinishReason.STOP
                        break
                    ids.append(chunk.token_id)
                    if piece := detokenizer.push(chunk.token_id):
                        yield piece
                    if detokenizer.stopped:
                        finish = FinishReason.STOP
                    elif loop.push(chunk.token_id):
                        finish = FinishReason.REPETITION
                    elif chunk.finish is not None:
                        finish = chunk.finish
                    else:
                        continue
                    break
            if rest := detokenizer.finish():
                yield rest
        except (KeyboardInterrupt, GeneratorExit):
            finish = FinishReason.INTERRUPTED
            detokenizer.finish()
            raise
        finally:
            took = time.perf_counter() - began
            self.last = Completion(asked, detokenizer.text, tuple(ids), finish, parameters, cached, first, took)
            turn = Turn(text, detokenizer.text, finish, self._details(model, self.last))
            self.conversation = self.conversation.with_turn(turn)
            problem = self._keep_quietly(lambda journal: journal.record_turn(turn))
        if problem is not None:
            yield Phrase("session.not-saved", reason=problem)
        yield from self._remarks_after(finish)

    def _parameters(self, changes: Mapping[str, Any]) -> DecodingParameters:
        """The settings for one reply, with a seed in any case: the reply can be made again from its record."""
        settings = self.settings
        for name, value in changes.items():
            settings = settings.changed(name, value)
        parameters = settings.parameters
        if parameters.seed is None:
            return replace(parameters, seed=secrets.randbelow(2**32))
        again = 0 if "seed" in changes else self._retries
        return replace(parameters, seed=(parameters.seed + again) % 2**63)

    def _fit(self, model: Model, text: str, parameters: DecodingParameters) -> Prompt:
        context = model.context_length
        # However long a reply is allowed, half of the positions are for what it answers.
        room = min(parameters.max_new_tokens, context // 2)
        return prompt.fit(
            self._told(),
            text,
            model.format,
            model.tokenizer.encode,
            context - room,
            normalize=model.tokenizer.normalize,
            already_dropped=self._dropped,
        )

    def _told(self) -> Conversation:
        """The conversation as the model is told it: a reply that never began would teach it silence."""
        said = tuple(turn for turn in self.conversation.turns if turn.reply or turn.finish is FinishReason.STOP)
        return Conversation(self.conversation.opening, said)

    def _remarks_before(self, model: Model, text: str, asked: Prompt) -> Generator[Event, None, None]:
        if asked.dropped_turns > self._dropped:
            yield Phrase("session.dropped", count=asked.dropped_turns)
            event = {"dropped_turns": asked.dropped_turns}
            yield from self._keep(lambda journal: journal.record_event("dropped", event))
        self._dropped = asked.dropped_turns
        if not self._warned_look_alike and prompt.is_neutralised(text, model.format, model.tokenizer.normalize):
            self._warned_look_alike = True
            yield Phrase("session.look-alike")

    def _remarks_after(self, finish: FinishReason) -> Generator[Event, None, None]:
        if finish is FinishReason.LENGTH:
            yield Phrase("session.length")
        elif finish is FinishReason.REPETITION:
            yield Phrase("session.repetition")

    def _details(self, model: Model, completion: Completion) -> dict[str, Any]:
        settings = asdict(completion.parameters)
        return {
            "model": model.entry.name,
            "settings": settings,
            "seed": settings["seed"],
            "preset": self.settings.preset,
            "usage": completion.usage,
            "timings": completion.timings,
            "dropped_turns": completion.prompt.dropped_turns,
        }

    # -- what may be done to the conversation ---------------------------------------------------------

    def undo(self) -> Turn:
        """Take the last turn back, and return it. BchatError when there is none."""
        if not self.conversation.turns:
            raise BchatError("session.nothing-to-undo", status=ExitStatus.USAGE)
        turn = self.conversation.turns[-1]
        self.conversation = self.conversation.without_last_turn()
        self._dropped = min(self._dropped, len(self._told().turns))
        self._retries = 0
        self._keep_quietly(Journal.record_undo)
        return turn

    def take_back(self) -> str:
        """The last user's words, with their turn taken back."""
        retries = self._retries
        text = self.undo().user
        self._retries = retries
        return text

    def clear(self) -> None:
        """Forget the turns; a new journal begins, the old one stays where it is."""
        self._start_over(Conversation(self.conversation.opening))

    def open_with(self, opening: tuple[Utterance, ...]) -> None:
        """Replace the opening (the persona); the turns stay."""
        self.conversation = self.conversation.with_opening(opening)
        self._keep_quietly(lambda journal: journal.record_opening(opening))

    def continue_from(self, loaded: Loaded, journal: Journal | None = None) -> None:
        """Go on with a conversation that was read, in `journal` or in a new one that begins with a copy."""
        self._start_over(loaded.conversation, journal, loaded)

    def use_model(self, obtain_model: Callable[[], Model], entry: ModelEntry, settings: Settings) -> None:
        """Another model from the next message on; the conversation stays."""
        self._obtain_model = obtain_model
        self.entry = entry
        self.settings = settings
        self._dropped = 0
        self._keep_quietly(lambda journal: journal.record_event("model", {"model": entry.name}))

    def change(self, settings: Settings) -> None:
        """Other settings from the next reply on, recorded."""
        self.settings = settings
        self._retries = 0
        chosen = asdict(settings.parameters)
        self._keep_quietly(lambda journal: journal.record_event("settings", chosen))

    def _start_over(
        self, conversation: Conversation, journal: Journal | None = None, loaded: Loaded | None = None
    ) -> None:
        self.close()
        self.conversation = conversation
        self.last = None
        self._dropped = 0
        self._retries = 0
        self._extra = loaded
        self._header = loaded.header if loaded and journal else new_header(self.entry.name, versions())
        self._journal = journal or self._new_journal()

    # -- what is asked about it -----------------------------------------------------------------------

    def prompt_for(self, text: str) -> Prompt:
        """What the model would be told if `text` were said now."""
        model = self._obtain_model()
        return self._fit(model, inward(text), self.settings.parameters)

    @property
    def format(self) -> PromptFormat:
        """How the model in force writes its speakers; known before it is loaded."""
        return self.entry.prompt

    def context_used(self, model: Model) -> int:
        """Tokens that the conversation takes of the model's context, before the next message."""
        told = self._told()
        kept = Conversation(told.opening, told.turns[self._dropped :])
        return model.count(kept.utterances()) if kept.utterances() else 0

    def snapshot(self) -> Loaded:
        """The conversation as a document has it."""
        if self._extra is None:
            return Loaded(self._header, self.conversation)
        return replace(self._extra, header=self._header, conversation=self.conversation, pending_user=None, problems=())

    @property
    def journal_path(self) -> Path | None:
        return self._journal.path if self._journal else None

    @property
    def is_saved(self) -> bool:
        """Whether every turn is on disk."""
        return self._journal is not None and not self._journal.unsaved

    # -- the journal ----------------------------------------------------------------------------------

    def close(self) -> None:
        """Give the journal back; the last attempt at anything that could not be saved."""
        if self._journal is not None:
            journal, self._journal = self._journal, None
            journal.close()

    def _new_journal(self) -> Journal | None:
        return Journal.create(self._directory, self._header, self.conversation) if self._directory else None

    def _keep(self, record: Callable[[Journal], None]) -> Generator[Event, None, None]:
        if (problem := self._keep_quietly(record)) is not None:
            yield Phrase("session.not-saved", reason=problem)

    def _keep_quietly(self, record: Callable[[Journal], None]) -> BchatError | None:
        """Record, and let the chat go on if that fails: the journal tries again with the next record."""
        if self._journal is None:
            return None
        try:
            record(self._journal)
        except BchatError as error:
            return error
        return None


class LoopDetector:
    """Whether a reply goes round in circles; constant work for each token.

    For each unit length u, `_runs[u]` counts how many last tokens equal the one u before them.
    """

    def __init__(self) -> None:
        self._ids: list[int] = []
        self._runs = [0] * (LOOP_UNIT + 1)

    def push(self, token_id: int) -> bool:
        ids, runs = self._ids, self._runs
        ids.append(token_id)
        looping = False
        for unit in range(1, min(LOOP_UNIT, len(ids) - 1) + 1):
            if ids[-1 - unit] == token_id:
                runs[unit] += 1
                looping = looping or runs[unit] + unit >= max(LOOP_TIMES * unit, LOOP_TOKENS)
            else:
                runs[unit] = 0
        return looping


def persona(text: str) -> tuple[Utterance, ...]:
    """An opening as the model card has it: the user says what the system is to be, the system agrees."""
    text = inward(text).strip()
    if not text:
        return ()
    agreed = "Sure, what can I do for you?" if text.isascii() else "はい、承知しました。何をお手伝いしましょうか。"
    return Utterance(Speaker.USER, text), Utterance(Speaker.SYSTEM, agreed)


def versions() -> dict[str, str]:
    """The versions a transcript records, read without importing the libraries."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"bchat": __version__}
    for name in ("torch", "transformers", "sentencepiece"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
