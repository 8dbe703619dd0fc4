"""The report as one HTML file: no script, no network, and small."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bilingual_chat.explore.report import sections
from bilingual_chat.explore.report.analysis import NAMES, Analysis
from bilingual_chat.explore.report.layout import arrange
from bilingual_chat.explore.report.marks import Words, words_in
from bilingual_chat.explore.report.replies import DETAILS, write_replies
from bilingual_chat.explore.report.sections import Section

SIZE_LIMIT = 490_000  # bytes of a page
GENERATOR = '<meta name="generator" content="bchat report">'
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"

# The name of each section, which is its anchor and its key in `messages`, and its writer.
_SECTIONS: tuple[tuple[str, Callable[[Section], str]], ...] = (
    ("run", sections.run),
    ("maps", sections.maps),
    ("trade-off", sections.trade_off),
    ("differences", sections.differences),
    ("variance", sections.variance),
    ("prompts", sections.prompts),
    ("problems", sections.problems),
    ("duels", sections.duels),
)

# What is left out of a page that is too large: first replies, then heat maps.
_LEVELS = ((len(NAMES), DETAILS), *((most, DETAILS[-1:]) for most in (6, 3, 1)))


def write_page(analysis: Analysis, lang: str) -> bytes:
    """Return the report in `lang`. Replies and heat maps are left out as far as it would exceed `SIZE_LIMIT`."""
    words = words_in(lang)
    results = analysis.results
    layout = arrange(results.cells, results.varied)
    whole = Section(analysis, layout, [cell.label for cell in results.cells], words, lang)
    for most_maps, details in _LEVELS:
        about = replace(whole, most_maps=most_maps)
        written = [(name, write(about)) for name, write in _SECTIONS]
        methods = ("methods", sections.methods(about))
        for detail in details:
            parts = [*written, ("replies", write_replies(about, detail)), methods]
            page = _page(about, [(name, html) for name, html in parts if html], words).encode("utf-8", "replace")
            if len(page) <= SIZE_LIMIT:
                return page
    return page


def _page(about: Section, parts: list[tuple[str, str]], words: Words) -> str:
    style = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")
    model = sections.fact(about.analysis.results.manifest.get("model"), "name") or "?"
    title = words("report.title", model=model)
    links = "".join(f'<a href="#{name}">{words(f"report.section.{name}")}</a>' for name, _ in parts)
    body = "".join(
        f'<section id="{name}"><h2>{words(f"report.section.{name}")}</h2>{html}</section>' for name, html in parts
    )
    return (
        f'<!DOCTYPE html><html lang="{about.lang}"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark">{GENERATOR}'
        f"<title>{title}</title><style>{style}</style></head><body>"
        f"<header><h1>{title}</h1>{sections.head(about)}</header><nav>{links}</nav><main>{body}</main></body></html>\n"
    )
