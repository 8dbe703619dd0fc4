"""One model on several servers: implements `Engine`. Work is spread by weight, and leaves a server that fails."""

from __future__ import annotations

from collections.abc import Container, Generator, Iterator, Sequence
from contextlib import closing
from itertools import chain
from typing import TYPE_CHECKING

from bilingual_chat.engines.protocol import Chunk, Progress
from bilingual_chat.engines.server.engine import MOST_REQUESTS, ServerEngine
from bilingual_chat.engines.server.schedule import Schedule, is_down
from bilingual_chat.messages.errors import BchatError
from bilingual_chat.settings.decoding import DecodingParameters

if TYPE_CHECKING:
    from torch import Tensor


class SeveralServers:
    """At least one server with the same model. State: the servers that were up when they were last used."""

    can_prefill = False

    def __init__(self, servers: Sequence[ServerEngine]) -> None:
        self._servers = list(servers)
        self.name, self.precision = servers[0].name, servers[0].precision
        self.context_length = min(each.context_length for each in servers)
        self.device_name = ", ".join(each.device_name for each in servers)

    def complete(
        self, prompt_ids: Sequence[int], parameters: DecodingParameters, progress: Progress | None = None
    ) -> Generator[Chunk, None, None]:
        """See `Engine.complete`. A server that fails before the first token is left for the next one."""
        while True:
            with closing(self._servers[0].complete(prompt_ids, parameters)) as chunks:
                try:
                    first = next(chunks)
                except BchatError as error:
                    if not is_down(error) or len(self._servers) == 1:
                        raise
                    del self._servers[0]
                    continue
                yield from chain([first], chunks)
                return

    def complete_many(
        self,
        prompts: Sequence[Sequence[int]],
        requests: Sequence[DecodingParameters],
        progress: Progress | None = None,
        *,
        unwanted: Container[int] = frozenset(),
        width: int | None = None,
        is_exact: bool = False,
    ) -> Generator[tuple[int, Chunk], None, None]:
        """See `Engine.complete_many`. With several servers, a reply is given out when it is whole; see `Schedule`."""
        self._servers[0].check_prompts(prompts)
        width = width or MOST_REQUESTS * len(self._servers)
        yield from Schedule(self._servers, prompts, requests, unwanted=unwanted, width=width).run()

    def prefill(self, ids: Sequence[int]) -> Iterator[int]:
        """Do nothing; see `ServerEngine.prefill`."""
        return iter(())

    def score(self, ids: Sequence[int]) -> Iterator[Tensor]:
        """Raise BchatError (MODEL); see `ServerEngine.score`."""
        return self._servers[0].score(ids)

    def score_continuations(
        self, prompt_ids: Sequence[int], continuations: Sequence[Sequence[int]]
    ) -> Iterator[list[float]]:
        """Raise BchatError (MODEL), too."""
        return self._servers[0].score_continuations(prompt_ids, continuations)
