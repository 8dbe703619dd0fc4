"""Measure the start and one turn of a chat, before and after the conversion of the weights.

    python benchmarks/open_and_chat.py /tmp/4b --model sft

Each row is a separate process with a real session: load, prompt, 64 tokens, save. bchat's cache and
conversations are in a temporary directory beside the model, removed at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from bilingual_chat.engines.local import LocalEngine
from bilingual_chat.engines.protocol import OpenOptions
from bilingual_chat.engines.weights.files import find_weights
from bilingual_chat.engines.weights.withdrawn import md5_of
from bilingual_chat.session.model import Model
from bilingual_chat.session.session import Session
from bilingual_chat.settings.config import load_config, settings_for
from bilingual_chat.storage import paths
from bilingual_chat.text.tokenizer import Tokenizer

ROWS = ("directly", "converting", "converted")
MESSAGE = "VRはなんですか。"
TOKENS = 64
COLUMNS = ("opened", "load s", "peak GB", "private GB", "first token s", "tok/s", "tokens", "saved")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure opening a model and one turn of a chat.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--model", default="sft", help="the catalogue's model whose format and settings it has")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--row", choices=ROWS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        print(json.dumps(measure(options.directory, options.model, options.dtype, options.row)))
        return
    print_row(COLUMNS)
    with tempfile.TemporaryDirectory(dir=options.directory.parent) as home:
        environment = {**os.environ, "XDG_CACHE_HOME": home, "XDG_DATA_HOME": home, "XDG_CONFIG_HOME": home}
        for row in ROWS:
            command = [sys.executable, *sys.argv, "--row", row]
            done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
            print_row(tuple(json.loads(done.stdout).values()))
        os.environ.update(environment)
        began = time.perf_counter()
        md5_of(find_weights(options.directory))
        print(f"\nits MD5, once: {time.perf_counter() - began:.1f} s")


def measure(directory: Path, name: str, dtype: Any, row: str) -> dict[str, Any]:
    """Measure one row of the table, in this process."""
    import torch  # so that its import is not in the time that a model takes

    from bilingual_chat.engines.weights import convert

    if row == "directly":
        convert.WORTH = 1 << 60
    watch = Watch()
    config = load_config()
    entry = replace(config.catalogue[name], directory=str(directory), withdrawn_md5=())
    began = time.perf_counter()
    tokenizer = Tokenizer(directory / "spiece.model", newline=entry.prompt.newline)
    engine = LocalEngine(directory, entry, tokenizer, OpenOptions(dtype=dtype))
    loaded = time.perf_counter() - began
    settings = settings_for(config, entry, options={"min_new_tokens": TOKENS, "max_new_tokens": TOKENS, "seed": 1})
    model = Model(entry, tokenizer, engine)
    session = Session(lambda: model, settings, entry=entry, directory=paths.data_dir())
    for _ in session.reply(MESSAGE):
        pass
    assert session.last is not None
    newest = max((path for path in paths.data_dir().iterdir() if path.is_file()), key=lambda path: path.stat().st_mtime)
    print(f"({engine.precision}, {torch.get_num_threads()} threads, notices: {engine.notices})", file=sys.stderr)
    return {
        "opened": row,
        "load": f"{loaded:.1f}",
        "peak": f"{status('VmHWM') / 1e9:.2f}",
        "private": f"{watch.most_private / 1e9:.2f}",
        "first": f"{session.last.first_token_s:.2f}",
        "rate": f"{session.last.tokens_per_second:.2f}",
        "tokens": len(session.last.reply_ids),
        "saved": f"{newest.stat().st_size} bytes",
    }


class Watch:
    """Return the peak of private memory (without mapped files) from now on, sampled 20 times a second."""

    def __init__(self) -> None:
        self.most_private = 0
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        while True:
            self.most_private = max(self.most_private, status("RssAnon"))
            time.sleep(0.05)


def status(name: str) -> int:
    """Return bytes from Linux' /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def print_row(cells: tuple[Any, ...]) -> None:
    print("".join(f"{cell!s:>14}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
