"""The engine of a model on a server: implements `Engine` with concurrent requests."""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Container, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from bilingual_chat.engines.protocol import Chunk, Progress
from bilingual_chat.engines.server import completions
from bilingual_chat.engines.server.completions import Reply, request_body
from bilingual_chat.engines.server.http import Client, Request, Results, fetch_object, make_client, receive
from bilingual_chat.messages.errors import BchatError
from bilingual_chat.settings.decoding import DecodingParameters
from bilingual_chat.settings.servers import Server
from bilingual_chat.settings.toml_tables import fold_name

if TYPE_CHECKING:
    from torch import Tensor

MOST_REQUESTS = 256  # at a time; vLLM computes as many together, and lets others wait


class ServerEngine:
    """A model on a server. One completion at a time, or many in one `complete_many`.

    The server's distribution after the filters is not reported: `Chunk.logprob` is NaN.
    """

    precision = "served"  # no server reports it
    can_prefill = False

    def __init__(
        self, client: Client, *, name: str, served_model: str, eos_id: int, vocab_size: int, context_length: int
    ) -> None:
        """served_model: its name on the server. vocab_size: the tokenizer's; other ids are refused both ways."""
        self._client, self._name, self.served_model = client, name, served_model
        self._eos_id, self._vocab_size, self._context_length = eos_id, vocab_size, context_length

    @property
    def name(self) -> str:
        return self._name

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
        with closing(self._complete_all([prompt_ids], [parameters], 1, ())) as chunks:
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
        yield from self._complete_all(prompts, requests, width, unwanted)

    def prefill(self, ids: Sequence[int]) -> Iterator[int]:
        """Do nothing: a server caches prefixes by itself."""
        return iter(())

    def score(self, ids: Sequence[int]) -> Iterator[Tensor]:
        """Raise BchatError (MODEL): servers do not report whole distributions."""
        raise self._client.error("server.no-distribution")

    def check(self) -> None:
        """Compute one token. Raises BchatError (MODEL): no ids in the response, a smaller vocabulary on the server.

        A stop id that is not in the server's vocabulary is refused by vLLM; in a prompt it would end the server.
        """
        parameters = DecodingParameters(temperature=0.0, max_new_tokens=1)
        body = request_body([self._eos_id], parameters, self.served_model, self._eos_id, 1)
        body["stop_token_ids"] = [self._eos_id, self._vocab_size - 1]
        request, reply = Request(self._client, completions.PATH, body), self._reply([self._eos_id], 1)
        request.start()
        with closing(request):
            for _, event in receive([request], request.results):
                if list(reply.take(event)):
                    return

    def _complete_all(
        self,
        prompts: Sequence[Sequence[int]],
        requests: Sequence[DecodingParameters],
        width: int,
        unwanted: Container[int],
    ) -> Generator[tuple[int, Chunk], None, None]:
        """Run up to `width` requests at a time; yield (index, chunk). Closes the connections of replies that end."""
        results: Results = queue.SimpleQueue()
        prepared = [
            self._prepare(index, ids, parameters, results)
            for index, (ids, parameters) in enumerate(zip(prompts, requests, strict=True))
        ]
        waiting = deque(prepared)
        running: dict[int, Request] = {}

        def start_next() -> None:
            if waiting:
                request, _ = waiting.popleft()
                running[request.index] = request
                request.start()

        try:
            for _ in range(width):
                start_next()
            for index, event in receive(running.values(), results) if running else ():
                if index not in running:
                    continue
                reply = prepared[index][1]
                for chunk in reply.take(event):
                    running[index].has_got_token()
                    yield index, chunk
                if reply.is_done or index in unwanted:
                    running.pop(index).close()
                    start_next()
                if not running:
                    return
        finally:
            for request in running.values():
                request.close()

    def _prepare(
        self, index: int, prompt_ids: Sequence[int], parameters: DecodingParameters, results: Results
    ) -> tuple[Request, Reply]:
        """Raises BchatError if the prompt fills the context, ValueError for ids outside the vocabulary."""
        ids, context = list(prompt_ids), self._context_length
        if not ids or min(ids) < 0 or max(ids) >= self._vocab_size:  # a server may exit at such an id
            raise ValueError("at least one id is needed, each within the tokenizer's vocabulary")
        if len(ids) >= context:
            raise BchatError("engine.prompt-too-long", prompt=len(ids), context=context)
        most = min(parameters.max_new_tokens, context - len(ids))
        body = request_body(ids, parameters, self.served_model, self._eos_id, most)
        return Request(self._client, completions.PATH, body, index=index, results=results), self._reply(ids, most)

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
    server: Server,
    *,
    names: Iterable[str],
    other_names: Iterable[str] = (),
    name: str,
    eos_id: int,
    vocab_size: int,
    context_length: int,
) -> ServerEngine:
    """Return an engine for one model of a server, after one request of one token has shown that ids go both ways.

    names: all names of the model; the server's model must have one of them, or be its only one and have none of
    `other_names`: a different model would be recorded under this name.
    context_length: the model's, 0 if unknown; the server may allow less.
    Raises BchatError: MODEL for a server that fails, USAGE for a key that must not be sent.
    """
    client = make_client(server)
    model = _choose(client, served_models(client), names, other_names)
    most = model.get("max_model_len")
    limits = [each for each in (context_length, most) if isinstance(each, int) and each > 0]
    engine = ServerEngine(
        client,
        name=name,
        served_model=str(model["id"]),
        eos_id=eos_id,
        vocab_size=vocab_size,
        context_length=min(limits, default=2048),
    )
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
