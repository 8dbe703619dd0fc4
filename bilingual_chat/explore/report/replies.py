"""Replies side by side: one block a prompt, one card a cell; shortened until the page is small enough."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bilingual_chat.explore.report.marks import escape, escape_lines, number, shorten
from bilingual_chat.explore.report.sections import Section
from bilingual_chat.explore.results import Reply

_SUMMARY = 110  # characters of a prompt in the line that opens its block


@dataclass(frozen=True)
class Detail:
    """How much of each text, how many seeds a cell and how many prompts are written; 0 is all."""

    characters: int = 0
    seeds: int = 0
    prompts: int = 0


DETAILS = (
    *(Detail(characters) for characters in (0, 800, 400, 200, 120)),
    *(Detail(120, seeds) for seeds in (2, 1)),
    *(Detail(80, 1, prompts) for prompts in (100, 30, 10, 3)),
    Detail(40, 1, 1),
)


def write_replies(about: Section, detail: Detail) -> str:
    results, words = about.analysis.results, about.words
    groups: dict[int, dict[int, list[Reply]]] = defaultdict(lambda: defaultdict(list))
    for reply in results.replies:
        groups[reply.prompt][reply.cell].append(reply)
    shown = range(len(results.prompts))[: detail.prompts or None]
    note = words("report.replies-intro")
    if detail.characters:
        left, seeds = len(results.prompts) - len(shown), detail.seeds or len(results.replicates)
        note += f" {words('report.replies-short', characters=detail.characters, seeds=seeds, left=left)}"
    blocks = (_block(about, prompt, results.prompts[prompt][1], groups[prompt], detail) for prompt in shown)
    return f"<p>{note}</p>{''.join(blocks)}"


def _block(about: Section, at: int, prompt: str, cells: Mapping[int, Sequence[Reply]], detail: Detail) -> str:
    summary, whole = escape(shorten(" ".join(prompt.split()), _SUMMARY)), ""
    if len(prompt) > _SUMMARY or "\n" in prompt:
        whole = f'<p class="prompt">{escape_lines(_cut(prompt, detail))}</p>'
    cards = "".join(_card(about, cell, cells[cell], detail) for cell in sorted(cells))
    inside = f'{whole}<div class="replies" lang="ja">{cards}</div>'
    return f"<details><summary><b>{at + 1}</b> {summary}</summary>{inside}</details>"


def _card(about: Section, cell: int, replies: Sequence[Reply], detail: Detail) -> str:
    texts = _merged(replies[: detail.seeds or None], detail)
    return f"<div><h4>#{cell} {escape(about.labels[cell])}</h4>{''.join(texts)}</div>"


def _merged(replies: Sequence[Reply], detail: Detail) -> Iterable[str]:
    """Yield each different reply once, with its remarks."""
    counts = Counter((reply.text, _remark(reply)) for reply in replies)
    for (text, remark), count in counts.items():
        notes = " · ".join(filter(None, [remark, f"×{count}" if count > 1 else ""]))
        yield f"<p>{escape_lines(_cut(text, detail))}{f' <small>{escape(notes)}</small>' if notes else ''}"


def _remark(reply: Reply) -> str:
    score = reply.columns.get("score")
    scored = number(float(score)) if isinstance(score, int | float) else ""
    return " · ".join(filter(None, [scored, "" if reply.finish == "stop" else reply.finish]))


def _cut(text: str, detail: Detail) -> str:
    return shorten(text, detail.characters) if detail.characters else text
