"""Compare bchat with transformers and llama.cpp on the same weights, interleaved: medians and ratios.

    python benchmarks/full_size.py 4b /tmp/4b --dtype bfloat16
    python benchmarks/side_by_side.py /tmp/4b
    python benchmarks/side_by_side.py /tmp/4b --layers 2      # minutes less, to see that it runs
    python benchmarks/side_by_side.py --check                 # do llama.cpp and bchat compute the same?

The memory bandwidth of shared machines changes from minute to minute. So the peers of a group, each in its own
process, take turns (A B C A B C …); the bandwidth on bchat's weights is measured in each round; the result is the
median of the ratios within rounds. llama.cpp: pip install '.[bench]'.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import metadata, util
from pathlib import Path
from statistics import median
from typing import Any, get_args

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import gguf_model
from benchmarks.peers import Child
from bilingual_chat.engines.protocol import QuantizeName
from bilingual_chat.engines.weights.files import find_weights, read_json
from bilingual_chat.engines.weights.reader import read_tensors
from bilingual_chat.storage import paths
from bilingual_chat.text.tokenizer import Tokenizer

SHORT, LONG, PROMPT = 128, 1500, 512  # positions, positions, tokens
# Three programs in 16 bits, then two in 8, twice, then two in 4: a group fits into 20 GB.
GROUPS = {
    "bf16": (("bchat", "none"), ("transformers", "bfloat16"), ("llama", "BF16")),
    "int8": (("bchat", "int8"), ("llama", "Q8_0")),
    "w8a8": (("bchat", "w8a8"), ("llama", "Q8_0")),
    "int4": (("bchat", "int4"), ("llama", "Q4_0")),
}
CHECKED = 48  # positions
# As the embedded model was taught to expect it.
CHAT = (
    "ユーザー: What is 'cat' in Japanese?\nシステム: \"cat\" in Japanese is 猫 (neko).\n"
    'ユーザー: And dog?\nシステム: "dog" in Japanese is 犬 (inu).\n'
    "ユーザー: フランスの首都は？\nシステム: フランスの首都はパリです。\n"
)


@dataclass
class Series:
    """One measure of one group, by round. Rates are in tokens per second."""

    group: str
    measure: str
    rates: dict[str, list[float]] = field(default_factory=dict)
    bytes_per_token: dict[str, int] = field(default_factory=dict)
    bandwidths: list[float] = field(default_factory=list)

    def ratio(self, peer: str) -> float:
        """Return the median over the rounds of bchat's rate divided by this peer's."""
        own = self.rates["bchat"]
        return median(a / b for a, b in zip(own, self.rates[peer], strict=True))

    def share(self, peer: str) -> float:
        """Return the share of the bandwidth, measured in the same round, that this peer's weights take."""
        rounds = zip(self.rates[peer], self.bandwidths, strict=True)
        return median(rate * self.bytes_per_token[peer] / bandwidth for rate, bandwidth in rounds)

    def as_json(self) -> dict[str, Any]:
        others = [peer for peer in self.rates if peer != "bchat"]
        return {
            **vars(self),
            "medians": {peer: median(rates) for peer, rates in self.rates.items()},
            "ratios": {peer: self.ratio(peer) for peer in others},
        }


def main() -> None:
    options = parse()
    need_llama()
    if options.check:
        check(options.threads)
        return
    directory = options.directory.resolve()
    if options.layers:
        directory = cut_down(directory, options.layers)
    wanted = [name for name in GROUPS if name in options.groups and can_open(GROUPS[name][0][1])]
    found = [each for name in wanted for each in run_group(name, directory, options)]
    if options.json:
        print(json.dumps({**circumstances(options), "series": [each.as_json() for each in found]}))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure bchat beside transformers and llama.cpp, interleaved.")
    parser.add_argument("directory", type=Path, nargs="?", help="a model of the full size (benchmarks/full_size.py)")
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=list(GROUPS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=16, help="tokens decoded a round")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--layers", type=int, help="only the first layers of the model")
    parser.add_argument("--json", action="store_true", help="one object on stdout, the tables on stderr")
    parser.add_argument("--check", action="store_true", help="compare what is computed, on the embedded model")
    options = parser.parse_args()
    if not options.check and (options.directory is None or not (options.directory / "config.json").is_file()):
        parser.error("name a model's directory; benchmarks/full_size.py makes one")
    return options


def need_llama() -> None:
    if not all(util.find_spec(name) for name in ("llama_cpp", "gguf")):
        raise SystemExit("llama.cpp is missing here; install it with: pip install '.[bench]' (it compiles for minutes)")


def can_open(quantize: str) -> bool:
    known = quantize in get_args(QuantizeName)
    if not known:
        print(f"bchat has no {quantize} yet; that group is left out.", file=sys.stderr)
    return known


def cut_down(directory: Path, layers: int) -> Path:
    """Make a copy beside `directory` with the first layers only."""
    from safetensors.torch import save_file

    path = directory.with_name(f"{directory.name}-{layers}-layers")
    if path.is_dir():
        return path
    path.mkdir()
    late = tuple(f"gpt_neox.layers.{number}." for number in range(layers, 1000))
    kept = {
        name: tensor
        for weights in find_weights(directory)
        for name, tensor in read_tensors(weights)
        if not name.startswith(late)
    }
    save_file(kept, path / "model.safetensors", {"format": "pt"})
    config = {**read_json(directory / "config.json"), "num_hidden_layers": layers}
    (path / "config.json").write_text(json.dumps(config))
    shutil.copy(directory / "spiece.model", path)
    return path


# -- one group ----------------------------------------------------------------------------------------


def run_group(name: str, directory: Path, options: argparse.Namespace) -> list[Series]:
    peers = {kind: open_peer(directory, kind, variant, options.threads) for kind, variant in GROUPS[name]}
    try:
        return list(measure(name, peers, options))
    finally:
        for peer in peers.values():
            peer.close()


def open_peer(directory: Path, kind: str, variant: str, threads: int) -> Child:
    began = time.perf_counter()
    model = directory
    if kind == "llama":
        model = gguf_model.make(directory, directory.with_name(f"{directory.name}-{variant}.gguf"), variant)
        variant = "F16"
    child = Child(kind, str(model), variant, threads)
    print(f"{kind} {variant}: open after {time.perf_counter() - began:.1f} s", file=sys.stderr, flush=True)
    return child


def measure(name: str, peers: dict[str, Child], options: argparse.Namespace) -> Iterator[Series]:
    """Return a series for each measure. A first round fills KV caches and is not counted."""
    numbers = random.Random(0)
    ids = [numbers.randrange(10, 5000) for _ in range(LONG)]
    measures: dict[str, Callable[[Child], float]] = {
        f"decode at {SHORT}": lambda peer: 1 / peer.ask("decode", ids=ids[:SHORT], steps=options.steps),
        f"prefill {PROMPT}": lambda peer: PROMPT / peer.ask("prefill", ids=ids[:PROMPT]),
        f"decode at {LONG}": lambda peer: 1 / peer.ask("decode", ids=ids, steps=options.steps),
    }
    for title, ask in measures.items():
        series = Series(name, title, {peer: [] for peer in peers})
        series.bytes_per_token = {kind: peer.bytes_per_token for kind, peer in peers.items()}
        for number in range(options.rounds + 1):
            bandwidth = peers["bchat"].ask("bandwidth")
            rates = {kind: ask(peer) for kind, peer in peers.items()}
            if number:
                series.bandwidths.append(bandwidth)
                for kind, rate in rates.items():
                    series.rates[kind].append(rate)
        tell(series, sys.stderr if options.json else sys.stdout)
        yield series


def tell(series: Series, file: Any) -> None:
    print(f"\n{series.group}: {series.measure}   (read bandwidth {spread(series.bandwidths, 1e9)} GB/s)", file=file)
    for kind, rates in series.rates.items():
        cells = [f"  {kind:<14}{spread(rates):>26} tok/s"]
        if series.measure.startswith("decode"):
            cells.append(
                f"{series.bytes_per_token[kind] / 1e9:.2f} GB a token, {series.share(kind):.0%} of the bandwidth"
            )
        if kind != "bchat":
            cells.append(f"bchat is {series.ratio(kind):.2f} × as fast")
        print("   ".join(cells), file=file, flush=True)


def spread(values: list[float], unit: float = 1.0) -> str:
    """Return median and range."""
    return f"{median(values) / unit:.2f} ({min(values) / unit:.2f}–{max(values) / unit:.2f})"


def circumstances(options: argparse.Namespace) -> dict[str, Any]:
    versions = {name: metadata.version(name) for name in ("torch", "transformers", "llama_cpp_python")}
    return {"versions": versions, "threads": options.threads, "layers": options.layers, "steps": options.steps}


# -- is it the same model -----------------------------------------------------------------------------


def check(threads: int) -> None:
    """Compare logits and likeliest tokens of the embedded model in both programs. Exit status 1 if they differ.

    In F32, with an F32 cache, only the GELU differs (llama.cpp's is the tanh approximation, from a 16-bit table). The
    differences in 8 and 4 bits are printed for comparison.
    """
    demo = paths.demo_model_dir()
    ids = Tokenizer(demo / "spiece.model").encode(CHAT)
    exact = ask_logits("bchat", demo, "none", ids, threads)
    agrees = False
    with tempfile.TemporaryDirectory() as folder:
        for kind in gguf_model.KINDS:
            path = gguf_model.make(demo, Path(folder) / f"demo-{kind}.gguf", kind)
            off, divergence, same = told(f"llama.cpp {kind}", exact, ask_logits("llama", path, "F32", ids, threads))
            agrees = agrees or (kind == "F32" and off < 0.05 and divergence < 1e-4 and same == 1)
    for quantize in sorted(set(get_args(QuantizeName)) - {"auto", "none"}, reverse=True):
        told(f"bchat {quantize}", exact, ask_logits("bchat", demo, quantize, ids, threads))
    print("They compute the same." if agrees else "They do NOT compute the same.")
    raise SystemExit(0 if agrees else 1)


def ask_logits(kind: str, model: Path, variant: str, ids: list[int], threads: int) -> Any:
    """Return logits (positions, vocabulary) after each of the last CHECKED ids."""
    import torch

    peer = Child(kind, str(model), variant, threads)
    logits = torch.tensor(peer.ask("logits", ids=ids, count=CHECKED))
    peer.close()
    return logits


def told(name: str, exact: Any, logits: Any) -> tuple[float, float, float]:
    off, divergence, same = compare(exact, logits[:, : exact.shape[1]])
    print(f"{name:>14}: logits off by {off:.4f} at most, KL {divergence:.6f} nats, {same:.0%} same likeliest token")
    return off, divergence, same


def compare(exact: Any, logits: Any) -> tuple[float, float, float]:
    """Return the largest difference, the mean KL divergence, and the share of equal likeliest tokens."""
    right, other = exact.log_softmax(-1), logits.log_softmax(-1)
    divergence = (right.exp() * (right - other)).sum(-1).mean()
    same = (exact.argmax(-1) == logits.argmax(-1)).float().mean()
    return float((exact - logits).abs().max()), float(divergence), float(same)


if __name__ == "__main__":
    main()
