"""A conversation as read from a file, and its header."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any

from bilingual_chat import __version__
from bilingual_chat.messages.errors import BchatError
from bilingual_chat.text.conversation import Conversation, Turn, Utterance

CONTINUES = "continues"  # a field of the header
_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Header:
    """The id of a transcript, its time, its model, and the versions of the programs."""

    id: str
    created: str  # ISO 8601 with an offset from UTC
    model: str
    bchat: str  # version
    versions: Mapping[str, str] = field(default_factory=lambda: _NOTHING)  # library name → version


@dataclass(frozen=True)
class Loaded:
    """A conversation as read from a file, or about to be written to one.

    pending_user: the last message, if it has no reply; pending_replies: replies to it, none of them chosen.
    details, opening_details: fields of the header and of the opening's utterances that this version does not know.
    They are written again; an opening's only as long as its utterance is unchanged.
    problems: damage that was repaired or left out, to be shown to the user.
    """

    header: Header
    conversation: Conversation
    problems: tuple[BchatError, ...] = ()
    pending_user: str | None = None
    details: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)
    opening_details: tuple[tuple[Utterance, Mapping[str, Any]], ...] = ()
    events: tuple[Mapping[str, Any], ...] = ()  # of a journal: {"at", "kind", "details"}
    pending_replies: tuple[Turn, ...] = ()

    @property
    def continues(self) -> str:
        """The id of the earlier journal with the oldest turns; "" if there is none."""
        earlier = self.details.get(CONTINUES)
        return earlier if isinstance(earlier, str) else ""


def new_header(model: str, versions: Mapping[str, str] = _NOTHING) -> Header:
    """Return the header of a conversation that begins now. Its id sorts by time and names its journal."""
    now = datetime.now().astimezone()
    name = f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
    return Header(name, now.isoformat(timespec="seconds"), model, __version__, versions)
