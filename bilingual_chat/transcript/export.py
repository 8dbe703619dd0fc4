"""Exports a conversation: Markdown, HTML, and JSONL for fine-tuning.

In Markdown and HTML, control and invisible characters are visible marks. JSONL holds the text unchanged.
"""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from bilingual_chat import messages
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.settings.decoding import RANGES, format_value, is_shown
from bilingual_chat.text.conversation import FinishReason, Speaker, Turn, Utterance
from bilingual_chat.text.sanitize import outward, outward_line
from bilingual_chat.transcript import schema
from bilingual_chat.transcript.details import is_count
from bilingual_chat.transcript.document import resolve_target, save_whole
from bilingual_chat.transcript.loaded import Loaded
from bilingual_chat.transcript.markdown import block, escape
from bilingual_chat.transcript.safe_json import JsonError, encode, mend_surrogates, parse

_ROLES = {Speaker.USER: "user", Speaker.SYSTEM: "assistant"}
_JAPANESE = re.compile("[\u3040-\u30ff\u3400-\u9fff\uff66-\uff9f]")
_MARK = re.compile(rb"<!-- bchat-export (\S{1,200}) ([0-9a-f]{64}) -->\n\Z")
_STYLE = (
    "body{max-width:42rem;margin:2rem auto;padding:0 1rem;font-family:sans-serif;line-height:1.7}"
    "h2{font-size:.85rem;margin:1.5rem 0 .25rem;color:#666}"
    "p{margin:0;white-space:pre-wrap;overflow-wrap:anywhere}"
    ".user p{background:#eef3fb;border-radius:.5rem;padding:.5rem .75rem}"
    "@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}.user p{background:#24303f}}"
)


def export(path: Path, loaded: Loaded, *, overwrite: bool = False) -> Path:
    """Write the conversation in the format of the suffix. Return the path, with links followed.

    Raises BchatError: USAGE for another suffix; "transcript.exists" for an existing file, unless `overwrite` is True
    or the file is an unchanged export of this conversation; otherwise as `document.write_document`.
    """
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise BchatError(
            "transcript.suffix",
            status=ExitStatus.USAGE,
            suffix=suffix or path.name,
            known=", ".join(FORMATS),
            suggestion=messages.did_you_mean(suffix, FORMATS),
        )
    written = FORMATS[suffix](loaded)
    is_ours = _holds_only(loaded) if suffix == ".jsonl" else _is_export_of(loaded)
    try:
        target = resolve_target(path, overwrite=overwrite, ours=is_ours)
    except BchatError as error:
        if error.key != "transcript.not-ours":
            raise
        raise BchatError("transcript.exists", status=ExitStatus.DATA, path=path) from None
    save_whole(target, written)
    return target


def _is_export_of(loaded: Loaded) -> Callable[[bytes], bool]:
    """Return a function that recognises an unchanged export of this conversation."""

    def is_ours(data: bytes) -> bool:
        mark = _MARK.search(data)
        return mark is not None and data[mark.start() :] == _marked(data[: mark.start()], loaded)[mark.start() :]

    return is_ours


def _holds_only(loaded: Loaded) -> Callable[[bytes], bool]:
    """Return a function that recognises JSONL of the first messages of this conversation; JSONL has no mark."""

    def is_ours(data: bytes) -> bool:
        try:
            value = parse(data)
        except JsonError:
            return False
        messages_there = value.get("messages") if isinstance(value, dict) and set(value) == {"messages"} else None
        return isinstance(messages_there, list) and (
            messages_there == messages_of(loaded)["messages"][: len(messages_there)]
        )

    return is_ours


def _marked(data: bytes, loaded: Loaded) -> bytes:
    """Return `data` with a last line by which `_is_export_of` recognises it."""
    name = re.sub("[^A-Za-z0-9._]", "_", loaded.header.id)[:100] or "_"
    return data + f"<!-- bchat-export {name} {hashlib.sha256(data).hexdigest()} -->\n".encode()


def to_markdown(loaded: Loaded) -> bytes:
    """Return CommonMark that renders as the text reads. Text that depends on its spacing is in a fence."""
    parts = [f"# {escape(_title(loaded))}", escape(_origin(loaded)), escape(_shared_settings(loaded))]
    for utterance, mark in _marked_utterances(loaded):
        shown = f" *({escape(mark)})*" if mark else ""
        parts += [f"**{schema.SPELLING[utterance.speaker]}**{shown}", block(outward(utterance.text))]
    return _marked(_utf8("\n\n".join(part for part in parts if part) + "\n\n"), loaded)


def to_html(loaded: Loaded) -> bytes:
    """Return one page without scripts and external files."""
    everything = "".join(utterance.text for utterance, _ in _marked_utterances(loaded))
    title = html.escape(_title(loaded))
    lines = [
        "<!DOCTYPE html>",
        f'<html lang="{_language(everything)}">',
        '<head><meta charset="utf-8">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        '<meta name="viewport" content="width=device-width">',
        f"<title>{title}</title><style>{_STYLE}</style></head>",
        f"<body><h1>{title}</h1>",
        f"<footer>{html.escape(_origin(loaded))}<br>{html.escape(_shared_settings(loaded))}</footer>",
    ]
    for utterance, remark in _marked_utterances(loaded):
        mark = f" ({html.escape(remark)})" if remark else ""
        lines += [
            f'<section class="{utterance.speaker}">'
            f'<h2><span lang="ja">{schema.SPELLING[utterance.speaker]}</span>{mark}</h2>',
            f'<p lang="{_language(utterance.text)}" dir="auto">{html.escape(outward(utterance.text))}</p></section>',
        ]
    return _marked(_utf8("\n".join([*lines, "</body></html>", ""])), loaded)


def to_jsonl(loaded: Loaded) -> bytes:
    """Return one line: `messages_of`."""
    return encode(messages_of(loaded)) + b"\n"


def messages_of(loaded: Loaded) -> dict[str, list[dict[str, str]]]:
    """Return `{"messages": [{"role", "content"}, …]}`, without turns that have no reply."""
    conversation = loaded.conversation
    utterances = [*conversation.opening, *(u for turn in conversation.turns if turn.reply for u in turn.utterances())]
    return {"messages": [{"role": _ROLES[u.speaker], "content": u.text} for u in utterances]}


FORMATS: dict[str, Callable[[Loaded], bytes]] = {".md": to_markdown, ".html": to_html, ".jsonl": to_jsonl}


def _marked_utterances(loaded: Loaded) -> list[tuple[Utterance, str]]:
    """Return every utterance; with a reply, its seed, its own settings, and its end unless it is complete."""
    shared = _settings_of(loaded.conversation.turns[:1])
    marks = {
        len(loaded.conversation.opening) + 2 * number + 1: _mark(turn, shared)
        for number, turn in enumerate(loaded.conversation.turns)
    }
    utterances = schema.all_utterances(loaded.conversation, loaded.pending_user)
    return [(utterance, marks.get(number, "")) for number, utterance in enumerate(utterances)]


def _mark(turn: Turn, shared: Mapping[str, Any]) -> str:
    own = [f"{name}={value}" for name, value in _settings_of([turn]).items() if shared.get(name) != value]
    seed = turn.details.get("seed")
    parts = [f"seed={seed}" if is_count(seed) else "", *own]
    ended = "" if turn.finish is FinishReason.STOP else turn.finish.value
    return "; ".join(filter(None, [ended, " ".join(filter(None, parts))]))


def _settings_of(turns: Sequence[Turn]) -> dict[str, Any]:
    """Return the decoding parameters and the model of the first of these turns, without the seed."""
    details = turns[0].details if turns else {}
    recorded = details.get("settings")
    found = {"model": details["model"]} if isinstance(details.get("model"), str) else {}
    if isinstance(recorded, Mapping):
        shown = [name for name in RANGES if name in recorded and is_shown(name, recorded[name])]
        found |= {name: format_value(recorded[name]) for name in shown if name != "seed"}
    return found


def _shared_settings(loaded: Loaded) -> str:
    return outward_line(" ".join(f"{name}={value}" for name, value in _settings_of(loaded.conversation.turns).items()))


def _title(loaded: Loaded) -> str:
    utterances = schema.all_utterances(loaded.conversation, loaded.pending_user)[len(loaded.conversation.opening) :]
    first_line = " ".join(utterances[0].text.split()) if utterances else ""
    return outward_line(first_line[:60]) or "bchat"


def _origin(loaded: Loaded) -> str:
    header = loaded.header
    parts = (header.model, _local(header.created), f"bchat {header.bchat}")
    return outward_line(" · ".join(part for part in parts if part))


def _local(time: str) -> str:
    """Return a recorded time in the local time zone, which is named; other text unchanged."""
    try:
        local = datetime.fromisoformat(time).astimezone()
    except (ValueError, OverflowError, OSError):
        return time
    offset = f"UTC{local:%z}"[:6] + ":" + f"{local:%z}"[3:5]
    zone = local.tzname() or ""
    return f"{local:%Y-%m-%d %H:%M:%S} {offset}" + (f" ({zone})" if zone.isalpha() and zone != "UTC" else "")


def _language(text: str) -> str:
    return "ja" if _JAPANESE.search(text) else "en"


def _utf8(text: str) -> bytes:
    return mend_surrogates(text).encode("utf-8")
