"""Measure the time from Enter to the first characters, with and without prefill during typing. Interleaved.

    python benchmarks/typed_ahead.py /tmp/4b --quantize int8
    python benchmarks/typed_ahead.py /tmp/4b --quantize int8 --keys    # the latency of a key's echo during prefill

The user is simulated: some keys a second, then Enter. Three messages: a typed one, a pasted one that is sent after some
seconds, and the first of a resumed conversation, after ten seconds of reading. With --keys bchat runs on its own
terminal, which gets a key each tenth of a second, first during a prefill and then without one.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from contextlib import closing, nullcontext
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parent.parent))

from bilingual_chat.engines.protocol import OpenOptions
from bilingual_chat.session.model import Model, open_model
from bilingual_chat.session.prefetch import PromptPrefetch
from bilingual_chat.session.session import Session
from bilingual_chat.settings.catalogue import open_path
from bilingual_chat.settings.config import load_config, settings_for
from bilingual_chat.text.conversation import Conversation, FinishReason, Turn
from bilingual_chat.transcript.document import write_document
from bilingual_chat.transcript.loaded import Loaded, new_header
from tests.pseudo_terminal import Terminal

KEYS_S, LOOKED_AT_S, REMEMBERED_S = 1 / 6, 5.0, 10.0
TYPED = "Could you tell me how people in Japan celebrate the new year, and what they eat on that day?"
PASTED = (
    "昔々あるところにおじいさんとおばあさんがいました。おじいさんは山へ芝刈りに、おばあさんは川へ洗濯に行きました。" * 5
)
FOLLOW_UP = "もう少し詳しく説明してください。"
ECHO = 60  # keys of each kind


def main() -> None:
    parser = argparse.ArgumentParser(description="First words after Enter, with and without reading ahead.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--quantize", default="int8")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keys", action="store_true")
    options = parser.parse_args()
    config = load_config(environment={})
    entry = open_path(options.directory, config.catalogue)
    if options.keys:
        keys(options.directory, options.quantize)
        return
    model = open_model(entry, OpenOptions(quantize=options.quantize))
    print(f"{'':34}{'without':>10}{'with':>10}")
    for name, typed, before in (
        ("typed, 92 characters", list(steps(TYPED)), talk(2)),
        ("pasted, 275 characters", [(PASTED, LOOKED_AT_S)], talk(2)),
        ("first of a talk gone on with", [("", REMEMBERED_S), *steps(FOLLOW_UP)], talk(24)),
    ):
        waits: dict[bool, list[float]] = {False: [], True: []}
        for _ in range(options.rounds):
            for is_ahead in waits:
                model.engine.forget()
                session = Session(lambda: model, settings_for(config, entry, None, {}), entry=entry, directory=None)
                session.continue_from(Loaded(new_header(entry.name, {}), before))
                if before is not None and len(before.turns) == 2:  # it has been talked all the time
                    for _ in model.engine.prefill(session.prompt_for("").ids):
                        pass
                waits[is_ahead].append(wait(session, model, typed, is_ahead))
        ratio = median(mine / theirs for mine, theirs in zip(waits[True], waits[False], strict=True))
        print(f"{name:34}{median(waits[False]):8.2f} s{median(waits[True]):8.2f} s{ratio:8.2f} ×", flush=True)


def steps(message: str) -> Iterator[tuple[str, float]]:
    for length in range(1, len(message) + 1):
        yield message[:length], KEYS_S


def talk(turns: int) -> Conversation:
    """Make a conversation of about 55 tokens a turn."""
    said = "四季のある日本では、春は花見、夏は花火、秋は紅葉、冬は雪景色を楽しみます。" * 2
    return Conversation(
        (), tuple(Turn(f"質問{at}、日本について教えて。", said, FinishReason.STOP) for at in range(turns))
    )


def wait(session: Session, model: Model, typed: list[tuple[str, float]], is_ahead: bool) -> float:
    """Return seconds from Enter to the first characters."""
    ahead = PromptPrefetch(session, lambda: model)
    with ahead.reading("", replaces_last=False) if is_ahead else nullcontext():
        for text, seconds in typed:
            ahead.typed(text) if is_ahead else None
            time.sleep(seconds)
    began = time.perf_counter()
    ahead.rest()
    with closing(session.reply(typed[-1][0])) as events:
        next(event for event in events if isinstance(event, str))
        return time.perf_counter() - began


def keys(directory: Path, quantize: str) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "talk.json"
        write_document(path, Loaded(new_header("random", {}), talk(24)))
        command = [sys.executable, "-m", "bilingual_chat", "--model", str(directory), "--quantize", quantize]
        terminal = Terminal([*command, "--load", str(path)], columns=200, XDG_DATA_HOME=folder)
        terminal.wait_for(lambda text: "/2048" in text.rpartition("\n")[2], 300)
        meanwhile = echoes(terminal)
        terminal.type("\x03")
        used = -1.0
        while cpu_seconds(terminal.child.pid) > used + 0.5:  # until it computes no more
            used = cpu_seconds(terminal.child.pid)
            listen(terminal, 1)
        idle = echoes(terminal)
        terminal.type("\x03\x04")
        terminal.leave(60)
    for name, found in (("while it reads", meanwhile), ("while it does not", idle)):
        print(
            f"{name:20} median {1000 * median(found):5.1f} ms, 95 % within "
            f"{1000 * quantiles(found, n=20)[-1]:5.1f} ms, all within {1000 * max(found):5.1f} ms"
        )


def echoes(terminal: Terminal) -> list[float]:
    found = []
    for at in range(ECHO):
        letter = "abcdefghij"[at % 10]
        before = len(terminal.raw)
        began = time.perf_counter()
        terminal.type(letter)
        while letter.encode() not in terminal.raw[before:]:
            terminal.listen(0.001)
        found.append(time.perf_counter() - began)
        listen(terminal, 0.1)
    return found


def listen(terminal: Terminal, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        terminal.listen(0.01)


def cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
