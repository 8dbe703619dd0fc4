"""One reply while it is generated: its request, its end, its details in a transcript, remarks about it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from typing import Any

from bilingual_chat.engines.protocol import Chunk, Progress
from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError
from bilingual_chat.session.loops import LoopDetector
from bilingual_chat.session.model import Completion, Model
from bilingual_chat.settings.decoding import DecodingParameters, as_record, filter_order
from bilingual_chat.storage.checksums import short_digest
from bilingual_chat.text.conversation import FinishReason, Turn
from bilingual_chat.text.prompt import Prompt
from bilingual_chat.transcript import probabilities


@dataclass(frozen=True)
class Request:
    """A message, and everything that its reply depends on."""

    model: Model
    message: str
    prompt: Prompt
    parameters: DecodingParameters
    preset: str
    source: Turn | None = None  # the reply whose tokens the prompt ends with
    extends: bool = False  # the reply is `source`, continued


class RunningReply:
    """One reply while it is generated. State: its tokens, its text, and how it ended: FAILED until it has."""

    is_done = False

    def __init__(self, request: Request) -> None:
        self._request = request
        self._detokenizer = request.model.detokenizer(request.prompt.beginning)
        self._detokenizer.also_stop_at(request.parameters.stop)
        self.begun = self._detokenizer.text  # the part that exists already
        self._loop = LoopDetector()
        self._chunks: list[Chunk] = []
        self._cached_tokens = 0
        self._began = time.perf_counter()
        self._first_token_s: float | None = None
        self._total_s = 0.0
        self._finish = FinishReason.FAILED

    def generate(self, on_prefill: Progress | None) -> Iterator[str]:
        """Run the engine; yield the text in pieces of complete characters, first the part that exists already."""
        request = self._request
        if self.begun:
            yield self.begun
        self._began = time.perf_counter()
        chunks = request.model.engine.complete(request.prompt.ids, request.parameters, on_prefill)
        with closing(chunks):
            for chunk in chunks:
                if piece := self.add(chunk):
                    yield piece
                if self.is_done:
                    return
        raise BchatError("session.broke-off")

    def add(self, chunk: Chunk) -> str:
        """Add a token and return the text that it completes. `is_done` is True after the last token."""
        self._total_s = time.perf_counter() - self._began
        if self._first_token_s is None:
            self._first_token_s = self._total_s
        self._cached_tokens = chunk.cached_tokens
        self._chunks.append(chunk)
        piece = self._text_of(chunk)
        finish = self._finish_at(chunk)
        if finish is not None:
            self._finish, self.is_done = finish, True
        return piece

    def stopped_by(self, error: BaseException) -> None:
        """Report the exception that ends the reply: a failure, or an interrupt."""
        self._total_s = time.perf_counter() - self._began
        self._finish = FinishReason.FAILED if isinstance(error, Exception) else FinishReason.INTERRUPTED

    def completed(self) -> Completion:
        """Return the result of a reply that has ended."""
        return Completion(
            self._request.model.record,
            self._request.prompt,
            self._detokenizer.text,
            tuple(each.token_id for each in self._chunks if each.finish is not FinishReason.STOP),
            self._finish,
            self._request.parameters,
            self._cached_tokens,
            self._first_token_s,
            self._total_s,
            tuple(self._chunks),
        )

    def _text_of(self, chunk: Chunk) -> str:
        if chunk.finish is FinishReason.STOP:
            # Only here: a reply that is cut drops the text held back, which is part of a label or of a character.
            return self._detokenizer.finish()
        return self._detokenizer.push(chunk.token_id)

    def _finish_at(self, chunk: Chunk) -> FinishReason | None:
        """Return the reason if the reply ends with this chunk."""
        if self._detokenizer.stopped:
            return FinishReason.STOP
        if chunk.finish is not FinishReason.STOP and self._loop.push(chunk.token_id):
            return FinishReason.REPETITION
        return chunk.finish


def turn_of(request: Request, completion: Completion) -> Turn:
    """Return the turn to be saved: message, reply, and the details that a transcript records."""
    settings = as_record(completion.parameters)
    details = {
        **completion.model,
        "settings": settings,
        "filters": list(filter_order(completion.parameters)),
        "seed": settings["seed"],
        "preset": request.preset,
        "prompt_digest": digest_ids(completion.prompt.ids),
        "usage": completion.usage,
        "timings": completion.timings,
        **dropped_details(completion.prompt),
        **_beginning_details(request, completion),
        **probabilities.pack(_chunks_of(request, completion)),
    }
    return Turn(request.message, completion.reply, completion.finish, details)


def _chunks_of(request: Request, completion: Completion) -> tuple[Chunk, ...]:
    """Return the tokens of the whole reply, those kept of an earlier one included."""
    earlier = probabilities.unpack(request.source.details) if request.source else ()
    return probabilities.continued(earlier, completion.prompt.beginning.ids, completion.chunks)


def digest_ids(ids: Iterable[int]) -> str:
    """Return a digest of token ids. A record has it instead of the prompt, which the conversation rebuilds."""
    return short_digest(" ".join(map(str, ids)).encode())


def _beginning_details(request: Request, completion: Completion) -> dict[str, Any]:
    """Return the details of a reply's beginning, and the ids after the words that the user set."""
    beginning = completion.prompt.beginning
    details: dict[str, Any] = {"begin": beginning.given} if beginning.given else {}
    if beginning.text == beginning.given:
        details["reply_ids"] = [*beginning.ids, *completion.reply_ids]
    if beginning.ids:
        details["kept_tokens"] = len(beginning.ids)  # the first ones, of an earlier reply
    if request.extends and request.source is not None:
        earlier = request.source.details
        names = ("settings", "seed", "prompt_digest", "kept_tokens", "usage", "timings")
        part = {name: earlier[name] for name in names if name in earlier}
        ended = {"characters": len(request.source.reply), "finish_reason": request.source.finish.value}
        details["parts"] = [*earlier.get("parts", ()), {**ended, **part}]
    return details


def dropped_details(prompt: Prompt) -> dict[str, int]:
    """Return the details that say how much of the conversation was not sent to the model."""
    dropped = {"dropped_turns": prompt.dropped_turns}
    return dropped | ({"dropped_characters": prompt.dropped_characters} if prompt.dropped_characters else {})


def remarks_after(completion: Completion, replaced: Turn | None, extended: Turn | None = None) -> Iterator[Phrase]:
    """Yield remarks about how a reply ended, and about one that equals the reply it was to replace or extend."""
    parameters = completion.parameters
    if completion.finish is FinishReason.REPETITION:
        yield Phrase("session.repetition", penalty=f"{min(max(1.2, parameters.repetition_penalty + 0.1), 10):.3g}")
    elif completion.finish is FinishReason.STOP and completion.prompt.beginning and not completion.reply_ids:
        yield Phrase("session.nothing-added")
    elif completion.finish is FinishReason.STOP and extended is not None and completion.reply == extended.reply:
        yield Phrase("session.stopped-at-once")
    elif completion.finish is FinishReason.STOP and not completion.reply.strip():
        yield Phrase("session.silent")
    elif completion.finish is FinishReason.LENGTH and parameters.min_new_tokens < parameters.max_new_tokens:
        is_cut = len(completion.reply_ids) >= parameters.max_new_tokens
        yield Phrase("session.length") if is_cut else Phrase("session.full")
    if replaced is None or completion.reply != replaced.reply:
        return
    if parameters.temperature == 0:
        yield Phrase("session.same-again")
    elif parameters.seed == replaced.details.get("seed"):
        used = [reply.details.get("seed") for reply in replaced.replies]
        seed = parameters.seed or 0
        other = next(each for step in count(1) if (each := (seed + step) % 2**63) not in used)
        yield Phrase("session.same-seed", seed=seed, other=other)
