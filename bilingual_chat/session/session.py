"""One turn, whole: from the typed text to a reply on the screen and on disk. READ FIRST.

`Session.reply` is the program. It knows no terminal: it yields pieces of text (str) and remarks (`messages.Phrase`).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from bilingual_chat.engines.protocol import Progress
from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.session.loops import LoopDetector
from bilingual_chat.session.model import Completion, Model, OpenOptions, open_model, versions
from bilingual_chat.session.persona import persona, remark_on_persona
from bilingual_chat.session.turn import Asked, details_of, left_out, remark_on_same, remarks_after, told, why_it_ends
from bilingual_chat.settings.catalogue import ModelEntry
from bilingual_chat.settings.config import NO_CHANGE, Settings, SettingsChange
from bilingual_chat.settings.decoding import DecodingParameters
from bilingual_chat.storage.signals import postpone_signals
from bilingual_chat.text import prompt
from bilingual_chat.text.conversation import Conversation, FinishReason, Speaker, Turn, Utterance
from bilingual_chat.text.prompt import Prompt, PromptFormat
from bilingual_chat.text.sanitize import inward
from bilingual_chat.transcript.details import is_count
from bilingual_chat.transcript.journal import Journal
from bilingual_chat.transcript.loaded import Loaded, new_header

__all__ = ["Completion", "Event", "Model", "OpenOptions", "Session", "open_model", "persona", "remark_on_persona"]

Event = str | Phrase
Events = Generator[Event, None, None]
MAX_MESSAGE = 1_000_000  # characters


class Session:
    """The conversation in force. State: the conversation, the settings, the journal, the last completion,
    and in `pending` the user's last words if they have no turn (yet).

    `obtain_model` gives the model, waiting for it if need be (BchatError if it cannot be had).
    `directory` is where the journal is kept; None keeps none. `on_prefill` is called with the tokens done and in all
    while a long prompt is prefilled.
    """

    def __init__(
        self,
        obtain_model: Callable[[], Model],
        settings: Settings,
        *,
        entry: ModelEntry,
        directory: Path | None,
        opening: tuple[Utterance, ...] = (),
        on_prefill: Progress | None = None,
    ) -> None:
        self._obtain_model = obtain_model
        self._directory = directory
        self.on_prefill = on_prefill
        self.entry = entry
        self.settings = settings
        self.conversation = Conversation(opening)
        self.pending: str | None = None
        self.last: Completion | None = None
        self._dropped = 0
        self._unplaced: tuple[Turn, ...] = ()  # replies to `pending`, none of them chosen yet
        self._chosen: list[int] = []  # the places of the last turn's replies that were chosen before, for /undo
        self._warned_look_alike = False
        self._notices_shown_for: Model | None = None
        self._header = new_header(entry.name, versions())
        self._loaded_from: Loaded | None = None
        self._journal = self._new_journal()

    # -- the turn -------------------------------------------------------------------------------------

    def reply(self, text: str, change: SettingsChange = NO_CHANGE) -> Generator[Event, None, None]:
        """Answer `text`; the turn that comes of it is the conversation's last, and on disk, however it ended.

        `change` applies to this reply alone. Closing the generator, or an interrupt in it, ends the reply and
        keeps what was said. Raises BchatError: a message that is too long for the model, a model that cannot be
        opened (both: the words are kept as `pending`), or a failure while replying (the turn is kept, marked as
        failed).
        """
        text = inward(text)
        return self._begin(text, change, None, self._keep_words(text))

    def revise(self, text: str) -> Generator[Event, None, None]:
        """Answer `text` in place of the last turn, which becomes one of its other replies."""
        text, before = inward(text), self._last_turn()
        return self._begin(text, NO_CHANGE, before, self._keep_words(text))

    def _begin(self, text: str, change: SettingsChange, replaces: Turn | None, problem: Phrase | None) -> Events:
        yield from [problem] if problem else []
        before = self.conversation.without_last_turn() if replaces else self.conversation
        yield from self._answer(self._ask(before, text, change, replaces))

    def retry(self, change: SettingsChange = NO_CHANGE) -> Generator[Event, None, None]:
        """Answer the last user's words again, with a fresh seed unless one is set.

        A reply that is stopped, or fails, does not take the place of a whole one.
        """
        if self.pending is not None:
            yield from self.reply(self.pending, change)
            return
        before = self._last_turn()
        yield from self._answer(self._ask(self.conversation.without_last_turn(), before.user, change, before))
        if self.last:
            yield from remark_on_same(self.last, before)

    def _keep_words(self, text: str) -> Phrase | None:
        """The user's words, on disk before anybody asks for the first event; what hinders it."""
        if len(text) > MAX_MESSAGE:
            self._keep(lambda journal: journal.record_refused(text, was_recorded=False))
            raise BchatError("session.too-long", status=ExitStatus.USAGE, count=len(text), limit=MAX_MESSAGE)
        if self._journal is not None and self._journal.is_full and self.is_saved:
            full = self._header.id
            self.close()
            self._header = new_header(self.entry.name, versions())
            self._journal = self._new_journal(continues=full)
        self._unplaced = self._unplaced if text == self.pending else ()
        self.pending = text
        return self._keep(lambda journal: journal.record_user(text))

    def _answer(self, asked: Asked) -> Generator[Event, None, None]:
        """Stream the reply, then keep the turn: `finally` is the promise of this program."""
        # bchat has already reported it if the user's message could not be saved.
        was_saved = self._journal is None or not self._journal.unsaved
        detokenizer = asked.model.tokenizer.detokenizer(asked.model.format)
        ids: list[int] = []
        loop = LoopDetector()
        began = time.perf_counter()
        first: float | None = None
        cached = 0
        finish = FinishReason.FAILED
        try:
            yield from self._remarks_before(asked)
            began = time.perf_counter()
            chunks = asked.model.engine.complete(asked.prompt.ids, asked.parameters, self.on_prefill)
            with closing(chunks):
                for chunk in chunks:
                    first = time.perf_counter() - began if first is None else first
                    cached = chunk.cached_tokens
                    if chunk.finish is FinishReason.STOP:
                        # A reply that is cut short drops the text held back: a part of a label or a character.
                        piece = detokenizer.finish()
                    else:
                        ids.append(chunk.token_id)
                        piece = detokenizer.push(chunk.token_id)
                    if piece:
                        yield piece
                    if (end := why_it_ends(chunk, detokenizer, loop)) is not None:
                        finish = end
                        break
                else:
                    raise BchatError("session.broke-off")
        except BaseException as error:
            # Not an Exception: Ctrl-C, another signal, a consumer that closes.
            finish = FinishReason.FAILED if isinstance(error, Exception) else FinishReason.INTERRUPTED
            raise
        finally:
            took = time.perf_counter() - began
            with postpone_signals():
                text = detokenizer.text
                self.last = Completion(
                    asked.model.record, asked.prompt, text, tuple(ids), finish, asked.parameters, cached, first, took
                )
                turn = Turn(asked.text, text, finish, details_of(asked, self.last))
                problem = self._settle(turn, asked.replaces)
        if problem is not None and was_saved:
            yield problem
        yield from remarks_after(self.last)

    def _settle(self, turn: Turn, replaces: Turn | None) -> Phrase | None:
        """Keep a turn that has ended, beside or instead of the replies to the same message; what hinders the saving."""
        before = self.conversation if replaces is None else self.conversation.without_last_turn()
        if replaces is not None and turn.user == replaces.user and replaces.is_whole and not turn.is_whole:
            if not turn.reply:
                return None
            self._chosen.append(replaces.index)
            self.conversation = before.with_turn(replaces.beside((turn,)))
            return self._keep(lambda journal: journal.record_reply(turn))
        self._chosen = [] if replaces is None else [*self._chosen, replaces.index]
        earlier = self._unplaced if replaces is None else replaces.replies
        self.conversation = before.with_turn(turn.after(earlier))
        self.pending, self._unplaced = None, ()
        return self._keep(lambda journal: journal.record_turn(turn, replaces=replaces is not None))

    def _ask(self, before: Conversation, text: str, change: SettingsChange, replaces: Turn | None = None) -> Asked:
        """All that is decided before the engine is called. Raises BchatError; then nothing has changed."""
        model = self._obtain_model()
        parameters, preset = self._parameters(change)
        try:
            asked = self._fit(model, before, text, parameters)
        except BchatError as error:
            if error.key == "prompt.too-long" and self.pending == text:
                self._keep(lambda journal: journal.record_refused(text, was_recorded=True))
            raise
        if not asked.ids:
            raise BchatError("session.nothing-said", status=ExitStatus.USAGE)
        return Asked(model, text, asked, parameters, preset, replaces)

    def _parameters(self, change: SettingsChange) -> tuple[DecodingParameters, str]:
        """Return the parameters of one reply, always with a seed so that it can be repeated, and the preset's name."""
        settings = self.settings.with_change(change)
        parameters = settings.parameters
        if parameters.seed is None:
            parameters = replace(parameters, seed=secrets.randbelow(2**32))
        return parameters, settings.preset

    def _fit(self, model: Model, before: Conversation, text: str, parameters: DecodingParameters) -> Prompt:
        context = model.context_length
        # However long a reply is allowed, half of the positions are for what it answers.
        room = min(parameters.max_new_tokens, context // 2)
        return prompt.fit(
            told(before, model.format),
            text,
            model.format,
            model.encode_prompt,
            context - room,
            already_dropped=self._dropped if before is self.conversation else self._dropped_within(before),
        )

    def _dropped_within(self, conversation: Conversation) -> int:
        """How much was left out when this beginning of the conversation was told last."""
        unit = "dropped_characters" if self.is_completing else "dropped_turns"
        recorded = conversation.turns[-1].details.get(unit, 0) if conversation.turns else 0
        return min(self._dropped, recorded if is_count(recorded) else 0)

    def _remarks_before(self, asked: Asked) -> Generator[Event, None, None]:
        dropped, self._dropped = self._dropped, asked.prompt.dropped
        model = asked.model
        if model is not self._notices_shown_for:
            self._notices_shown_for = model
            yield from model.notices
            if model.is_withdrawn:
                self.note("accepted-withdrawn", {"model": model.entry.name})
        if self._dropped > dropped:
            self.note("dropped", left_out(asked.prompt))
            key = "session.cut" if model.format.kind == "plain" else "session.dropped"
            yield Phrase(key, count=self._dropped)
        if not self._warned_look_alike and asked.prompt.is_neutralised:
            self._warned_look_alike = True
            yield Phrase("session.look-alike")

    # -- what may be done to the conversation ---------------------------------------------------------

    def undo(self) -> Turn:
        """Take the last turn back, and return it. BchatError when there is none."""
        turn = self._last_turn()
        self._dropped = self._dropped_within(self.conversation.without_last_turn())
        self.conversation = self.conversation.without_last_turn()
        self.pending, self._unplaced, self._chosen = None, (), []
        self._keep(Journal.record_undo)
        return turn

    @property
    def replies(self) -> tuple[Turn, ...]:
        """Every reply that the last message has had, in the order in which they came."""
        if self.pending is not None:
            return self._unplaced
        return self.conversation.turns[-1].replies if self.conversation.turns else ()

    @property
    def chosen(self) -> int | None:
        """Which of `replies` is the conversation's; None where the last message has none yet."""
        return self.conversation.turns[-1].index if self.pending is None and self.conversation.turns else None

    def choose(self, place: int) -> Turn:
        """Make another of `replies` the conversation's."""
        replies, chosen = self.replies, self.chosen
        turn = replies[place]
        if chosen is None:
            self.conversation = self.conversation.with_turn(turn.among(replies, place))
        else:
            self._chosen.append(chosen)
            self.conversation = self.conversation.without_last_turn().with_turn(turn.among(replies, place))
        self.pending, self._unplaced = None, ()
        self._keep(lambda journal: journal.record_turn(turn, replaces=chosen is not None))
        return turn

    def step_back(self) -> Turn | None:
        """Choose the reply that was chosen before the last retry, edit or choice. Return None if there was none.

        The steps are not in the journal: after /resume or /load, /undo takes the whole turn back.
        """
        if not self._chosen or self.pending is not None:
            return None
        place = self._chosen.pop()
        turn = self.choose(place)
        self._chosen.pop()
        return turn

    def add_replies(self, replies: tuple[Turn, ...]) -> None:
        """Keep replies to the last message beside the one that is chosen."""
        if self.pending is not None:
            self._unplaced += replies
        else:
            self.conversation = self.conversation.without_last_turn().with_turn(self._last_turn().beside(replies))
        for reply in replies:
            self._keep(lambda journal, reply=reply: journal.record_reply(reply))  # type: ignore[misc]

    def _last_turn(self) -> Turn:
        if not self.conversation.turns:
            raise BchatError("session.nothing-to-undo", status=ExitStatus.USAGE)
        return self.conversation.turns[-1]

    def clear(self) -> None:
        """Forget the turns; a new journal begins, the old one stays where it is. BchatError: see `continue_from`."""
        self._start_over(Conversation(self.conversation.opening))

    def open_with(self, opening: tuple[Utterance, ...]) -> None:
        """Replace the opening (the persona); the turns stay."""
        self.conversation = self.conversation.with_opening(opening)
        self._keep(lambda journal: journal.record_opening(opening))

    def continue_from(self, loaded: Loaded, journal: Journal | None = None) -> None:
        """Go on with a conversation that was read, in `journal` or in a new one that begins with a copy.

        Raises BchatError when the conversation so far is not saved and still cannot be: it stays in force.
        """
        self._start_over(loaded.conversation, journal, loaded)

    def use_model(self, entry: ModelEntry, settings: Settings) -> None:
        """Record that `obtain_model` gives another model from the next message on; the conversation stays."""
        self.entry = entry
        self.settings = settings
        self._dropped = 0
        self.note("model", {"model": entry.name})

    def change(self, settings: Settings) -> None:
        """Other settings from the next reply on, recorded."""
        self.settings = settings
        self.note("settings", asdict(settings.parameters))

    def _start_over(
        self, conversation: Conversation, journal: Journal | None = None, loaded: Loaded | None = None
    ) -> None:
        if self._journal is not None and self._journal.unsaved:
            self._journal.record_event("closed")  # takes along what waits, or raises
        self.close()
        self.conversation = conversation
        self.pending = loaded.pending_user if loaded else None
        self.last = None
        self._dropped = 0
        self._unplaced = loaded.pending_replies if loaded else ()
        self._chosen = []
        self._loaded_from = loaded
        self._header = loaded.header if loaded and journal else new_header(self.entry.name, versions())
        self._journal = journal or self._new_journal()

    # -- what is asked about it -----------------------------------------------------------------------

    def model(self) -> Model:
        """The model in force; waits for it. BchatError if it cannot be had."""
        return self._obtain_model()

    def prompt_for(self, text: str, model: Model | None = None, *, replaces_last: bool = False) -> Prompt:
        """What the model (`model` need not be waited for) would be told if `text` were said now."""
        before = self.conversation.without_last_turn() if replaces_last else self.conversation
        return self._fit(model or self.model(), before, inward(text), self.settings.parameters)

    def prompt_again(self) -> Prompt:
        """What the model was told to answer the last words with, or would be. BchatError when there are none."""
        before = self.conversation if self.pending is not None else self.conversation.without_last_turn()
        return self._fit(self.model(), before, self.last_words, self.settings.parameters)

    @property
    def last_words(self) -> str:
        """What the user said last, answered or not. BchatError when nothing was said."""
        return self.pending if self.pending is not None else self._last_turn().user

    def note(self, kind: str, details: Mapping[str, Any]) -> None:
        """Keep what happened beside the conversation; what hinders it shows with the next turn."""
        self._keep(lambda journal: journal.record_event(kind, details))

    @property
    def format(self) -> PromptFormat:
        """How the model in force writes its speakers; known before it is loaded."""
        return self.entry.prompt

    @property
    def is_completing(self) -> bool:
        """Whether the model continues one text (a base model), to which each message is added as it is."""
        return self.format.kind == "plain"

    @property
    def text(self) -> str:
        """All that was typed and written, as the one text that a base model reads."""
        return "".join(u.text for u in told(self.conversation, prompt.PLAIN).utterances())

    def context_used(self, model: Model) -> int:
        """Tokens that the conversation takes of the model's context, before the next message."""
        if self.is_completing:
            return model.count((Utterance(Speaker.USER, self.text[self._dropped :]),))
        heard = told(self.conversation, self.format)
        kept = Conversation(heard.opening, heard.turns[self._dropped :])
        return model.count(kept.utterances())

    def snapshot(self) -> Loaded:
        """The conversation as a document has it."""
        kept = self._loaded_from or Loaded(self._header, self.conversation)
        return replace(
            kept,
            header=self._header,
            conversation=self.conversation,
            pending_user=self.pending,
            pending_replies=self._unplaced,
            problems=(),
        )

    @property
    def ids(self) -> frozenset[str]:
        """The ids under which this conversation is known: its own, and that of the file it was loaded from."""
        return frozenset({self._header.id} | ({self._loaded_from.header.id} if self._loaded_from else set()))

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

    def _new_journal(self, continues: str = "") -> Journal | None:
        if self._directory is None:
            return None
        return Journal.create(self._directory, self._header, self.conversation, continues=continues)

    def _keep(self, record: Callable[[Journal], None]) -> Phrase | None:
        """Record; what hinders it is returned, and the chat goes on: the journal tries again with the next record."""
        if self._journal is None:
            return None
        try:
            record(self._journal)
        except BchatError as error:
            return Phrase(error.key, **error.values)
        return None
