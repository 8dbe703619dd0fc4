"""The engine protocol: token ids in, token ids out. No torch here: its import takes a second."""

from __future__ import annotations

from collections.abc import Callable, Container, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from bilingual_chat.settings.catalogue import ModelEntry
from bilingual_chat.settings.decoding import DecodingParameters
from bilingual_chat.settings.servers import Server
from bilingual_chat.text.conversation import FinishReason

if TYPE_CHECKING:
    from torch import Tensor

DtypeName = Literal["auto", "float32", "bfloat16", "float16"]
DeviceName = Literal["auto", "cpu", "cuda", "mps"]
QuantizeName = Literal["auto", "none", "int8", "w8a8", "int4"]
Progress = Callable[[int, int], None]  # (done, total)
MOST_ROWS = 64  # replies at a time


@dataclass(frozen=True)
class OpenOptions:
    """The options of opening a model. quantize: auto takes the most exact precision that leaves memory to others."""

    device: DeviceName = "auto"
    accept_withdrawn: bool = False  # open withdrawn weights too
    others: tuple[ModelEntry, ...] = ()  # models that an error may suggest if this one does not fit
    quantize: QuantizeName = "auto"
    dtype: DtypeName = "auto"
    servers: Mapping[str, Server] = field(default_factory=dict)  # by name, for models that a server computes


@dataclass(frozen=True)
class Chunk:
    """One step of a completion.

    Only the last chunk has a `finish`. With STOP, its token is the end-of-sequence token and no part of the reply;
    with LENGTH, its token belongs to the reply.
    """

    token_id: int
    logprob: float | None  # natural log, in the filtered distribution that the token was drawn from; None if unknown
    cached_tokens: int  # prompt tokens that the KV cache already held; the same in every chunk
    finish: FinishReason | None = None
    # The unmodified distribution, before all filters; None where an engine does not know it.
    raw_logprob: float | None = None  # natural log, of the token
    entropy: float | None = None  # nats
    rank: int | None = None  # of the token; 1 is the most likely
    top: tuple[tuple[int, float], ...] = ()  # the five most likely: id, natural log
    # The distribution after the filters; greedy decoding leaves one token.
    kept: tuple[tuple[int, float], ...] = ()  # its five most likely: id, natural log
    removed: tuple[tuple[int, str], ...] = ()  # the ids of `top` that a filter excluded, and its setting


class Engine(Protocol):
    """A model that continues token ids. Closing a completion stops its computation."""

    @property
    def name(self) -> str: ...

    @property
    def context_length(self) -> int:
        """The positions that the model was trained for; prompt and reply together never exceed them."""

    @property
    def precision(self) -> str:
        """The precision of the weights, for transcripts: "float32", "bfloat16", "int8", …"""

    @property
    def device_name(self) -> str:
        """The device: "cpu", "cuda:0", …"""

    def complete(
        self, prompt_ids: Sequence[int], parameters: DecodingParameters, progress: Progress | None = None
    ) -> Generator[Chunk, None, None]:
        """Continue `prompt_ids` (at least one) by up to `parameters.max_new_tokens` tokens.

        parameters: with a seed for a reply that can be repeated; without one, each call draws its own.
        progress: called during a long prefill, with the tokens computed and the tokens of the prompt.
        """

    def complete_many(
        self,
        prompts: Sequence[Sequence[int]],
        requests: Sequence[DecodingParameters],
        progress: Progress | None = None,
        *,
        unwanted: Container[int] = frozenset(),
        width: int = MOST_ROWS,
        is_exact: bool = False,
    ) -> Generator[tuple[int, Chunk], None, None]:
        """Continue each of `prompts` as its request says; yield (index of the request, chunk).

        Chunks of different requests come in any order. Each continuation equals that of `complete`: bit for bit with
        the CPU kernels or with `is_exact`, which is slower elsewhere; in its ids with float32. In 16 bits without the
        kernels, rounding depends on the replies beside it, and a token may differ where two are nearly equal.
        Equal prompts should be neighbours, and prompts with one beginning, too: it is computed once.
        unwanted: the caller may add the index of a request whose rest it does not want.
        width: replies at a time, at most; fewer if the memory is small.
        """

    @property
    def can_prefill(self) -> bool:
        """True if `prefill` works; only if it changes no reply, not even in the last bit."""

    def prefill(self, ids: Sequence[int]) -> Iterator[int]:
        """Compute the probable beginning of the next prompt in steps; yield the number of ids done after each.

        The caller may stop after any step.
        """

    def score(self, ids: Sequence[int]) -> Iterator[Tensor]:
        """Yield float32 logits (rows, vocabulary) for the token after each of `ids`, some rows at a time."""

    def score_continuations(
        self, prompt_ids: Sequence[int], continuations: Sequence[Sequence[int]]
    ) -> Iterator[list[float]]:
        """Yield for each continuation the natural-log probability of each of its ids and, last, of its end.

        The probabilities are the model's own, before any decoding setting. The prompt is computed once.
        """


def one_after_another(
    engine: Engine,
    prompts: Sequence[Sequence[int]],
    requests: Sequence[DecodingParameters],
    progress: Progress | None = None,
    unwanted: Container[int] = frozenset(),
) -> Generator[tuple[int, Chunk], None, None]:
    """Implement `Engine.complete_many` for an engine that computes one continuation at a time."""
    for index, (ids, parameters) in enumerate(zip(prompts, requests, strict=True)):
        with closing(engine.complete(ids, parameters, progress)) as chunks:
            for chunk in chunks:
                yield index, chunk
                if index in unwanted:
                    break
