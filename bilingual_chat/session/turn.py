"""What one turn is made of beside the reply itself: what was asked, what is kept of it, what is said of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import count
from typing import Any

from bilingual_chat.engines.protocol import Chunk
from bilingual_chat.messages import Phrase
from bilingual_chat.session.loops import LoopDetector
from bilingual_chat.session.model import Completion, Model
from bilingual_chat.settings.decoding import DecodingParameters
from bilingual_chat.text.conversation import Conversation, FinishReason, Turn
from bilingual_chat.text.detokenizer import Detokenizer
from bilingual_chat.text.prompt import Prompt, PromptFormat


@dataclass(frozen=True)
class Asked:
    """A message that can be answered, and everything that its reply depends on."""

    model: Model
    text: str
    prompt: Prompt
    parameters: DecodingParameters
    preset: str
    replaces: Turn | None = None  # the turn whose place the reply takes


def told(conversation: Conversation, format: PromptFormat) -> Conversation:
    """The conversation as the model is told it: a reply that never began would teach it silence.

    Not where all is one text: what was typed belongs to it, continued or not. A persona does not.
    """
    if format.kind == "plain":
        return Conversation((), conversation.turns)
    said = tuple(turn for turn in conversation.turns if turn.reply or turn.finish is FinishReason.STOP)
    return Conversation(conversation.opening, said)


def left_out(told: Prompt) -> dict[str, int]:
    """What a transcript says of it."""
    dropped = {"dropped_turns": told.dropped_turns}
    return dropped | ({"dropped_characters": told.dropped_characters} if told.dropped_characters else {})


def why_it_ends(chunk: Chunk, detokenizer: Detokenizer, loop: LoopDetector) -> FinishReason | None:
    """The reason, if the reply ends with this chunk."""
    if detokenizer.stopped:
        return FinishReason.STOP
    if chunk.finish is not FinishReason.STOP and loop.push(chunk.token_id):
        return FinishReason.REPETITION
    return chunk.finish


def remarks_after(completion: Completion) -> Iterator[Phrase]:
    parameters = completion.parameters
    if completion.finish is FinishReason.REPETITION:
        yield Phrase("session.repetition", penalty=f"{min(max(1.2, parameters.repetition_penalty + 0.1), 10):.3g}")
    elif completion.finish is FinishReason.STOP and not completion.reply.strip():
        yield Phrase("session.silent")
    elif completion.finish is FinishReason.LENGTH and parameters.min_new_tokens < parameters.max_new_tokens:
        is_cut = len(completion.reply_ids) >= parameters.max_new_tokens
        yield Phrase("session.length") if is_cut else Phrase("session.full")


def details_of(asked: Asked, completion: Completion) -> dict[str, Any]:
    """What a transcript says of a reply."""
    settings = asdict(completion.parameters)
    return {
        **completion.model,
        "settings": settings,
        "seed": settings["seed"],
        "preset": asked.preset,
        "usage": completion.usage,
        "timings": completion.timings,
        **left_out(completion.prompt),
    }


def remark_on_same(last: Completion, before: Turn) -> Iterator[Phrase]:
    """Why a reply that was asked for again is the same, and how to get another."""
    if last.reply != before.reply:
        return
    if last.parameters.temperature == 0:
        yield Phrase("session.same-again")
    elif last.parameters.seed == before.details.get("seed"):
        had = [reply.details.get("seed") for reply in before.replies]
        seed = last.parameters.seed or 0
        other = next(each for step in count(1) if (each := (seed + step) % 2**63) not in had)
        yield Phrase("session.same-seed", seed=seed, other=other)
