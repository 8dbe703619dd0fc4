"""Conversations as files: the only room that writes the user's data.

`journal` is the append-only file that every conversation is saved in while it happens; `document`
is the one JSON file that `/save` writes and `/load` reads; `shelf` lists and searches journals;
`export` writes Markdown, HTML and JSONL. Below them: `replay` (journal bytes → conversation),
`shapes` (JSON values ↔ what is said), `jsontext` (JSON values ↔ bytes), `disk` and `lock`.

This file holds the two values they share.
"""

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
    """What a transcript says about itself: who answered, and with which programs."""

    id: str
    created: str  # ISO 8601 with an offset from UTC
    model: str
    bchat: str  # version
    versions: Mapping[str, str] = field(default_factory=lambda: _NOTHING)  # library name → version


@dataclass(frozen=True)
class Loaded:
    """A conversation as read from a file, or about to be written to one.

    `pending_user` is what the user said last, if a crash came before the reply (or the list ends
    there), and `pending_replies` are replies to it of which none was chosen. `details` are the
    header's fields that this version does not know; they are written again. So are those of an
    opening's utterance, as long as that utterance is unchanged; those of a reply are in its turn's
    details. `problems` are for the user to see; none has been raised.
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
        """The id of the earlier journal that holds the oldest turns; "" if there is none."""
        earlier = self.details.get(CONTINUES)
        return earlier if isinstance(earlier, str) else ""


def new_header(model: str, versions: Mapping[str, str] = _NOTHING) -> Header:
    """The header of a conversation that begins now; its id sorts by time and names its journal."""
    now = datetime.now().astimezone()
    name = f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
    return Header(name, now.isoformat(timespec="seconds"), model, __version__, versions)
