"""The one seam: token ids in, token ids out.

`open_engine` imports the engine that is asked for, so that torch is loaded only when it computes.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from bilingual_chat.settings.catalogue import ModelEntry
from bilingual_chat.settings.decoding import DecodingParameters
from bilingual_chat.text.conversation import FinishReason

if TYPE_CHECKING:
    from bilingual_chat.engines.local import LocalEngine
    from bilingual_chat.text.tokenizer import Tokenizer

DtypeName = Literal["auto", "float32", "bfloat16", "float16"]
DeviceName = Literal["auto", "cpu", "cuda", "mps"]
Progress = Callable[[int, int], None]  # with what is done, and all there is
QuantizeName = Literal["auto", "none", "int8", "w8a8", "int4"]


@dataclass(frozen=True)
class Chunk:
    """One step of a completion.

    `finish` is None on every chunk but the last. The end-of-sequence token comes as a last chunk
    with finish STOP and is no part of the reply; with LENGTH the token belongs to the reply.
    """

    token_id: int
    logprob: float  # natural log, under the filtered distribution that was sampled from
    cached_tokens: int  # prompt tokens that the KV cache already held; the same on every chunk
    finish: FinishReason | None = None


class Engine(Protocol):
    """What answers. A completion is a generator: close it to stop, and nothing more is computed."""

    @property
    def name(self) -> str: ...

    @property
    def context_length(self) -> int:
        """Positions the model was trained for: prompt and reply together never exceed it."""

    @property
    def precision(self) -> str:
        """What the weights are in: "float32", "bfloat16", "int8", …; transcripts record it."""

    @property
    def device_name(self) -> str:
        """Where it computes: "cpu", "cuda:0", …"""

    def complete(
        self, prompt_ids: Sequence[int], parameters: DecodingParameters, seed: int, progress: Progress | None = None
    ) -> Iterator[Chunk]:
        """Continue `prompt_ids` (at least one) by up to `parameters.max_new_tokens` tokens.

        progress: called while a prompt is computed that takes long, with the tokens done and those of the prompt.
        """

    def complete_many(
        self,
        prompt_ids: Sequence[int],
        wanted: Sequence[tuple[DecodingParameters, int]],
        progress: Progress | None = None,
    ) -> Generator[tuple[int, Chunk], None, None]:
        """Several continuations, one for each parameters and seed: (its number, its next chunk), in any order.

        Each is the one that `complete` gives.
        """

    @property
    def can_prefill(self) -> bool:
        """Whether `prefill` does anything: only where it changes no reply, not even in the last bit."""

    def prefill(self, ids: Sequence[int]) -> Iterator[int]:
        """Compute `ids`, with which the next prompt probably begins, some a step, and say how many are done.

        It may be left at any step.
        """


def one_after_another(
    engine: Engine,
    prompt_ids: Sequence[int],
    wanted: Sequence[tuple[DecodingParameters, int]],
    progress: Progress | None = None,
) -> Generator[tuple[int, Chunk], None, None]:
    """`Engine.complete_many` for an engine that computes one continuation at a time."""
    for at, (parameters, seed) in enumerate(wanted):
        for chunk in engine.complete(prompt_ids, parameters, seed, progress):
            yield at, chunk


def open_engine(
    directory: Path,
    tokenizer: Tokenizer,
    *,
    name: str,
    entry: ModelEntry | None = None,
    device: DeviceName = "auto",
    dtype: DtypeName = "auto",
    quantize: QuantizeName = "auto",
    accept_withdrawn: bool = False,
    progress: Progress | None = None,
    others: Iterable[ModelEntry] = (),
) -> LocalEngine:
    """The local engine over a model directory (config.json, weights). Raises BchatError (MODEL).

    entry: which weights are withdrawn, and what dtype loses nothing. accept_withdrawn opens those too
    (then the engine's `withdrawn` is true). quantize: weights in 8 or 4 bits; auto takes the most exact that
    leaves room for the rest of the machine. progress: bytes done and bytes in all, from this thread,
    while weights are verified and then while they are converted, which happens once; not at all
    where neither is needed. others: models that may be named when this one does not fit.
    """
    from bilingual_chat.engines.local import LocalEngine

    return LocalEngine(
        directory,
        name=name,
        eos_id=tokenizer.eos_id,
        vocab_size=tokenizer.vocab_size,
        entry=entry,
        device=device,
        dtype=dtype,
        quantize=quantize,
        accept_withdrawn=accept_withdrawn,
        progress=progress,
        others=others,
    )
