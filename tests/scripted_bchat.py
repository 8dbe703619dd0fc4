"""bchat as a program, over a scripted model: `python -m tests.scripted_bchat SCRIPT ARGUMENTS…`.

SCRIPT is JSON: `replies`, a list of texts; `step_s`, seconds for each token; `load_s`, seconds for loading;
`load_error`, the error of loading; `passes` over a prompt, a step each, before the reply; `heard`, a file that gets
the prefilled text.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bilingual_chat.cli import chat, command_line
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.session.model import Model
from bilingual_chat.settings.catalogue import ModelEntry
from tests.scripted import Script, ScriptedEngine, tokenizer


def prefill(heard: Path, ids: Sequence[int]) -> Iterator[int]:
    """Prefill half of `ids` in half a second, the rest in another; `heard` gets the last text."""
    heard.write_text(tokenizer().decode(list(ids)), encoding="utf-8")
    for done in (len(ids) // 2, len(ids)):
        time.sleep(0.5)
        yield done


def main(script: dict[str, Any], arguments: list[str]) -> int:
    def open_model(entry: ModelEntry, *how: object) -> Model:
        time.sleep(script.get("load_s", 0))
        if "load_error" in script:
            raise BchatError("model.incomplete", status=ExitStatus.MODEL, path=script["load_error"], file="config.json")
        step_s = script.get("step_s", 0)
        replies = [Script("half", RuntimeError("boom")) if text is None else text for text in script.get("replies", ())]
        engine = ScriptedEngine(replies, on_step=lambda: time.sleep(step_s), passes=script.get("passes", 0))
        if "heard" in script:
            engine.prefill = partial(prefill, Path(script["heard"]))  # type: ignore[method-assign]
            engine.can_prefill = True
        return Model(entry, tokenizer(), engine)

    chat.open_model = chat.open_in_background = open_model  # type: ignore[attr-defined]
    sys.argv = ["bchat", *arguments]
    return command_line.main()


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1]), sys.argv[2:]))
