"""One message under several settings: all replies are computed together.

The prompt is computed once. The conversation stays as it is; the replies are kept beside its last reply, and
`Variant.parameters`, seed included, give the same reply again.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass

from bilingual_chat.messages.errors import BchatError
from bilingual_chat.session.model import Completion
from bilingual_chat.session.session import Session
from bilingual_chat.session.turn import Request, RunningReply, turn_of
from bilingual_chat.settings.decoding import DecodingParameters, as_record
from bilingual_chat.text.conversation import FinishReason

MAX_REPLIES = 8  # at a time


@dataclass(frozen=True)
class Variant:
    """Decoding parameters, seed included, with the label that the user sees."""

    label: str
    parameters: DecodingParameters
    preset: str = ""  # its name, if the variant is based on one


@dataclass(frozen=True)
class ReplyPiece:
    """The next text of the reply to the variant `index`."""

    index: int
    text: str


@dataclass(frozen=True)
class ReplyEnd:
    """The end of a reply. `same_as`: the index of another reply with the same text that ended before."""

    index: int
    finish: FinishReason
    tokens: int
    seconds: float  # since the comparison began
    same_as: int | None


def compare(session: Session, variants: Sequence[Variant]) -> Generator[ReplyPiece | ReplyEnd, None, None]:
    """Answer the last message once for each variant. The events of different replies come in any order.

    However it ends, every reply with text is among the message's replies afterwards.
    Raises BchatError as `Session.reply` does, and if there is no message to answer.
    """
    model, prompt, message = session.model(), session.prompt_again(), session.last_message
    requests = [
        Request(model, message, prompt, each.parameters, each.preset or session.settings.preset) for each in variants
    ]
    replies = [RunningReply(each) for each in requests]
    try:
        yield from _generate(session, requests, replies)
    except BaseException as error:  # also Ctrl-C, a consumer that closes
        for reply in replies:
            if not reply.is_done:
                reply.stopped_by(error)
        raise
    finally:
        completions = [reply.completed() for reply in replies]
        session.note("compared", {"answers": [_record(*each) for each in zip(variants, completions, strict=True)]})
        turns = [turn_of(*each) for each in zip(requests, completions, strict=True)]
        session.add_replies(tuple(turn for turn in turns if turn.reply))


def _generate(
    session: Session, requests: Sequence[Request], replies: Sequence[RunningReply]
) -> Generator[ReplyPiece | ReplyEnd, None, None]:
    """Generate all replies together, until each has ended."""
    model, prompt = requests[0].model, requests[0].prompt
    ends: dict[str, int] = {}  # the replies that have ended, by text
    for index, running in enumerate(replies):
        if running.begun:
            yield ReplyPiece(index, running.begun)
    ended: set[int] = set()  # by a stop string or a loop, of which the engine does not know
    prompts, parameters = [prompt.ids] * len(requests), [each.parameters for each in requests]
    with closing(
        model.engine.complete_many(prompts, parameters, session.on_prefill, unwanted=ended, is_exact=True)
    ) as chunks:
        for index, chunk in chunks:
            if piece := replies[index].add(chunk):
                yield ReplyPiece(index, piece)
            if replies[index].is_done:
                ended.add(index)
                reply = replies[index].completed()
                same_as = ends.setdefault(reply.reply, index)
                same = same_as if same_as != index else None
                yield ReplyEnd(index, reply.finish, len(reply.reply_ids), reply.total_s, same)
            if all(each.is_done for each in replies):
                return
    raise BchatError("session.broke-off")


def _record(variant: Variant, completion: Completion) -> dict[str, object]:
    return {
        "label": variant.label,
        "settings": as_record(completion.parameters),
        "reply": completion.reply,
        "completion_tokens": len(completion.reply_ids),
        "finish_reason": completion.finish.value,
    }
