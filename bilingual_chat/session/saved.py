"""The conversation in memory and its journal: every change is recorded before the method returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.session.model import versions
from bilingual_chat.settings.catalogue import ModelEntry
from bilingual_chat.text.conversation import Conversation, Turn, Utterance
from bilingual_chat.text.prompt import PromptFormat
from bilingual_chat.transcript.journal import Journal
from bilingual_chat.transcript.loaded import Header, Loaded, new_header

P = ParamSpec("P")


class SavedConversation:
    """A conversation, saved at every step. `session.Session` adds the model that answers.

    A record that cannot be written becomes a Phrase; the journal tries again with the next record.
    `directory` is the journal's; None keeps no journal.
    """

    conversation: Conversation
    pending: str | None  # the last message, if it has no reply yet
    _pending_replies: tuple[Turn, ...]  # replies to `pending`, none of them chosen
    _earlier_choices: list[Turn]  # for /undo: the replies chosen before, and replies before they were continued
    _header: Header
    _loaded_from: Loaded | None
    _journal: Journal | None

    def __init__(self, entry: ModelEntry, directory: Path | None, opening: tuple[Utterance, ...]) -> None:
        self.entry = entry
        self._directory = directory
        self._begin(Conversation(opening))

    @property
    def format(self) -> PromptFormat:
        """The prompt format of the model in force, known before the model is loaded."""
        return self.entry.prompt

    @property
    def is_completing(self) -> bool:
        """Return True for a base model: it continues one text, to which each message is appended."""
        return self.format.kind == "plain"

    @property
    def last_message(self) -> str:
        """The user's last message, answered or not. Raises BchatError if there is none."""
        return self.pending if self.pending is not None else self.last_turn.user

    @property
    def last_turn(self) -> Turn:
        if not self.conversation.turns:
            raise BchatError("session.nothing-to-undo", status=ExitStatus.USAGE)
        return self.conversation.turns[-1]

    def require_reply(self) -> Turn:
        """Return the last turn if it answers the last message. Raises BchatError if there is no reply to continue."""
        if self.pending is not None:
            raise BchatError("session.nothing-to-continue", status=ExitStatus.USAGE)
        return self.last_turn

    # -- messages and turns ---------------------------------------------------------------------------

    def save_message(self, text: str) -> Phrase | None:
        """Save a message before its reply begins. Return the reason if that failed."""
        if self._journal is not None and self._journal.is_full and self.is_saved:
            full = self._header.id
            self.close()
            self._header = new_header(self.entry.name, versions())
            self._journal = self._new_journal(continues=full)
        self._pending_replies = self._pending_replies if text == self.pending else ()
        self.pending = text
        return self._save(Journal.record_user, text)

    def save_refused(self, text: str, *, was_recorded: bool) -> None:
        """Save the length and the beginning of a message that is too long."""
        self._save(Journal.record_refused, text, was_recorded=was_recorded)

    def save_turn(self, turn: Turn, replaces: Turn | None = None, *, extends: bool = False) -> Phrase | None:
        """Save a turn that has ended; `replaces` is the last turn if it is another reply to the same message.

        `extends`: it is the same reply, continued. An incomplete reply does not replace a complete one; it is kept
        beside it. Return the reason if saving failed.
        """
        before = self.conversation if replaces is None else self.conversation.without_last_turn()
        if extends and replaces is not None:
            if turn.reply == replaces.reply and (not turn.is_whole or turn.finish is replaces.finish):
                return None  # nothing came
            self._earlier_choices.append(replaces.alone())
            turn = turn.after(replaces.others)
            return self._set_last(before.with_turn(turn), turn.alone(), is_replaced=True, extends=True)
        if replaces is not None and turn.user == replaces.user and replaces.is_whole and not turn.is_whole:
            if turn.reply == turn.details.get("begin", ""):
                return None
            self._earlier_choices.append(replaces.alone())
            self.conversation = before.with_turn(replaces.beside((turn,)))
            return self._save(Journal.record_reply, turn)
        self._earlier_choices = [] if replaces is None else [*self._earlier_choices, replaces.alone()]
        earlier = self._pending_replies if replaces is None else replaces.replies
        return self._set_last(before.with_turn(turn.after(earlier)), turn, is_replaced=replaces is not None)

    def undo(self) -> Turn:
        """Remove the last turn and return it. Raises BchatError if there is none."""
        turn = self.last_turn
        self.conversation = self.conversation.without_last_turn()
        self._forget_pending()
        self._save(Journal.record_undo)
        return turn

    def open_with(self, opening: tuple[Utterance, ...]) -> None:
        """Replace the opening (the persona); the turns stay."""
        self.conversation = self.conversation.with_opening(opening)
        self._save(Journal.record_opening, opening)

    def note(self, kind: str, details: Mapping[str, Any]) -> None:
        """Record an event of the conversation, such as changed settings."""
        self._save(Journal.record_event, kind, details)

    # -- the replies to the last message --------------------------------------------------------------

    @property
    def replies(self) -> tuple[Turn, ...]:
        """Every reply to the last message, the oldest first."""
        if self.pending is not None:
            return self._pending_replies
        return self.conversation.turns[-1].replies if self.conversation.turns else ()

    @property
    def chosen(self) -> int | None:
        """The index in `replies` of the conversation's reply. None if the last message has none yet."""
        return self.conversation.turns[-1].index if self.pending is None and self.conversation.turns else None

    def choose(self, index: int) -> Turn:
        """Make `replies[index]` the conversation's reply."""
        replies, chosen, before = self.replies, self.chosen, self.conversation
        turn = replies[index]
        if chosen is not None:
            self._earlier_choices.append(replies[chosen])
            before = before.without_last_turn()
        self._set_last(before.with_turn(turn.among(replies, index)), turn, is_replaced=chosen is not None)
        return turn

    def step_back(self) -> Turn | None:
        """Undo the last retry, edit or choice: choose the earlier reply. Return None if there was none.

        The journal does not keep these steps: after /resume or /load, /undo removes the whole turn.
        """
        if not self._earlier_choices or self.pending is not None:
            return None
        turn, replies = self._earlier_choices.pop(), self.replies
        if turn in replies:
            self.choose(replies.index(turn))
            self._earlier_choices.pop()
        else:  # it was continued since; the longer reply becomes another one
            last = self.conversation.without_last_turn().with_turn(turn.after(replies))
            self._set_last(last, turn, is_replaced=True)
        return turn

    def add_replies(self, replies: tuple[Turn, ...]) -> None:
        """Add replies to the last message that are not chosen."""
        if self.pending is not None:
            self._pending_replies += replies
        else:
            self.conversation = self.conversation.without_last_turn().with_turn(self.last_turn.beside(replies))
        for reply in replies:
            self._save(Journal.record_reply, reply)

    # -- the file -------------------------------------------------------------------------------------

    @property
    def ids(self) -> frozenset[str]:
        """The ids of this conversation: its own, and that of the file it was loaded from."""
        return frozenset({self._header.id} | ({self._loaded_from.header.id} if self._loaded_from else set()))

    @property
    def journal_path(self) -> Path | None:
        return self._journal.path if self._journal else None

    @property
    def is_saved(self) -> bool:
        """Return True if every turn is on disk."""
        return self._journal is not None and not self._journal.unsaved

    def snapshot(self) -> Loaded:
        """Return the conversation as a file holds it, for /save and /export."""
        return replace(
            self._loaded_from or Loaded(self._header, self.conversation),
            header=self._header,
            conversation=self.conversation,
            pending_user=self.pending,
            pending_replies=self._pending_replies,
            problems=(),
        )

    def start_over(
        self, conversation: Conversation, journal: Journal | None = None, loaded: Loaded | None = None
    ) -> None:
        """Replace the conversation, by one `loaded` from a file if given; a new journal begins unless one is given.

        Raises BchatError if the present conversation is not saved and still cannot be: it stays in force.
        """
        if self._journal is not None and self._journal.unsaved:
            self._journal.record_event("closed")  # also writes the waiting records, or raises
        self.close()
        self._begin(conversation, journal, loaded)

    def close(self) -> None:
        """Close the journal, after a last attempt to write the waiting records. Raises BchatError if that fails."""
        if self._journal is not None:
            journal, self._journal = self._journal, None
            journal.close()

    def _begin(self, conversation: Conversation, journal: Journal | None = None, loaded: Loaded | None = None) -> None:
        self.conversation = conversation
        self._forget_pending()
        if loaded is not None:
            self.pending, self._pending_replies = loaded.pending_user, loaded.pending_replies
        self._loaded_from = loaded
        self._header = loaded.header if loaded and journal else new_header(self.entry.name, versions())
        self._journal = journal or self._new_journal()

    def _forget_pending(self) -> None:
        self.pending = None
        self._pending_replies = ()
        self._earlier_choices = []

    def _set_last(
        self, conversation: Conversation, turn: Turn, *, is_replaced: bool, extends: bool = False
    ) -> Phrase | None:
        self.conversation = conversation
        self.pending, self._pending_replies = None, ()
        return self._save(Journal.record_turn, turn, replaces=is_replaced, extends=extends)

    def _new_journal(self, continues: str = "") -> Journal | None:
        if self._directory is None:
            return None
        return Journal.create(self._directory, self._header, self.conversation, continues=continues)

    def _save(
        self, record: Callable[Concatenate[Journal, P], None], *args: P.args, **kwargs: P.kwargs
    ) -> Phrase | None:
        if self._journal is None:
            return None
        try:
            record(self._journal, *args, **kwargs)
        except BchatError as error:
            return error.phrase
        return None
