"""Measures the time to record a token: its log probability, entropy and rank, and the five most likely tokens.

    python benchmarks/recording.py --step-ms 130      # of an int8 step, as side_by_side.py measures it

With and without, in turn, on 65,536 logits; the median counts.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from statistics import median

import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from bilingual_chat.engines.generation import Generation
from bilingual_chat.engines.penalties import first_step
from bilingual_chat.engines.sampling import choose
from bilingual_chat.engines.token_rules import TokenRules
from bilingual_chat.settings.decoding import DecodingParameters

VOCABULARY = 65536
CARD = DecodingParameters(temperature=0.8, top_p=0.85, seed=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--step-ms", type=float, required=True, help="of the model, in milliseconds")
    parser.add_argument("--rounds", type=int, default=300)
    options = parser.parse_args()
    torch.set_num_threads(1)
    logits = torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(1)) * 3
    rules = TokenRules((3,))
    step, generator = first_step([5, 6, 7], CARD, rules, VOCABULARY), torch.Generator()
    times: dict[str, list[float]] = {"without": [], "with": []}
    for _ in range(options.rounds):
        generation = Generation([5, 6, 7], CARD, rules=rules, vocab_size=VOCABULARY, context_length=2048)
        began = time.perf_counter()
        choose(logits, step, generator)
        between = time.perf_counter()
        generation.add(logits)
        times["without"].append(between - began)
        times["with"].append(time.perf_counter() - between)
    without, recorded = (median(each) * 1e6 for each in times.values())
    share = (recorded - without) / 10 / options.step_ms
    print(f"choosing {without:.0f} µs, with the record {recorded:.0f} µs: {share:.2f} % of a step more")


if __name__ == "__main__":
    main()
