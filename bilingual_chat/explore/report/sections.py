"""The sections of a report as HTML. Each text from outside goes through `marks.escape`."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bilingual_chat.explore.duel import read_judgements, win_rates
from bilingual_chat.explore.report import heat_map, plots
from bilingual_chat.explore.report.analysis import Analysis, Measured, is_cut
from bilingual_chat.explore.report.layout import Layout, show
from bilingual_chat.explore.report.marks import (
    LEVELS,
    Words,
    escape,
    escape_lines,
    interval,
    level,
    number,
    shorten,
)
from bilingual_chat.explore.report.svg import extent
from bilingual_chat.explore.results import Reply
from bilingual_chat.explore.statistics import FEW_PROMPTS, RESAMPLES, detectable_difference, variance_components
from bilingual_chat.messages import Phrase

_REFERENCES = Path(__file__).parent / "references.bib"
_QUOTED = 8  # replies of each problem
_TAIL = 160  # characters of a quoted reply, whose end shows the problem
_PROMPT = 90  # characters of a prompt in a table
_MOST_PROMPTS = 200  # rows of the table by prompt
_MOST_VALUES = 6000  # cells of that table
BETTER = {True: "up", False: "down", None: "none"}


@dataclass(frozen=True)
class Section:
    """What every section is written from. `labels`: of the cells. `most_maps`: the number of heat maps to draw."""

    analysis: Analysis
    layout: Layout
    labels: Sequence[str]
    words: Words
    lang: str
    most_maps: int = 1

    def name(self, measured: Measured) -> str:
        return self.words(f"report.measure.{measured.measure.name}")

    @property
    def main(self) -> Measured:
        return self.analysis.main

    @property
    def phrase(self) -> Phrase:
        """The name of the main measure, as a part of a sentence."""
        return Phrase(f"report.measure.{self.main.measure.name}")


def fact(value: object, name: str) -> str:
    """Return an entry of a table of the manifest as text; "" if there is none."""
    found = value.get(name) if isinstance(value, Mapping) else None
    return "" if found is None else show(found)


# -- head -----------------------------------------------------------------------------------------------


def head(about: Section) -> str:
    results, words = about.analysis.results, about.words
    subtitle = words(
        "report.subtitle",
        prompts=len(results.prompts),
        cells=len(results.cells),
        seeds=len(results.replicates),
        replies=f"{len(results.replies):,}",
        created=fact(results.manifest, "created"),
        version=fact(results.manifest, "bchat"),
    )
    warnings = "".join(f'<p class="warning">{text}</p>' for text in _warnings(about))
    return f'<p class="subtitle">{subtitle}</p>{warnings}<div class="cards">{"".join(_cards(about))}</div>'


def _warnings(about: Section) -> Iterator[str]:
    results, words = about.analysis.results, about.words
    if len(results.replies) < results.expected:
        yield words("report.unfinished", done=f"{len(results.replies):,}", expected=f"{results.expected:,}")
    if len(results.prompts) < FEW_PROMPTS:
        yield words("report.few-prompts", prompts=len(results.prompts), few=FEW_PROMPTS)
    if results.damaged:
        yield words("report.lines-skipped", count=len(results.damaged), first=results.damaged[0])
    if "score" not in about.analysis.measured:
        yield words("report.no-score")
    if about.main.is_constant and len(about.labels) > 1:
        yield words("report.all-equal", measure=about.phrase)


def _cards(about: Section) -> Iterator[str]:
    analysis, words, name = about.analysis, about.words, about.phrase
    cells = f"{len(about.labels)}"
    best = "–" if about.main.is_constant and len(about.labels) > 1 else escape(about.labels[analysis.winner])
    yield _card("best", words("report.card.best"), best, _best_note(about))
    near = words("report.card.near-note", cells=cells, measure=name)
    yield _card("", words("report.card.near"), str(len(about.main.near - {about.main.best})), near)
    done, expected = len(analysis.results.replies), f"{analysis.results.expected:,}"
    yield _card("", words("report.card.replies"), f"{done:,}", words("report.card.replies-note", expected=expected))
    note = words("report.card.detectable-note", measure=name)
    yield _card("", words("report.card.detectable"), number(analysis.detectable), note)


def _best_note(about: Section) -> str:
    held_out, name = about.analysis.held_out, about.phrase
    if held_out is None:
        value = number(about.main.estimates[about.analysis.winner].mean)
        return about.words("report.card.best-all", measure=name, value=value)
    there, here = held_out.reported_on, held_out.chosen_on.prompts
    range_ = interval(there.low, there.high)
    values = {"value": number(there.mean), "interval": range_, "there": there.prompts, "here": here}
    return about.words("report.card.best-note", measure=name, **values)


def _card(kind: str, title: str, value: str, note: str) -> str:
    return f'<div class="card {kind}"><h3>{title}</h3><p class="big">{value}</p><p>{note}</p></div>'


# -- what was run ---------------------------------------------------------------------------------------


def run(about: Section) -> str:
    manifest, words = about.analysis.results.manifest, about.words
    prompts = manifest["prompts"]
    seeds = {"seeds": fact(manifest, "seeds"), "base": fact(manifest, "base_seed")}
    rows = (
        ("model", _joined(manifest.get("model"))),
        ("prompts", f"{fact(prompts, 'source')} · {prompts['count']} · sha256 {fact(prompts, 'sha256')[:16]}"),
        ("varied", ", ".join(about.analysis.results.varied)),
        ("fixed", _joined(_acting(manifest.get("fixed")), "=")),
        ("order", " → ".join(map(str, manifest.get("order") or []))),
        ("score", fact(manifest.get("score"), "name")),
        ("tokenizer", fact(manifest, "tokenizer")[:16]),
        ("versions", _joined(manifest.get("versions"))),
    )
    facts = "".join(f"<dt>{words(f'report.fact.{key}')}</dt><dd>{escape(value)}</dd>" for key, value in rows if value)
    facts += f"<dt>{words('report.fact.seeds')}</dt><dd>{words('report.fact.seeds-value', **seeds)}</dd>"
    return f"<dl>{facts}</dl>"


def _acting(fixed: object) -> object:
    """Return the fixed settings without those that 0 or nothing switches off; temperature 0 is no such setting."""
    if not isinstance(fixed, Mapping):
        return fixed
    return {name: value for name, value in fixed.items() if value or name == "temperature"}


def _joined(value: object, between: str = " ") -> str:
    if not isinstance(value, Mapping):
        return "" if value is None else str(value)
    return " · ".join(f"{name}{between}{shorten(show(each), 20)}" for name, each in value.items() if each is not None)


# -- charts ---------------------------------------------------------------------------------------------


def maps(about: Section) -> str:
    words, measured = about.words, about.analysis.measured.values()
    varying = [each for each in sorted(measured, key=lambda each: each is not about.main) if not each.is_constant]
    parts = [_map(about, each) for each in varying[: about.most_maps]]
    left_out = [about.name(each) for each in varying[about.most_maps :]]
    constant = [f"{about.name(each)} {number(float(np.nanmean(each.means)))}" for each in measured if each.is_constant]
    note = f'<p class="note">{words("report.constant")}: {" · ".join(constant)}</p>' if constant else ""
    note += f'<p class="note">{words("report.left-out")}: {" · ".join(left_out)}</p>' if left_out else ""
    return f'<p>{words("report.maps-intro")}</p><div class="maps">{"".join(parts)}</div>{note}'


def _map(about: Section, measured: Measured) -> str:
    better = about.words(f"report.better.{BETTER[measured.measure.is_higher_better]}")
    definition = about.words(f"report.definition.{measured.measure.name}")
    drawn = heat_map.heat_maps(measured, about.layout, about.labels, about.name(measured))
    return (
        f'<article><h3>{about.name(measured)} <small>{better}</small></h3><p class="note">{definition}</p>'
        f"{drawn}{heat_map.legend(measured)}</article>"
    )


def trade_off(about: Section) -> str:
    across = next(
        (about.analysis.measured[name] for name in ("diversity", "distinct2") if name in about.analysis.measured), None
    )
    if across is None or across is about.main or about.main.is_constant or len(about.labels) < 2:
        return ""
    drawn = plots.trade_off(across, about.main, about.labels, (about.name(across), about.name(about.main)))
    return f'<p>{about.words("report.trade-off-intro")}</p><div class="wide">{drawn}</div>'


def differences(about: Section) -> str:
    if len(about.labels) < 2:
        return ""
    at = about.analysis.baseline
    label = about.labels[at]
    intro = about.words("report.differences-intro", measure=about.phrase, number=at, label=label)
    drawn = plots.differences(about.analysis, about.labels, about.words)
    return f'<p>{intro}</p><div class="wide">{drawn}</div>'


def variance(about: Section) -> str:
    words = about.words
    sampled = [at for at, cell in enumerate(about.analysis.results.cells) if not cell.is_greedy]
    rows = []
    for each in about.analysis.measured.values():
        found = variance_components(each.values[:, sampled]) if each.values is not None else None
        if found is None or not found.total:
            continue
        shares = "".join(f"<td>{getattr(found, part) / found.total:.0%}</td>" for part in plots.PARTS)
        name, reach = about.name(each), number(detectable_difference(each.means, about.analysis.baseline))
        rows.append(f"<tr><th>{name}</th><td>{plots.variance_bar(found, name)}</td>{shares}<td>{reach}</td></tr>")
    if not rows:
        return f"<p>{words('report.no-variance')}</p>"
    heads = "".join(f'<th><i class="{part}"></i>{words(f"report.part.{part}")}</th>' for part in plots.PARTS)
    first, last = (words(f"report.{key}") for key in ("measure", "detectable"))
    top = f"<th>{first}</th><th>{words('report.shares')}</th>{heads}<th>{last}</th>"
    table = f'<table class="variance"><tr>{top}</tr>{"".join(rows)}</table>'
    return f'<p>{words("report.variance-intro")}</p><div class="wide">{table}</div>'


# -- prompts and problems -------------------------------------------------------------------------------


def prompts(about: Section) -> str:
    """Return the main measure by prompt and cell, shaded, the lowest prompts first."""
    means = about.main.means
    low, high = extent(means.ravel().tolist())
    by_prompt = np.array([np.mean(row[~np.isnan(row)]) if not np.isnan(row).all() else math.inf for row in means])
    most = min(_MOST_PROMPTS, max(10, _MOST_VALUES // len(about.labels)))
    cells = "".join(f'<th title="{escape(label)}">{at}</th>' for at, label in enumerate(about.labels))
    rows = []
    for at in np.argsort(by_prompt, kind="stable")[:most]:
        values = "".join(_shaded(value, low, high) for value in means[at])
        text = _one_line(about, int(at))
        rows.append(f"<tr><th>{text}</th><td>{number(float(by_prompt[at]))}</td>{values}</tr>")
    intro = about.words("report.prompts-intro", measure=about.phrase)
    top = f"<tr><th>{about.words('report.prompt')}</th><th>{about.words('report.mean')}</th>{cells}</tr>"
    return f'<p>{intro}</p><div class="wide"><table class="prompts">{top}{"".join(rows)}</table></div>'


def _one_line(about: Section, prompt: int) -> str:
    return escape(shorten(" ".join(about.analysis.results.prompts[prompt][1].split()), _PROMPT))


def _shaded(value: float, low: float, high: float) -> str:
    shade = level(float(value), low, high)
    return f"<td class=h{shade}>{number(float(value))}" if 0 <= shade < LEVELS else "<td>"


PROBLEMS: dict[str, Callable[[Reply], bool]] = {
    "loop": lambda reply: reply.columns.get("loop") is True,
    "leak": lambda reply: reply.columns.get("leak") is True,
    "cut": is_cut,
    "empty": lambda reply: not reply.text.strip(),
}


def problems(about: Section) -> str:
    """Return the ends of the first faulty replies of each kind, each text once."""
    replies, words = about.analysis.results.replies, about.words
    parts = []
    for kind, is_faulty in PROBLEMS.items():
        found = [reply for reply in replies if is_faulty(reply)]
        different = list({reply.text: reply for reply in reversed(found)}.values())[::-1]
        if found:
            count = words("report.problem-count", count=f"{len(found):,}", all=f"{len(replies):,}")
            parts.append(f"<h3>{words(f'report.problem.{kind}')} <small>{count}</small></h3>")
            parts += [_quote(about, reply) for reply in different[:_QUOTED]]
    return "".join(parts) or f"<p>{words('report.no-problems')}</p>"


def _quote(about: Section, reply: Reply) -> str:
    text = reply.text if len(reply.text) <= _TAIL else f"…{reply.text[-_TAIL:]}"
    prompt = _one_line(about, reply.prompt)
    return (
        f"<blockquote><p>{escape_lines(text)}</p>"
        f"<footer>#{reply.cell} {escape(about.labels[reply.cell])} · {prompt}</footer></blockquote>"
    )


def duels(about: Section) -> str:
    """Return the win rates of a blind comparison; "" without one."""
    results, words = about.analysis.results, about.words
    judgements = read_judgements(results.directory)
    rows = []
    for each in win_rates(results, judgements):
        rate = f"<td>{number(each.rate.mean)}</td><td>{interval(each.rate.low, each.rate.high)}</td>"
        counts = "".join(f"<td>{count}</td>" for count in (each.wins, each.ties, each.losses, each.bad))
        rows.append(f"<tr><th>#{each.cell} {escape(about.labels[each.cell])}</th>{rate}{counts}</tr>")
    if not rows:
        return ""
    names = ("cell", "rate", "wins", "ties", "losses", "bad")
    cells = (f"<th{' colspan=2' if name == 'rate' else ''}>{words(f'duel.column.{name}')}</th>" for name in names)
    table = f"<table><tr>{''.join(cells)}</tr>{''.join(rows)}</table>"
    return f'<p>{words("duel.intro", judgements=len(judgements))}</p><div class="wide">{table}</div>'


# -- methods --------------------------------------------------------------------------------------------


def methods(about: Section) -> str:
    words, results = about.words, about.analysis.results
    is_few = len(results.prompts) < FEW_PROMPTS
    key = "report.intervals.t" if is_few else "report.intervals.bootstrap"
    intervals = Phrase(key, few=FEW_PROMPTS, resamples=f"{RESAMPLES:,}")
    commands = escape_lines(_commands(results.manifest, str(results.directory)))
    definitions = "".join(
        f"<dt>{about.name(each)}</dt><dd>{words(f'report.definition.{each.measure.name}')}</dd>"
        for each in about.analysis.measured.values()
    )
    return (
        f"<p>{words('report.methods-text', intervals=intervals)}</p>"
        f"<h3>{words('report.definitions')}</h3><dl>{definitions}</dl>"
        f"<h3>{words('report.commands')}</h3><pre>{commands}</pre>"
        f"<h3>BibTeX</h3><pre>{escape_lines(_REFERENCES.read_text(encoding='utf-8').rstrip())}</pre>"
    )


def _commands(manifest: Mapping[str, Any], directory: str) -> str:
    command = manifest.get("command")
    again = shlex.join(map(str, command)) if isinstance(command, list) else ""
    return "\n".join(filter(None, [again, f"bchat replay {shlex.quote(directory)} --check"]))
