"""Requests and events of `/v1/completions` with token ids both ways, as vLLM has them.

vLLM without a tokenizer exits at an id that is not in the vocabulary, so every id is checked before it is sent.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from bilingual_chat.engines.protocol import Chunk
from bilingual_chat.engines.server.http import Client, Event
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.settings.decoding import DecodingParameters
from bilingual_chat.text.conversation import FinishReason

PATH = "/v1/completions"
TOP = 5  # the most likely tokens, as in `Chunk.top`
_TOKEN = re.compile("token_id:([0-9]{1,9})")
_SENT_AS = {
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "repetition_penalty": "repetition_penalty",
    "min_new_tokens": "min_tokens",
    "seed": "seed",
    "min_p": "min_p",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
}
# vLLM counts the tokens of prompt and reply for the first, of the reply alone for the others.
_SCOPE = {"repetition_penalty": "all", "presence_penalty": "reply", "frequency_penalty": "reply"}
_APPLIED_HERE = ("max_new_tokens", "stop", "penalty_scope")  # the first together with the context
_DEFAULTS = DecodingParameters()


def request_body(
    prompt_ids: Sequence[int], parameters: DecodingParameters, served_model: str, eos_id: int, most_tokens: int
) -> dict[str, Any]:
    """Return the body of a streamed request for at most `most_tokens` tokens.

    Raises BchatError (USAGE) for a setting that servers lack: another distribution would be sampled without a word.
    """
    for name, value in vars(parameters).items():
        if value == getattr(_DEFAULTS, name):
            continue
        if name not in _SENT_AS and name not in _APPLIED_HERE:
            raise BchatError("server.setting", status=ExitStatus.USAGE, name=name)
        if _SCOPE.get(name, parameters.penalty_scope) != parameters.penalty_scope:
            raise BchatError("server.scope", status=ExitStatus.USAGE, name=name, scope=_SCOPE[name])
    values = {sent: getattr(parameters, name) for name, sent in _SENT_AS.items()}
    return {
        "model": served_model,
        "prompt": list(prompt_ids),
        **{name: value for name, value in values.items() if value is not None},
        "max_tokens": most_tokens,
        "min_tokens": min(parameters.min_new_tokens, most_tokens),
        "stop_token_ids": [eos_id],
        "return_token_ids": True,
        "logprobs": TOP,
        "return_tokens_as_token_ids": True,  # in the log probabilities
        "stream": True,
    }


def score_body(ids: Sequence[int], served_model: str) -> dict[str, Any]:
    """Return the body of a request for the log probability of each of `ids`, not streamed: vLLM has it only so."""
    return {"model": served_model, "prompt": list(ids), "temperature": 0.0, "max_tokens": 1, "prompt_logprobs": 0}


def read_scores(client: Client, response: Mapping[str, Any], ids: Sequence[int]) -> list[float]:
    """Return the natural-log probability of each of `ids`, 0 for the first. Raises BchatError (MODEL)."""
    try:
        reported = response["choices"][0]["prompt_logprobs"]
        found = [float(at[str(each)]["logprob"]) for at, each in zip(reported[1:], ids[1:], strict=True)]
    except (KeyError, IndexError, TypeError, ValueError):
        raise client.error("server.not-understood") from None
    if not all(math.isfinite(value) and value <= 0.01 for value in found):
        raise client.error("server.not-understood")
    return [0.0, *found]


class Reply:
    """One reply while its events come in. State: the number of its tokens, and whether it has ended."""

    def __init__(
        self, client: Client, prompt_ids: Sequence[int], *, vocab_size: int, eos_id: int, most_tokens: int
    ) -> None:
        self.is_done = False
        self._client, self._prompt_ids = client, list(prompt_ids)
        self._vocab_size, self._eos_id, self._remaining = vocab_size, eos_id, most_tokens

    def take(self, event: Event | None) -> Iterator[Chunk]:
        """Yield the tokens of an event; None is the end of the response. Raises BchatError (MODEL).

        A reply is complete at a finish reason, at [DONE], or at its last permitted token.
        """
        if event is None:
            raise self._client.error("server.broke-off")
        if event.is_end:
            yield self._stop()
        elif choice := self._choice(event.data):
            yield from self._take_ids(self._ids(choice), choice)

    def _choice(self, data: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return the choice of an event; None if it has only the usage."""
        choices = data.get("choices")
        if choices == []:
            return None
        if not isinstance(choices, list) or not isinstance(choices[0], dict):
            raise self._client.error("server.not-understood")
        seen = choices[0].get("prompt_token_ids")
        if seen is not None and seen != self._prompt_ids:
            raise self._client.error("server.other-prompt")
        return choices[0]

    def _ids(self, choice: Mapping[str, Any]) -> list[int]:
        ids = choice.get("token_ids")
        if ids is None and not choice.get("text"):
            return []
        if not isinstance(ids, list):
            raise self._client.error("server.no-ids")
        for each in ids:
            if type(each) is not int or not 0 <= each < self._vocab_size:
                raise self._client.error("server.unknown-id", id=str(each)[:20], size=self._vocab_size)
        return ids

    def _take_ids(self, ids: Sequence[int], choice: Mapping[str, Any]) -> Iterator[Chunk]:
        finish = choice.get("finish_reason")
        if finish not in (None, "stop", "length"):
            raise self._client.error("server.gave-up", reason=str(finish)[:100])
        for place, each in enumerate(ids, start=1):
            is_last = place == len(ids)
            if each == self._eos_id or (is_last and finish == "stop"):
                yield replace(self._stop(each), **_probabilities(choice, place - 1, each))
                return
            self._remaining -= 1
            self.is_done = self._remaining == 0 or (is_last and finish == "length")
            end = FinishReason.LENGTH if self.is_done else None
            yield Chunk(each, None, 0, end, **_probabilities(choice, place - 1, each))
            if self.is_done:
                return
        if finish == "stop":
            yield self._stop()
        elif finish == "length":  # in an event of its own, before the length that was asked for
            raise self._client.error("server.gave-up", reason="length")

    def _stop(self, token_id: int | None = None) -> Chunk:
        self.is_done = True
        return Chunk(self._eos_id if token_id is None else token_id, None, 0, FinishReason.STOP)


def _probabilities(choice: Mapping[str, Any], place: int, token_id: int) -> dict[str, Any]:
    """Return raw_logprob, rank and top of the token at `place` of an event; nothing if the server's report is odd.

    vLLM reports the model's own distribution, before all settings, unless it was started with another --logprobs-mode.
    """
    try:
        reported = choice["logprobs"]["top_logprobs"][place]
        found = {int(_TOKEN.fullmatch(name)[1]): float(value) for name, value in reported.items()}  # type: ignore[index]
        own = found[token_id]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        return {}
    if not all(math.isfinite(value) and value <= 0.01 for value in found.values()) or len(found) > 2 * TOP:
        return {}
    top = tuple(sorted(found.items(), key=lambda pair: -pair[1])[:TOP])
    rank = next((number for number, pair in enumerate(top, start=1) if pair[0] == token_id), None)
    return {"raw_logprob": own, "rank": rank, "top": top}
