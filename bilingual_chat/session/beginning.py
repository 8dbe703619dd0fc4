"""The beginning of a reply that continues an earlier one: /continue and /branch. See `text.prompt.Beginning`."""

from __future__ import annotations

from collections.abc import Sequence

from bilingual_chat.session.model import Model
from bilingual_chat.text.conversation import Turn
from bilingual_chat.text.prompt import Beginning


def given_by_user(text: str) -> Beginning:
    """Return the beginning of a reply whose first words are `text` (/begin)."""
    return Beginning(text, given=text)


def whole_reply(turn: Turn, model: Model) -> Beginning:
    """Return the reply as a beginning: with its generated ids if they are known and still spell it, else encoded."""
    given = given_part(turn)
    ids = generated_ids(turn, model)
    return Beginning(turn.reply, given=given) if ids is None else Beginning(given, ids, given)


def given_part(turn: Turn) -> str:
    """Return the first words of a reply that the user set; "" if a file says something else."""
    given = turn.details.get("begin")
    return given if isinstance(given, str) and turn.reply.startswith(given) else ""


def generated_ids(turn: Turn, model: Model) -> tuple[int, ...] | None:
    """Return the recorded ids of a reply, if this model's tokenizer spells the reply with them.

    None for a reply that a stop string ended: its ids hold the stop string.
    """
    recorded = turn.details.get("reply_ids")
    if not isinstance(recorded, Sequence) or isinstance(recorded, str):
        return None
    ids = tuple(each for each in recorded if isinstance(each, int))
    try:
        detokenizer = model.detokenizer(Beginning(given_part(turn), ids))
    except (IndexError, OverflowError, ValueError):  # of another vocabulary
        return None
    if detokenizer.stopped or turn.reply not in (detokenizer.text, detokenizer.text + detokenizer.finish()):
        return None
    return ids
