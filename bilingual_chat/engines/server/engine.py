"""The engine of a model on a server: implements `Engine` with concurrent requests."""

from __future__ import annotations

from collections.abc import Container, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bilingual_chat.engines.protocol import Chunk, Progress
from bilingual_chat.engines.server import completions
from bilingual_chat.engines.server.completions import Reply, read_scores, request_body, score_body
from bilingual_chat.engines.server.http import Client, Request, Results, events_of, fetch_object, make_client
from bilingual_chat.engines.server.schedule import Schedule
from bilingual_chat.messages.errors import BchatError
from bilingual_chat.settings.catalogue import ModelEntry
from bilingual_chat.settings.decoding import DecodingParameters
from bilingual_chat.settings.servers import Server
from bilingual_chat.settings.toml_tables import fold_name

if TYPE_CHECKING:
    from torch import Tensor

MOST_REQUESTS = 256  # at a time; vLLM computes as many together, and lets others wait


@dataclass(frozen=True)
class Vocabulary:
    """The ids of a tokenizer: other ids are refused both ways."""

    eos_id: int
    size: int


class ServerEngine:
    """A model on a server. One completion at a time, or many in one `complete_many`.

    Of the model's own distribution, a server reports the five most likely tokens; of that after the filters, nothing.
    """

    precision = "served"  # no server reports it
    most_requests = MOST_REQUESTS
    can_prefill = False

    def __init__(
        self, client: Client, vocabulary: Vocabulary, name: str, served_model: str, context_length: int
    ) -> None:
        """served_model: its name on the server."""
        self._client, self._name, self.served_model = client, name, served_model
        self._eos_id, self._vocab_size = vocabulary.eos_id, vocabulary.size
        self._context_length = context_length

    @property
    def name(self) -> str:
        return self._name

    @property
    def weight(self) -> float:
        """The share of the work that this server gets, beside that of other servers."""
        return self._client.server.weight

    @property
    def context_length(self) -> int:
        """The positions that the server allows."""
        return self._context_length

    @property
    def device_name(self) -> str:
        """The address of the server."""
        return self._client.server.url

    def complete(
        self, prompt_ids: Sequence[int], parameters: DecodingParameters, progress: Progress | None = None
    ) -> Generator[Chunk, None, None]:
        """See `Engine.complete`. Raises BchatError (MODEL): the server fails or is late; ValueError for wrong ids."""
        with closing(self.complete_many([prompt_ids], [parameters])) as chunks:
            for _, chunk in chunks:
                yield chunk

    def complete_many(
        self,
        prompts: Sequence[Sequence[int]],
        requests: Sequence[DecodingParameters],
        progress: Progress | None = None,
        *,
        unwanted: Container[int] = frozenset(),
        width: int = MOST_REQUESTS,
        is_exact: bool = False,
    ) -> Generator[tuple[int, Chunk], None, None]:
        """See `Engine.complete_many`. Raises as `complete` does; one failure ends all replies.

        No server promises the same reply beside other replies: `is_exact` changes nothing.
        """
        self.check_prompts(prompts)
        yield from Schedule([self], prompts, requests, unwanted=unwanted, width=width).run()

    def prefill(self, ids: Sequence[int]) -> Iterator[int]:
        """Do nothing: a server caches prefixes by itself."""
        return iter(())

    def score(self, ids: Sequence[int]) -> Iterator[Tensor]:
        """Raise BchatError (MODEL): servers do not report whole distributions."""
        raise self._client.error("server.no-distribution")

    def score_continuations(
        self, prompt_ids: Sequence[int], continuations: Sequence[Sequence[int]]
    ) -> Iterator[list[float]]:
        """See `Engine.score_continuations`; one request for each. Raises as `complete` does."""
        sequences = [[*prompt_ids, *ids, self._eos_id] for ids in continuations]
        self.check_prompts(sequences)
        for sequence in sequences:
            request = Request(self._client, completions.PATH, score_body(sequence, self.served_model))
            with closing(events_of(request)) as events:
                logprobs = read_scores(self._client, next(events).data, sequence)
            yield logprobs[len(prompt_ids) :]

    def check(self) -> None:
        """Compute one token. Raises BchatError (MODEL): no ids in the response, a smaller vocabulary on the server.

        A stop id that is not in the server's vocabulary is refused by vLLM; in a prompt it would end the server.
        """
        parameters = DecodingParameters(temperature=0.0, max_new_tokens=1)
        body = request_body([self._eos_id], parameters, self.served_model, self._eos_id, 1)
        body["stop_token_ids"] = [self._eos_id, self._vocab_size - 1]
        reply = self._reply([self._eos_id], 1)
        with closing(events_of(Request(self._client, completions.PATH, body))) as events:
            while not reply.is_done:
                list(reply.take(next(events, None)))

    def check_prompts(self, prompts: Iterable[Sequence[int]]) -> None:
        """Raise BchatError if a prompt fills the context, ValueError for ids outside the vocabulary."""
        for ids in prompts:
            if not ids or min(ids) < 0 or max(ids) >= self._vocab_size:  # a server may exit at such an id
                raise ValueError("at least one id is needed, each within the tokenizer's vocabulary")
            if len(ids) >= self._context_length:
                raise BchatError("engine.prompt-too-long", prompt=len(ids), context=self._context_length)

    def prepare(
        self, number: int, prompt_ids: Sequence[int], parameters: DecodingParameters, results: Results
    ) -> tuple[Request, Reply]:
        """Return a request and its reply, not yet sent. Raises BchatError (USAGE) for a setting that servers lack."""
        ids, context = list(prompt_ids), self._context_length
        self.check_prompts([ids])
        most = min(parameters.max_new_tokens, context - len(ids))
        body = request_body(ids, parameters, self.served_model, self._eos_id, most)
        return Request(self._client, completions.PATH, body, number=number, results=results), self._reply(ids, most)

    def _reply(self, ids: Sequence[int], most_tokens: int) -> Reply:
        return Reply(self._client, ids, vocab_size=self._vocab_size, eos_id=self._eos_id, most_tokens=most_tokens)


def served_models(client: Client) -> list[Mapping[str, Any]]:
    """Return what a server says about its models: `id` (its name there), `root` (where its files come from), …

    Raises BchatError (MODEL): unreachable, late, wrong key, no list of models.
    """
    listed = fetch_object(client, "/v1/models").get("data")
    entries = listed if isinstance(listed, list) else []
    models: list[Mapping[str, Any]] = [
        each for each in entries if isinstance(each, dict) and isinstance(each.get("id"), str)
    ]
    if not models:
        raise client.error("server.no-models")
    return models


def open_server(
    server: Server, entry: ModelEntry, vocabulary: Vocabulary, *, other_names: Iterable[str] = ()
) -> ServerEngine:
    """Return an engine for one model of a server, after one request of one token has shown that ids go both ways.

    The server's model must have a name of `entry`, or be its only one and have none of `other_names`: a different model
    would be recorded under this name.
    Raises BchatError: MODEL for a server that fails, USAGE for a key that must not be sent.
    """
    client = make_client(server)
    model = _choose(client, served_models(client), entry.names, other_names)
    most = model.get("max_model_len")
    limits = [each for each in (entry.context_length, most) if isinstance(each, int) and each > 0]
    context_length = min(limits, default=2048)
    engine = ServerEngine(client, vocabulary, entry.name, str(model["id"]), context_length)
    engine.check()
    return engine


def is_called(model: Mapping[str, Any], names: Iterable[str]) -> bool:
    """Return True if a server knows a model under one of `names`; case and width are ignored."""
    own = {fold_name(str(model[key])) for key in ("id", "root") if model.get(key)}
    return not own.isdisjoint(map(fold_name, names))


def _choose(
    client: Client, models: Sequence[Mapping[str, Any]], names: Iterable[str], other_names: Iterable[str]
) -> Mapping[str, Any]:
    served_model = client.server.served_model
    fitting = [model for model in models if is_called(model, [served_model] if served_model else names)]
    if fitting:
        return fitting[0]
    if len(models) == 1 and not served_model and not is_called(models[0], other_names):
        return models[0]
    known = ", ".join(str(model["id"]) for model in models[:10])
    raise client.error("server.no-such-model", known=known[:300])
