"""A conversation for other programs: Markdown, HTML, and JSONL for fine-tuning.

Markdown and HTML are for reading and read the same as what was said, so that characters that act on
a terminal are visible marks there; JSONL holds the text itself.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from pathlib import Path

from bilingual_chat import messages
from bilingual_chat.conversation import FinishReason, Speaker, Utterance
from bilingual_chat.errors import BchatError, ExitStatus
from bilingual_chat.transcript import Loaded, shapes
from bilingual_chat.transcript.document import resolve_target, save_whole
from bilingual_chat.transcript.jsontext import encode, mend_surrogates
from bilingual_chat.untrusted import outward, outward_line

_ROLES = {Speaker.USER: "user", Speaker.SYSTEM: "assistant"}
_JAPANESE = re.compile("[\u3040-\u30ff\u3400-\u9fff\uff66-\uff9f]")
# What a paragraph would swallow: space at the ends of a line, runs of space, tabs, several empty lines.
_LAYOUT = re.compile(r"(?m)^[^\S\n]|[^\S\n]$|[^\S\n]{2}|\t|\A\n|\n\Z|\n{3}")
_MARKUP = re.compile(r"[\\`*_{}\[\]<>#|~&$:@!]")
_LINE_START = re.compile(r"(?m)^(?:([-+=])|([0-9]+)([.)]))")
_STYLE = (
    "body{max-width:42rem;margin:2rem auto;padding:0 1rem;font-family:sans-serif;line-height:1.7}"
    "h2{font-size:.85rem;margin:1.5rem 0 .25rem;color:#666}"
    "p{margin:0;white-space:pre-wrap;overflow-wrap:anywhere}"
    ".user p{background:#eef3fb;border-radius:.5rem;padding:.5rem .75rem}"
    "@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}.user p{background:#24303f}}"
)


def export(path: Path, loaded: Loaded, *, overwrite: bool = False) -> Path:
    """Writes the conversation in the format of the suffix; the path it is at, links followed.

    Raises BchatError (USAGE) for another suffix; "transcript.not-ours" for any existing file unless
    `overwrite`; otherwise as `document.write_document`.
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
    target = resolve_target(path, overwrite=overwrite, ours=lambda data: False)
    save_whole(target, FORMATS[suffix](loaded))
    return target


def to_markdown(loaded: Loaded) -> bytes:
    """CommonMark that renders as the text reads; what depends on its spacing is in a fence."""
    parts = [f"# {_escape(_title(loaded))}", _escape(_origin(loaded))]
    for utterance, finish in _said(loaded):
        mark = "" if finish is None else f" *({finish})*"
        parts += [f"**{shapes.SPELLING[utterance.speaker]}**{mark}", _block(outward(utterance.text))]
    return _utf8("\n\n".join(part for part in parts if part) + "\n")


def to_html(loaded: Loaded) -> bytes:
    """One page that needs nothing else and runs nothing."""
    everything = "".join(utterance.text for utterance, _ in _said(loaded))
    title = html.escape(_title(loaded))
    lines = [
        "<!DOCTYPE html>",
        f'<html lang="{_language(everything)}">',
        '<head><meta charset="utf-8">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        '<meta name="viewport" content="width=device-width">',
        f"<title>{title}</title><style>{_STYLE}</style></head>",
        f"<body><h1>{title}</h1>",
        f"<footer>{html.escape(_origin(loaded))}</footer>",
    ]
    for utterance, finish in _said(loaded):
        mark = "" if finish is None else f" ({html.escape(finish)})"
        lines += [
            f'<section class="{utterance.speaker}">'
            f'<h2><span lang="ja">{shapes.SPELLING[utterance.speaker]}</span>{mark}</h2>',
            f'<p lang="{_language(utterance.text)}" dir="auto">{html.escape(outward(utterance.text))}</p></section>',
        ]
    return _utf8("\n".join([*lines, "</body></html>", ""]))


def to_jsonl(loaded: Loaded) -> bytes:
    """One line: `messages_of`."""
    return encode(messages_of(loaded)) + b"\n"


def messages_of(loaded: Loaded) -> dict[str, list[dict[str, str]]]:
    """`{"messages": [{"role", "content"}, …]}`; turns without a reply teach nothing and are left out."""
    conversation = loaded.conversation
    said = [*conversation.opening, *(u for turn in conversation.turns if turn.reply for u in turn.utterances())]
    return {"messages": [{"role": _ROLES[u.speaker], "content": u.text} for u in said]}


FORMATS: dict[str, Callable[[Loaded], bytes]] = {".md": to_markdown, ".html": to_html, ".jsonl": to_jsonl}


def _said(loaded: Loaded) -> list[tuple[Utterance, str | None]]:
    """Every utterance; with a reply that did not end by itself, how it ended."""
    finishes = {
        len(loaded.conversation.opening) + 2 * number + 1: turn.finish.value
        for number, turn in enumerate(loaded.conversation.turns)
        if turn.finish is not FinishReason.STOP
    }
    said = shapes.said_in(loaded.conversation, loaded.pending_user)
    return [(utterance, finishes.get(number)) for number, utterance in enumerate(said)]


def _title(loaded: Loaded) -> str:
    said = shapes.said_in(loaded.conversation, loaded.pending_user)[len(loaded.conversation.opening) :]
    words = " ".join(said[0].text.split()) if said else ""
    return outward_line(words[:60]) or "bchat"


def _origin(loaded: Loaded) -> str:
    header = loaded.header
    return outward_line(" · ".join(part for part in (header.model, header.created, f"bchat {header.bchat}") if part))


def _block(text: str) -> str:
    if _LAYOUT.search(text):
        fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
        return f"{fence}\n{text}\n{fence}"
    return "\n\n".join(_escape(paragraph).replace("\n", "\\\n") for paragraph in text.split("\n\n"))


def _escape(text: str) -> str:
    return _LINE_START.sub(_escape_start, _MARKUP.sub(r"\\\g<0>", text))


def _escape_start(match: re.Match[str]) -> str:
    sign, number, dot = match.groups()
    return f"\\{sign}" if sign else f"{number}\\{dot}"


def _language(text: str) -> str:
    return "ja" if _JAPANESE.search(text) else "en"


def _utf8(text: str) -> bytes:
    return mend_surrogates(text).encode("utf-8")
