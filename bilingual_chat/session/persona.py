"""A persona: the opening exchange of the model card, which gives the model its role."""

from __future__ import annotations

import re

from bilingual_chat.messages import Phrase
from bilingual_chat.settings.catalogue import ModelEntry
from bilingual_chat.text.conversation import Speaker, Utterance
from bilingual_chat.text.sanitize import inward

_JAPANESE = re.compile("[\u3040-\u30ff\u3400-\u9fff\uff66-\uff9f]")


def remark_on_persona(entry: ModelEntry, opening: tuple[Utterance, ...]) -> Phrase | None:
    """Return a remark on an opening that this model is not sent, or does not follow."""
    if not opening:
        return None
    if entry.prompt.kind == "plain":
        return Phrase("persona.not-told", name=entry.name)
    return None if entry.follows_persona else Phrase("persona.not-followed", name=entry.name)


def persona(text: str) -> tuple[Utterance, ...]:
    """Return the opening for a persona: the user describes the role, the system agrees. () for no text."""
    text = inward(text).strip()
    if not text:
        return ()
    agreed = (
        "はい、承知しました。何をお手伝いしましょうか。" if _JAPANESE.search(text) else "Sure, what can I do for you?"
    )
    return Utterance(Speaker.USER, text), Utterance(Speaker.SYSTEM, agreed)
