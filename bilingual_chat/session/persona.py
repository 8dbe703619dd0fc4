"""A persona as the model card has it: an opening exchange."""

from __future__ import annotations

import re

from bilingual_chat.conversation import Speaker, Utterance
from bilingual_chat.untrusted import inward

_JAPANESE = re.compile("[\u3040-\u30ff\u3400-\u9fff\uff66-\uff9f]")


def persona(text: str) -> tuple[Utterance, ...]:
    """An opening as the model card has it: the user says what the system is to be, the system agrees."""
    text = inward(text).strip()
    if not text:
        return ()
    agreed = (
        "はい、承知しました。何をお手伝いしましょうか。" if _JAPANESE.search(text) else "Sure, what can I do for you?"
    )
    return Utterance(Speaker.USER, text), Utterance(Speaker.SYSTEM, agreed)
