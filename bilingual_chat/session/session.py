"""One turn, whole: from the message to a reply on the screen and on disk. READ FIRST.

`Session._answer` is the program. It knows no terminal: it yields text (str) and remarks (`messages.Phrase`).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator
from dataclasses import replace
from functools import partial
from pathlib import Path

from bilingual_chat.engines.protocol import Progress
from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.session.beginning import (
    Candidate,
    computed_candidates,
    given_by_user,
    kept_tokens,
    recorded_candidates,
    whole_reply,
)
from bilingual_chat.session.model import Completion, Model
from bilingual_chat.session.saved import SavedConversation
from bilingual_chat.session.turn import Request, RunningReply, dropped_details, remarks_after, turn_of
from bilingual_chat.settings.catalogue import ModelEntry
from bilingual_chat.settings.config import NO_CHANGE, Settings, SettingsChange
from bilingual_chat.settings.decoding import DecodingParameters, as_record, require_tokens
from bilingual_chat.storage.signals import postpone_signals
from bilingual_chat.text import prompt
from bilingual_chat.text.conversation import Conversation, FinishReason, Speaker, Turn, Utterance
from bilingual_chat.text.prompt import Beginning, Prompt, PromptFormat
from bilingual_chat.text.sanitize import inward
from bilingual_chat.transcript.details import is_count
from bilingual_chat.transcript.journal import Journal
from bilingual_chat.transcript.loaded import Loaded

Event = str | Phrase
Events = Generator[Event, None, None]
MAX_MESSAGE = 1_000_000  # characters


class Session(SavedConversation):
    """A saved conversation with a model that answers. State: also the settings and the last completion.

    `obtain_model` returns the model, after waiting for it if necessary (BchatError if it cannot be opened).
    `on_prefill` is called with (tokens done, tokens in all) while a long prompt is prefilled.
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
        super().__init__(entry, directory, opening)
        self._obtain_model = obtain_model
        self.settings = settings
        self.on_prefill = on_prefill
        self.last: Completion | None = None
        self.begin = ""  # the first words of each reply
        self._dropped = 0  # turns not sent in the last prompt; characters with a base model
        self._has_warned_of_label = False
        self._notices_shown_for: Model | None = None

    # -- one turn -------------------------------------------------------------------------------------

    def reply(self, message: str, change: SettingsChange = NO_CHANGE) -> Events:
        """Answer `message`, with a change of settings for this reply only. The turn becomes the last one.

        Raises BchatError: the message is too long for the model, or the model cannot be opened (in both cases the
        message stays as `pending`), or the reply fails (the turn is saved as FAILED).
        """
        message = inward(message)
        return self._answer(message, change, problem=self._save_message(message))

    def _answer(
        self,
        message: str,
        change: SettingsChange,
        replaces: Turn | None = None,
        *,
        begin: Callable[[Model], Beginning] | None = None,
        extends: bool = False,
        problem: Phrase | None = None,
    ) -> Events:
        """Stream a reply, then save the turn. The promise: a reply that was shown is on disk, however it ended.

        If writing fails, a remark says so, and the next record tries again.
        replaces: the last turn, if this is another reply to it; extends: if it is the same one, continued.
        begin: returns the beginning of the reply; None for the one that /begin sets.
        problem: the reason if the message was not saved.
        Closing the generator, or an interrupt in it, ends the reply.
        """
        if problem is not None:
            yield problem
        request = self._request(message, change, replaces, begin or self._user_beginning)
        if begin is not None:
            request = replace(request, source=replaces, extends=extends)
        was_saved = self._journal is None or self.is_saved  # if not, the user knows
        reply = RunningReply(request)
        try:
            yield from self._remarks_before(request)
            yield from reply.generate(self.on_prefill)
        except BaseException as error:  # also Ctrl-C, another signal, a consumer that closes
            reply.stopped_by(error)
            raise
        finally:
            with postpone_signals():
                self.last = reply.completed()
                problem = self.save_turn(turn_of(request, self.last), replaces, extends=extends)
        if problem is not None and was_saved:
            yield problem
        is_another = replaces is not None and replaces.user == message and not extends
        yield from remarks_after(self.last, replaces if is_another else None, replaces if extends else None)

    def _save_message(self, message: str) -> Phrase | None:
        """Save the message before the first event is asked for. Return the reason if that failed."""
        if len(message) > MAX_MESSAGE:
            self.save_refused(message, was_recorded=False)
            raise BchatError("session.too-long", status=ExitStatus.USAGE, count=len(message), limit=MAX_MESSAGE)
        return self.save_message(message)

    def _request(
        self, message: str, change: SettingsChange, replaces: Turn | None, begin: Callable[[Model], Beginning]
    ) -> Request:
        """Return everything that is decided before the engine runs. Raises BchatError; then nothing has changed."""
        model = self._obtain_model()
        settings = self.settings.with_change(change)
        parameters = settings.parameters
        if parameters.seed is None:  # so that the reply can be repeated
            parameters = replace(parameters, seed=secrets.randbelow(2**32))
        require_tokens(parameters, model.tokenizer.vocab_size)
        before = self.conversation.without_last_turn() if replaces else self.conversation
        try:
            prompt = self._fit(model, before, message, parameters, begin(model))
        except BchatError as error:
            if error.key == "prompt.too-long" and self.pending == message:
                self.save_refused(message, was_recorded=True)
            raise
        if not prompt.ids:
            raise BchatError("session.nothing-said", status=ExitStatus.USAGE)
        return Request(model, message, prompt, parameters, settings.preset)

    def _remarks_before(self, request: Request) -> Events:
        dropped, self._dropped = self._dropped, request.prompt.dropped
        model = request.model
        if model is not self._notices_shown_for:
            self._notices_shown_for = model
            yield from model.notices
            if model.is_withdrawn:
                self.note("accepted-withdrawn", {"model": model.entry.name})
        if self._dropped > dropped:
            self.note("dropped", dropped_details(request.prompt))
            yield Phrase("session.cut" if self.is_completing else "session.dropped", count=self._dropped)
        if not self._has_warned_of_label and request.prompt.is_neutralised:
            self._has_warned_of_label = True
            yield Phrase("session.look-alike")

    # -- other replies to the last message ------------------------------------------------------------

    def revise(self, message: str) -> Events:
        """Answer `message` instead of the last one, whose replies stay among `replies`."""
        message, replaces = inward(message), self.last_turn
        return self._answer(message, NO_CHANGE, replaces, problem=self._save_message(message))

    def retry(self, change: SettingsChange = NO_CHANGE) -> Events:
        """Answer the last message again, with a fresh seed unless one is set."""
        if self.pending is not None:
            return self.reply(self.pending, change)
        return self._answer(self.last_turn.user, change, self.last_turn)

    def extend(self, change: SettingsChange = NO_CHANGE) -> Events:
        """Continue the last reply: first its text, then the new text. The turn stays one, with the longer reply.

        Raises BchatError if there is no reply, or if it leaves no room in the context.
        """
        turn = self.require_reply()
        return self._answer(turn.user, change, turn, begin=partial(whole_reply, turn), extends=True)

    def branch(self, number: int, rank: int) -> Events:
        """Give another reply that takes candidate `rank` instead of token `number` of the last one (both from 1).

        Raises BchatError: see `candidates`; the candidate ends the reply.
        """
        turn = self.require_reply()
        return self._answer(turn.user, NO_CHANGE, turn, begin=partial(self._branch, turn, number, rank))

    def candidates(self, number: int) -> tuple[Candidate, ...]:
        """Return the likeliest tokens in place of token `number` of the last reply, the best first.

        Raises BchatError (USAGE): no reply, no such token, ids that are not recorded; MODEL: a server.
        """
        model, turn = self.model(), self.require_reply()
        return self._candidates(kept_tokens(turn, model, number), turn, model)

    def _candidates(self, kept: Beginning, turn: Turn, model: Model) -> tuple[Candidate, ...]:
        if recorded := recorded_candidates(turn, kept):
            return recorded
        before = self.conversation.without_last_turn()
        return computed_candidates(self._fit(model, before, turn.user, self.settings.parameters, kept).ids, model)

    def _branch(self, turn: Turn, number: int, rank: int, model: Model) -> Beginning:
        kept = kept_tokens(turn, model, number)
        candidates = self._candidates(kept, turn, model)
        if not 1 <= rank <= len(candidates):
            raise BchatError("branch.rank", status=ExitStatus.USAGE, rank=rank, most=len(candidates))
        chosen = candidates[rank - 1]
        if chosen.token_id in model.tokenizer.reserved_ids:
            raise BchatError("branch.end", status=ExitStatus.USAGE, rank=rank)
        return replace(kept, ids=(*kept.ids, chosen.token_id))

    # -- prompts --------------------------------------------------------------------------------------

    def prompt_for(self, message: str, model: Model | None = None, *, replaces_last: bool = False) -> Prompt:
        """Return the prompt that `reply(message)` would send. With `model`, do not wait for the model in force."""
        before = self.conversation.without_last_turn() if replaces_last else self.conversation
        model = model or self.model()
        return self._fit(model, before, inward(message), self.settings.parameters, self._user_beginning(model))

    def prompt_again(self) -> Prompt:
        """Return the prompt for the last message, answered or not. Raises BchatError if there is none."""
        return self.prompt_for(self.last_message, replaces_last=self.pending is None)

    @property
    def text(self) -> str:
        """All messages and replies as the one text that a base model continues."""
        return "".join(u.text for u in sent_to_model(self.conversation, prompt.PLAIN).utterances())

    def context_used(self, model: Model) -> int:
        """Return the number of tokens that the conversation takes of the context, without the next message."""
        if self.is_completing:
            return model.count((Utterance(Speaker.USER, self.text[self._dropped :]),))
        sent = sent_to_model(self.conversation, self.format)
        return model.count(Conversation(sent.opening, sent.turns[self._dropped :]).utterances())

    def _user_beginning(self, model: Model) -> Beginning:
        return given_by_user(self.begin)

    def _fit(
        self,
        model: Model,
        before: Conversation,
        message: str,
        parameters: DecodingParameters,
        beginning: Beginning,
    ) -> Prompt:
        context = model.context_length
        # However long a reply may be, half of the context is for the prompt.
        room = min(parameters.max_new_tokens, context // 2)
        try:
            return prompt.fit(
                sent_to_model(before, model.format),
                message,
                model.format,
                partial(model.encode_prompt, beginning=beginning),
                context - room,
                already_dropped=self._dropped if before is self.conversation else self._dropped_within(before),
            )
        except BchatError as error:
            if error.key != "prompt.too-long" or not beginning:
                raise
            raise BchatError("session.beginning-too-long", status=error.status, **error.values) from None

    def _dropped_within(self, conversation: Conversation) -> int:
        """Return how much the last prompt with only these turns left out."""
        unit = "dropped_characters" if self.is_completing else "dropped_turns"
        recorded = conversation.turns[-1].details.get(unit, 0) if conversation.turns else 0
        return min(self._dropped, recorded if is_count(recorded) else 0)

    # -- model, settings, another conversation --------------------------------------------------------

    def model(self) -> Model:
        """Return the model in force, after waiting for it if necessary. Raises BchatError if it cannot be opened."""
        return self._obtain_model()

    def use_model(self, entry: ModelEntry, settings: Settings) -> None:
        """Record that `obtain_model` returns another model from the next message on; the conversation stays."""
        self.entry = entry
        self.settings = settings
        self._dropped = 0
        self.note("model", {"model": entry.name})

    def change(self, settings: Settings) -> None:
        """Use and record other settings from the next reply on."""
        self.settings = settings
        self.note("settings", as_record(settings.parameters))

    def begin_with(self, text: str) -> None:
        """Let each reply from now on begin with `text`, "" for none; recorded. Raises BchatError for spaces only."""
        text = inward(text)
        if text and not text.strip():
            raise BchatError("begin.blank", status=ExitStatus.USAGE)
        self.begin = text
        self.note("begin", {"text": text})

    def undo(self) -> Turn:
        """Remove the last turn and return it. Raises BchatError if there is none."""
        turn = super().undo()
        self._dropped = self._dropped_within(self.conversation)
        return turn

    def start_over(
        self, conversation: Conversation, journal: Journal | None = None, loaded: Loaded | None = None
    ) -> None:
        """See `SavedConversation.start_over`."""
        super().start_over(conversation, journal, loaded)
        self.last = None
        self._dropped = 0

    def clear(self) -> None:
        """Begin a new conversation and journal; the opening stays. Raises BchatError: see `start_over`."""
        self.start_over(Conversation(self.conversation.opening))

    def continue_from(self, loaded: Loaded, journal: Journal | None = None) -> None:
        """Continue a conversation read from a file, in `journal` or in a new one that begins with a copy.

        Raises BchatError: see `start_over`.
        """
        self.start_over(loaded.conversation, journal, loaded)


def sent_to_model(conversation: Conversation, format: PromptFormat) -> Conversation:
    """Return the turns that a prompt holds. An empty reply would teach the model silence, so its turn is left out.

    A base model continues one text: every turn belongs to it, a persona does not.
    """
    if format.kind == "plain":
        return Conversation((), conversation.turns)
    turns = tuple(turn for turn in conversation.turns if turn.reply or turn.finish is FinishReason.STOP)
    return Conversation(conversation.opening, turns)
