"""One message under several settings: the replies are computed together and shown one after the other.

The prompt is read once. Nothing of it becomes a part of the conversation; the journal keeps what was
compared, and `Variant.parameters`, seed included, give the same reply again.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field

from bilingual_chat.conversation import FinishReason
from bilingual_chat.decoding import DecodingParameters
from bilingual_chat.detokenizer import Detokenizer
from bilingual_chat.engines import Chunk
from bilingual_chat.messages import Phrase
from bilingual_chat.session import Event, Session

MOST = 8  # replies at a time


@dataclass(frozen=True)
class Variant:
    """Settings, seed included, under the name that the person gave them."""

    label: str
    parameters: DecodingParameters
    preset: str = ""  # the one that it is, if it is one


@dataclass
class _Answer:
    """What one variant has said so far. State: its detokenizer, what nobody has been shown yet, how it ended."""

    variant: Variant
    detokenizer: Detokenizer
    unshown: list[str] = field(default_factory=list)
    tokens: int = 0
    finish: FinishReason | None = None

    def take(self, chunk: Chunk) -> None:
        if self.finish is not None:  # after a stop string: the engine does not know that it is over
            return
        if chunk.finish is FinishReason.STOP:
            self.unshown.append(self.detokenizer.finish())
        else:
            self.tokens += 1
            self.unshown.append(self.detokenizer.push(chunk.token_id))
        self.finish = FinishReason.STOP if self.detokenizer.stopped else chunk.finish


def compare(
    session: Session, variants: Sequence[Variant], shown_whole: Callable[[Variant], None] = lambda variant: None
) -> Generator[Event, None, None]:
    """Answer the last message once for each variant: a heading (Phrase), then its reply in pieces (str).

    The reply in front streams; those behind it are computed meanwhile and appear as soon as it has ended.
    `shown_whole` is told each whose reply has been shown to its end.
    Raises BchatError as `Session.reply` does, and where there is no message to answer.
    """
    model, prompt = session.model(), session.prompt_again()
    answers = [_Answer(each, model.tokenizer.detokenizer(model.format)) for each in variants]
    wanted = [(each.parameters, each.parameters.seed or 0) for each in variants]
    front = -1
    try:
        with closing(model.engine.complete_many(prompt.ids, wanted, session.tell_reading)) as chunks:
            for at, chunk in chunks:
                answers[at].take(chunk)
                while front < 0 or (answers[front].finish is not None and front + 1 < len(answers)):
                    if front >= 0:
                        yield from _taken(answers[front])
                        shown_whole(answers[front].variant)
                    front += 1
                    yield Phrase("compare.variant", number=front + 1, label=answers[front].variant.label)
                yield from _taken(answers[front])
        if answers[front].finish is not None:
            shown_whole(answers[front].variant)
    finally:
        session.note("compared", {"answers": [_record(each) for each in answers]})


def _taken(answer: _Answer) -> Generator[str, None, None]:
    """What is to be shown now."""
    text, answer.unshown = "".join(answer.unshown), []
    if text:
        yield text


def _record(answer: _Answer) -> dict[str, object]:
    finish = answer.finish or FinishReason.INTERRUPTED
    return {
        "label": answer.variant.label,
        "settings": asdict(answer.variant.parameters),
        "reply": answer.detokenizer.text,
        "completion_tokens": answer.tokens,
        "finish_reason": finish.value,
    }
