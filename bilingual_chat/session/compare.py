"""One message under several settings: the replies are computed together and shown one after the other.

The prompt is read once. The conversation goes on as it was; what was compared is kept beside its last
reply, and `Variant.parameters`, seed included, give the same reply again.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field

from bilingual_chat.engines.protocol import Chunk
from bilingual_chat.messages import Phrase
from bilingual_chat.session.model import Model
from bilingual_chat.session.session import Event, Session
from bilingual_chat.settings.decoding import DecodingParameters
from bilingual_chat.text.conversation import FinishReason, Turn
from bilingual_chat.text.detokenizer import Detokenizer
from bilingual_chat.text.prompt import Prompt

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


def compare(session: Session, variants: Sequence[Variant]) -> Generator[Event, None, None]:
    """Answer the last message once for each variant: a heading (Phrase), then its reply in pieces (str).

    The reply in front streams; those behind it are computed meanwhile and appear as soon as it has ended.
    However it ended, what was said is among the message's replies afterwards.
    Raises BchatError as `Session.reply` does, and where there is no message to answer.
    """
    model, prompt = session.model(), session.prompt_again()
    answers = [_Answer(each, model.tokenizer.detokenizer(model.format)) for each in variants]
    wanted = [each.parameters for each in variants]
    front = -1
    try:
        with closing(model.engine.complete_many(prompt.ids, wanted, session.on_prefill)) as chunks:
            for at, chunk in chunks:
                answers[at].take(chunk)
                while front < 0 or (answers[front].finish is not None and front + 1 < len(answers)):
                    if front >= 0:
                        yield from _ended(answers, front)
                    front += 1
                    yield Phrase("compare.variant", number=front + 1, label=answers[front].variant.label)
                yield from _taken(answers[front])
        yield from _ended(answers, front)
    finally:
        session.note("compared", {"answers": [_record(each) for each in answers]})
        turns = [_turn(session, model, prompt, each) for each in answers if each.detokenizer.text]
        session.add_replies(tuple(turns))


def _ended(answers: Sequence[_Answer], at: int) -> Generator[Event, None, None]:
    """The rest of a reply, and which earlier one says the same."""
    yield from _taken(answers[at])
    text = answers[at].detokenizer.text
    same = [number for number, each in enumerate(answers[:at], start=1) if each.detokenizer.text == text]
    if same:
        yield Phrase("compare.same", number=same[0])


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


def _turn(session: Session, model: Model, prompt: Prompt, answer: _Answer) -> Turn:
    """One answer as a reply to the last words."""
    settings = asdict(answer.variant.parameters)
    details = {
        **model.record,
        "settings": settings,
        "seed": settings["seed"],
        "preset": answer.variant.preset or session.settings.preset,
        "usage": {"prompt_tokens": len(prompt.ids), "completion_tokens": answer.tokens},
    }
    return Turn(session.last_message, answer.detokenizer.text, answer.finish or FinishReason.INTERRUPTED, details)
