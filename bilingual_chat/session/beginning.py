"""The beginning of a reply that continues an earlier one: /continue and /branch. See `text.prompt.Beginning`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from bilingual_chat.engines.protocol import Chunk
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.session.model import Model
from bilingual_chat.settings.decoding import DecodingParameters
from bilingual_chat.text.conversation import Turn
from bilingual_chat.text.prompt import Beginning
from bilingual_chat.transcript import probabilities

CANDIDATES = 5
_ONE_TOKEN = DecodingParameters(temperature=0.0, max_new_tokens=1)


def given_by_user(text: str) -> Beginning:
    """Return the beginning of a reply whose first words are `text` (/begin)."""
    return Beginning(text, given=text)


def whole_reply(turn: Turn, model: Model) -> Beginning:
    """Return the reply as a beginning: with its generated ids if they are known and still spell it, else encoded."""
    given = given_part(turn)
    ids, is_stopped = _read_ids(turn, model)  # the ids before a stop string may hold a part of it
    return Beginning(turn.reply, given=given) if ids is None or is_stopped else Beginning(given, ids, given)


def kept_tokens(turn: Turn, model: Model, number: int) -> Beginning:
    """Return the reply in front of token `number` (from 1) as a beginning.

    Raises BchatError (USAGE): the ids of the reply are not known, or it has fewer tokens.
    """
    given, ids = given_part(turn), known_ids(turn, model)
    if ids is None:
        raise BchatError("branch.unknown", status=ExitStatus.USAGE)
    if not 1 <= number <= len(ids):
        raise BchatError("branch.token", status=ExitStatus.USAGE, number=number, most=len(ids))
    return Beginning(given, ids[: number - 1], given)


@dataclass(frozen=True)
class Candidate:
    """A token that the model could take. `probability` is that of the unmodified distribution, 0 to 1."""

    token_id: int
    probability: float


def recorded_candidates(turn: Turn, kept: Beginning) -> tuple[Candidate, ...]:
    """Return the likeliest tokens after the `kept` ones of a reply, as recorded, the best first; () if they are not."""
    chunks = probabilities.unpack(turn.details)
    number = len(kept.ids)
    is_known = number < len(chunks) and tuple(each.token_id for each in chunks[:number]) == kept.ids
    return _candidates(chunks[number]) if is_known else ()


def computed_candidates(ids: Sequence[int], model: Model) -> tuple[Candidate, ...]:
    """Return the likeliest tokens after the ids of a prompt. Raises BchatError (MODEL) if the engine reports none."""
    with closing(model.engine.complete(ids, _ONE_TOKEN)) as chunks:
        candidates = _candidates(next(chunks))
    if not candidates:
        raise BchatError("branch.no-candidates", status=ExitStatus.MODEL, name=model.entry.name)
    return candidates


def _candidates(chunk: Chunk) -> tuple[Candidate, ...]:
    return tuple(Candidate(token_id, math.exp(logprob)) for token_id, logprob in chunk.top)


def given_part(turn: Turn) -> str:
    """Return the first words of a reply that the user set; "" if a file says something else."""
    given = turn.details.get("begin")
    return given if isinstance(given, str) and turn.reply.startswith(given) else ""


def known_ids(turn: Turn, model: Model) -> tuple[int, ...] | None:
    """Return the recorded ids of a reply up to a stop string, if this model's tokenizer spells the reply with them."""
    ids, _ = _read_ids(turn, model)
    return ids


def _stop_strings(turn: Turn) -> list[str]:
    """Return the stop strings of the settings of a reply; a file may hold any value."""
    settings = turn.details.get("settings")
    stop = settings.get("stop") if isinstance(settings, Mapping) else None
    return [each for each in stop if isinstance(each, str)] if isinstance(stop, list | tuple) else []


def _read_ids(turn: Turn, model: Model) -> tuple[tuple[int, ...] | None, bool]:
    """Return the ids of `known_ids`, and True if a stop string follows them."""
    recorded = turn.details.get("reply_ids")
    if not isinstance(recorded, Sequence) or not all(isinstance(each, int) for each in recorded):
        return None, False
    detokenizer = model.detokenizer(Beginning(given_part(turn)))
    detokenizer.also_stop_at(_stop_strings(turn))
    try:
        for number, token_id in enumerate(recorded):
            detokenizer.push(token_id)
            if detokenizer.stopped:
                return (tuple(recorded[:number]) if detokenizer.text == turn.reply else None), True
    except (IndexError, OverflowError, ValueError):  # of another vocabulary
        return None, False
    is_spelled = turn.reply in (detokenizer.text, detokenizer.text + detokenizer.finish())
    return (tuple(recorded) if is_spelled else None), False
