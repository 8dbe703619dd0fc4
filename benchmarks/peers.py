"""The programs that `side_by_side.py` compares: each in a separate process, which loads, answers, and otherwise sleeps.

Requests are lines of JSON, {"do": NAME, …}, and so are answers. Library output goes to stderr.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

sys.path.insert(0, str(Path(__file__).parent.parent))


class Peer(Protocol):
    """One program with its model loaded."""

    bytes_per_token: int

    def prefill(self, ids: list[int]) -> float:
        """Return seconds to the first new token after `ids`, with an empty KV cache."""

    def decode(self, ids: list[int], steps: int) -> float:
        """Return seconds per token, over `steps` tokens after the first one that follows `ids`.

        The prefill of `ids`, which reuses the KV cache, is not counted.
        """


class Bchat:
    """This checkout's engine, as a session uses it: greedy, choosing the token and all."""

    def __init__(self, model: str, quantize: Any, threads: int) -> None:
        import torch

        from bilingual_chat.engines.local import LocalEngine
        from bilingual_chat.engines.protocol import OpenOptions
        from bilingual_chat.settings.catalogue import ModelEntry
        from bilingual_chat.text.tokenizer import Tokenizer

        torch.set_num_threads(threads)
        directory = Path(model)
        tokenizer = Tokenizer(directory / "spiece.model")
        self.engine = LocalEngine(directory, ModelEntry("bench"), tokenizer, OpenOptions(quantize=quantize))
        self.bytes_per_token = self.engine.bytes_per_token

    def prefill(self, ids: list[int]) -> float:
        self.engine.forget()
        began = time.perf_counter()
        self._next(ids)
        return time.perf_counter() - began

    def decode(self, ids: list[int], steps: int) -> float:
        """One completion per token: lookahead finds no repetition."""
        reply = [*ids, self._next(ids)]
        began = time.perf_counter()
        for _ in range(steps):
            reply.append(self._next(reply))
        return (time.perf_counter() - began) / steps

    def bandwidth(self) -> float:
        from bilingual_chat.bench.bandwidth import read_bandwidth

        return read_bandwidth(self.engine.weights)

    def logits(self, ids: list[int], count: int) -> list[list[float]]:
        import torch

        rows: list[list[float]] = torch.cat(list(self.engine.score(ids)))[-count:].tolist()
        return rows

    def _next(self, ids: list[int]) -> int:
        """Return the likeliest token after `ids`, reusing the KV cache."""
        from bilingual_chat.settings.decoding import DecodingParameters

        greedy = DecodingParameters(temperature=0.0, min_new_tokens=1, max_new_tokens=1)
        (chunk,) = self.engine.complete(ids, greedy)
        return chunk.token_id


class Transformers:
    """transformers' `generate()`, in bfloat16."""

    def __init__(self, model: str, kind: str, threads: int) -> None:
        import torch
        import transformers

        torch.set_num_threads(threads)
        transformers.utils.logging.disable_progress_bar()
        self.model = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, kind)).eval()
        self.cache: Any = None
        self.cached: list[int] = []
        embedding = self.model.get_input_embeddings().weight
        everything = sum(each.numel() * each.element_size() for each in self.model.parameters())
        self.bytes_per_token = everything - embedding.numel() * embedding.element_size()

    def prefill(self, ids: list[int]) -> float:
        self.cache = None
        began = time.perf_counter()
        self._generate(ids, 1)
        return time.perf_counter() - began

    def decode(self, ids: list[int], steps: int) -> float:
        self._bring_cache_to(ids)
        came = self._generate(ids, steps + 1)
        return (came[-1] - came[0]) / steps

    def _bring_cache_to(self, ids: list[int]) -> None:
        """Fill the cache with all of `ids` but the last."""
        import torch
        import transformers

        if self.cache is not None and self.cached == ids:
            self.cache.crop(len(ids) - 1 - self.cache.get_seq_length())  # a negative number: how many to take away
            return
        self.cache, self.cached = transformers.DynamicCache(config=self.model.config), ids
        with torch.inference_mode():
            self.model(torch.tensor([ids[:-1]]), past_key_values=self.cache, use_cache=True, logits_to_keep=1)

    def _generate(self, ids: list[int], count: int) -> list[float]:
        import torch

        came = Came()
        self.model.generate(
            torch.tensor([ids]),
            attention_mask=torch.ones((1, len(ids)), dtype=torch.long),
            past_key_values=self.cache,
            do_sample=False,
            min_new_tokens=count,
            max_new_tokens=count,
            pad_token_id=0,
            streamer=came,
        )
        return came.times[1:]  # the prompt comes first


class Came:
    """A streamer of transformers that records the time of each token."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, value: object) -> None:
        self.times.append(time.perf_counter())

    def end(self) -> None:
        pass


class Llama:
    """llama.cpp through its C interface, with its own defaults except the threads; greedy, by hand."""

    def __init__(self, model: str, cache: str, threads: int) -> None:
        """cache: the kind of its KV cache, "F16" (its default) or "F32"."""
        import llama_cpp as library

        from benchmarks import gguf_model

        self.library = library
        gguf_model.hush()
        library.llama_backend_init()
        self.model = library.llama_model_load_from_file(model.encode(), library.llama_model_default_params())
        if not self.model:
            raise SystemExit(f"llama.cpp cannot open {model}.")
        options = library.llama_context_default_params()
        options.n_ctx = library.llama_model_n_ctx_train(self.model)
        options.n_threads = options.n_threads_batch = threads
        options.type_k = options.type_v = {"F32": 0, "F16": 1}[cache]  # ggml_type
        self.context = library.llama_init_from_model(self.model, options)
        self.memory = library.llama_get_memory(self.context)
        self.vocabulary = library.llama_vocab_n_tokens(library.llama_model_get_vocab(self.model))
        self.cached: list[int] = []
        self.bytes_per_token = gguf_model.bytes_per_token(Path(model))

    def prefill(self, ids: list[int]) -> float:
        self._crop(0)
        began = time.perf_counter()
        self._run(ids)
        self._likeliest()
        return time.perf_counter() - began

    def decode(self, ids: list[int], steps: int) -> float:
        most = len(ids) - 1
        common = next((at for at in range(min(most, len(self.cached))) if self.cached[at] != ids[at]), None)
        self._crop(min(most, len(self.cached)) if common is None else common)
        self._run(ids[len(self.cached) : most])
        self._run(ids[most:])
        token = self._likeliest()
        began = time.perf_counter()
        for _ in range(steps):
            self._run([token])
            token = self._likeliest()
        return (time.perf_counter() - began) / steps

    def logits(self, ids: list[int], count: int) -> list[list[float]]:
        """Return the logits after each of the last `count` ids."""
        self._crop(0)
        self._run(ids[:-count])
        rows = []
        for token in ids[-count:]:
            self._run([token])
            rows.append(self._logits().tolist())
        return rows

    def _crop(self, length: int) -> None:
        self.library.llama_memory_seq_rm(self.memory, 0, length, -1)
        del self.cached[length:]

    def _run(self, ids: list[int]) -> None:
        if not ids:
            return
        tokens = (self.library.llama_token * len(ids))(*ids)
        if self.library.llama_decode(self.context, self.library.llama_batch_get_one(tokens, len(ids))):
            raise SystemExit("llama.cpp failed to compute.")
        self.cached += ids

    def _logits(self) -> Any:
        import numpy

        pointer = self.library.llama_get_logits_ith(self.context, -1)
        return numpy.ctypeslib.as_array(pointer, (self.vocabulary,))

    def _likeliest(self) -> int:
        return int(self._logits().argmax())


class Child:
    """A peer in another process."""

    def __init__(self, kind: str, model: str, variant: str, threads: int) -> None:
        command = [sys.executable, "-m", "benchmarks.peers", kind, model, variant, str(threads)]
        root = Path(__file__).parent.parent
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root)
        self.bytes_per_token = int(self._answer()["bytes_per_token"])

    def ask(self, do: str, **values: Any) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **values}) + "\n")
        self._process.stdin.flush()
        return self._answer()["answer"]

    def close(self) -> None:
        self._process.communicate()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"A peer ended ({' '.join(map(str, self._process.args))}); its words are above.")
        return json.loads(line)


def serve(peer: Peer, requests: Iterable[str], answer: Callable[[object], None]) -> None:
    answer({"bytes_per_token": peer.bytes_per_token})
    for line in requests:
        values = json.loads(line)
        answer({"answer": getattr(peer, values.pop("do"))(**values)})


def main() -> None:
    kind, model, variant, threads = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(value: object) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    made: dict[str, Callable[..., Peer]] = {"bchat": Bchat, "transformers": Transformers, "llama": Llama}
    serve(made[kind](model, variant, int(threads)), sys.stdin, answer)


if __name__ == "__main__":
    main()
