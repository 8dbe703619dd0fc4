"""Generates recorded replies again and compares them token by token."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

from bilingual_chat.engines.protocol import Chunk
from bilingual_chat.explore.recorded import Recorded, Segment, facts_of
from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError
from bilingual_chat.session.model import Model
from bilingual_chat.session.session import sent_to_model
from bilingual_chat.session.turn import Request, RunningReply, digest_ids
from bilingual_chat.settings.decoding import filter_order
from bilingual_chat.text.conversation import FinishReason, Speaker, Utterance
from bilingual_chat.text.prompt import Beginning, Prompt

SHOWN = 20  # characters from a difference on
_UNFINISHED = (FinishReason.INTERRUPTED, FinishReason.FAILED)


@dataclass(frozen=True)
class Token:
    """One side of a difference. text None: the end of the reply.

    then, now: its probability under the unmodified distribution, as recorded and with this model; None if unknown.
    """

    text: str | None
    then: float | None
    now: float | None


@dataclass(frozen=True)
class Difference:
    """The first token that differs, counted from 1."""

    number: int
    recorded: Token
    now: Token


@dataclass(frozen=True)
class Verdict:
    """The result of a replay. `problem`: the reason why a reply differs, or cannot be generated again.

    tokens: compared; 0 if only the text was, since the record has no ids. facts: (name, recorded, now) of those that
    differ.
    """

    reply: Recorded
    tokens: int
    difference: Difference | None = None
    problem: Phrase | None = None
    facts: tuple[tuple[str, str, str], ...] = ()

    @property
    def is_identical(self) -> bool:
        return self.difference is None and self.problem is None


def replay(replies: Sequence[Recorded], model: Model, on_done: Callable[[], None] = lambda: None) -> list[Verdict]:
    """Generate `replies` again with `model`, and compare. `on_done` is called after each.

    Raises BchatError if the engine fails.
    """
    calls: list[_Call] = []
    problems: dict[int, Phrase] = {}
    for index, reply in enumerate(replies):
        try:
            calls += list(_calls_of(index, reply, model))
        except _Unfit as unfit:
            problems[index] = unfit.problem
            on_done()
    _generate(calls, model, is_exact=all(each.width == 1 for each in replies), on_done=on_done)
    verdicts = []
    for index, reply in enumerate(replies):
        own = [call for call in calls if call.index == index and index not in problems]
        verdicts.append(_verdict(reply, own, problems.get(index), model))
    return verdicts


class _Unfit(Exception):
    """A reply that cannot be generated again."""

    def __init__(self, problem: Phrase) -> None:
        super().__init__(problem.key)
        self.problem = problem


class _Call:
    """One segment of a reply, generated again. State: the reply in progress, its ids, the first difference."""

    def __init__(self, index: int, segment: Segment, text: str, prompt: Prompt, model: Model) -> None:
        """index: of the reply. text: of the reply with this segment, "" if it is not recorded."""
        self.index, self.segment, self.prompt = index, segment, prompt
        self.ids: list[int] = []
        self.differs_at: int | None = None  # the index of a token in the segment
        self.is_done = segment.ids == () and segment.finish in _UNFINISHED
        self._text = text
        self._reply = RunningReply(Request(model, "", prompt, segment.parameters, ""))

    @property
    def text(self) -> str:
        """The reply so far, with the segments before."""
        return self._reply.completed().reply

    def add(self, chunk: Chunk) -> None:
        """Compare a token. A difference ends the call, and so does the end of a reply that was interrupted."""
        self._reply.add(chunk)
        number, is_end = len(self.ids), chunk.finish is FinishReason.STOP
        if not is_end:
            self.ids.append(chunk.token_id)
        recorded = self.segment.ids
        if recorded is not None and recorded[number : number + 1] != (() if is_end else (chunk.token_id,)):
            self.differs_at, self.is_done = number, True
        elif self._reply.is_done or self._is_at_interrupt():
            self.is_done = True

    def _is_at_interrupt(self) -> bool:
        if self.segment.finish not in _UNFINISHED:
            return False
        if self.segment.ids is None:
            return len(self.text) >= len(self._text)
        return len(self.ids) == len(self.segment.ids)

    def problem(self) -> Phrase | None:
        """Return what differs although no token does."""
        now = self._reply.completed()
        is_unfinished = self.segment.finish in _UNFINISHED
        if self.segment.ids is None and now.reply[: len(self._text) if is_unfinished else None] != self._text:
            at = _first_difference(self._text, now.reply)
            recorded, replayed = (shown[at : at + SHOWN] for shown in (self._text, now.reply))
            return Phrase("replay.text", number=at + 1, recorded=recorded, now=replayed)
        if not is_unfinished and now.finish is not self.segment.finish:
            finishes = {"recorded": self.segment.finish, "now": now.finish}
            return Phrase("replay.finish", **{name: Phrase(f"finish.{each.value}") for name, each in finishes.items()})
        return None


def _first_difference(a: str, b: str) -> int:
    return next((index for index, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _calls_of(index: int, reply: Recorded, model: Model) -> Iterator[_Call]:
    """Yield a call for each segment: the recorded ids of the segments before belong to its prompt."""
    if not reply.segments:
        raise _Unfit(Phrase("replay.no-ids"))
    earlier = reply.kept
    for number, segment in enumerate(reply.segments, start=1):
        is_last = number == len(reply.segments)
        prompt = _prompt_of(reply, Beginning(reply.begin, earlier, reply.begin), model)
        _check(prompt.ids, segment, model)
        yield _Call(index, segment, reply.text if is_last else "", prompt, model)
        earlier += segment.ids or ()


def _prompt_of(reply: Recorded, beginning: Beginning, model: Model) -> Prompt:
    """Return the recorded prompt, or rebuild it as the session built it."""
    if reply.prompt_ids is not None:
        return Prompt("", reply.prompt_ids, beginning=beginning)
    sent, last = sent_to_model(reply.before, model.format), Utterance(Speaker.USER, reply.message)
    if model.format.kind == "plain":
        whole = "".join(each.text for each in (*sent.utterances(), last))
        return model.encode_prompt([Utterance(Speaker.USER, whole[reply.dropped :])], beginning)
    kept = [each for turn in sent.turns[reply.dropped :] for each in turn.utterances()]
    return model.encode_prompt([*sent.opening, *kept, last], beginning)


def _check(prompt: Sequence[int], segment: Segment, model: Model) -> None:
    """Raise _Unfit for a prompt that is not the recorded one, or that this model cannot read."""
    if segment.prompt_digest and digest_ids(prompt) != segment.prompt_digest:
        raise _Unfit(Phrase("replay.prompt"))
    if len(prompt) >= model.context_length:
        raise _Unfit(Phrase("engine.prompt-too-long", prompt=len(prompt), context=model.context_length))
    if not prompt or max([*prompt, *(segment.ids or ())]) >= model.tokenizer.vocab_size:
        raise _Unfit(Phrase("replay.vocabulary", size=model.tokenizer.vocab_size))


def _generate(calls: Sequence[_Call], model: Model, *, is_exact: bool, on_done: Callable[[], None]) -> None:
    """Generate all segments; those with one prompt are computed together."""
    waiting = [call for call in calls if not call.is_done]
    ended: set[int] = set()
    prompts, parameters = [call.prompt.ids for call in waiting], [call.segment.parameters for call in waiting]
    with closing(model.engine.complete_many(prompts, parameters, unwanted=ended, is_exact=is_exact)) as chunks:
        for index, chunk in chunks:
            if index in ended:
                continue
            waiting[index].add(chunk)
            if waiting[index].is_done:
                ended.add(index)
                on_done()
            if len(ended) == len(waiting):
                return


def _verdict(reply: Recorded, calls: Sequence[_Call], problem: Phrase | None, model: Model) -> Verdict:
    tokens = sum(len(call.segment.ids or ()) for call in calls)
    facts = tuple(_differing_facts(reply, model))
    if problem is not None:
        return Verdict(reply, 0, problem=problem, facts=facts)
    first = len(reply.kept)
    for call in calls:
        recorded = call.segment.ids
        at = call.differs_at
        if at is None and recorded is not None and len(call.ids) < len(recorded):
            at = len(call.ids)
        if at is not None:
            return Verdict(reply, first + at, _difference(reply, call, first, at, model), facts=facts)
        if (found := call.problem()) is not None:
            return Verdict(reply, tokens, problem=found, facts=facts)
        first += len(recorded or ())
    if calls[-1].segment.ids is not None and calls[-1].text != reply.text:
        return Verdict(reply, tokens, problem=Phrase("replay.edited"), facts=facts)
    if _is_prompt_edited(reply, model):
        return Verdict(reply, tokens, problem=Phrase("replay.edited-prompt"), facts=facts)
    return Verdict(reply, tokens)


def _is_prompt_edited(reply: Recorded, model: Model) -> bool:
    """Return True if the ids of the prompt do not spell its text. Special tokens of a template are not compared."""
    is_same_tokenizer = reply.facts.get("tokenizer") == facts_of(model.record).get("tokenizer")
    if not (reply.prompt and reply.prompt_ids and is_same_tokenizer) or model.format.kind == "template":
        return False
    decode, encode = model.tokenizer.decode, model.tokenizer.encode  # encoded first: a normaliser may change the text
    return decode(encode(reply.prompt)) != decode(reply.prompt_ids)


def _difference(reply: Recorded, call: _Call, first: int, at: int, model: Model) -> Difference:
    """Return the difference at token `at` of a segment whose first token is number `first` of the reply."""
    before = (call.segment.ids or ())[:at]
    recorded_id, now_id = (call.segment.ids or ())[at : at + 1], tuple(call.ids[at : at + 1])
    then = _recorded_probabilities(reply, first + at)
    now = _probabilities([*call.prompt.ids, *before], [*recorded_id, *now_id], model)

    def token(ids: tuple[int, ...]) -> Token:
        if not ids:
            return Token(None, None, None)
        text = model.tokenizer.decode([*before, *ids])[len(model.tokenizer.decode(before)) :]
        return Token(text, then.get(ids[0]), now.get(ids[0]))

    return Difference(first + at + 1, token(recorded_id), token(now_id))


def _recorded_probabilities(reply: Recorded, index: int) -> dict[int, float]:
    """Return the recorded probabilities of the token `index` and of the most likely ones in its place."""
    if index >= len(reply.probabilities):
        return {}
    chunk = reply.probabilities[index]
    known = [*chunk.top, (chunk.token_id, chunk.raw_logprob)]
    return {each: math.exp(min(logprob, 0)) for each, logprob in known if isinstance(logprob, int | float)}


def _probabilities(ids: list[int], wanted: list[int], model: Model) -> dict[int, float]:
    """Return the probabilities of `wanted` after `ids` under the unmodified distribution; none if there is no such."""
    try:
        *_, rows = model.engine.score(ids)
    except (BchatError, ValueError):
        return {}
    row = rows[-1].softmax(-1)
    return {each: float(row[each]) for each in wanted}


def _differing_facts(reply: Recorded, model: Model) -> Iterator[tuple[str, str, str]]:
    """Yield what is not as it was recorded; also a seed that is not the one of the settings."""
    now = facts_of(model.record)
    for name, value in reply.facts.items():
        if value != now.get(name, value):
            yield name, value, now[name]
    if not reply.segments:
        return
    parameters = reply.segments[-1].parameters
    if reply.seed not in (None, parameters.seed):
        yield "seed", str(reply.seed), str(parameters.seed)
    filters = " > ".join(filter_order(parameters))
    if reply.filters not in ("", filters):
        yield "filters", reply.filters, filters
