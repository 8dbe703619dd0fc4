"""Escapes text for CommonMark, so that it renders as typed; lists and code stay lists and code."""

from __future__ import annotations

import re
from itertools import groupby, pairwise

_FENCED = re.compile(r"(?ms)^(?P<fence>`{3,})[^`\n]*\n.*?^(?P=fence)`*[ \t]*$\n?")
_LIST_LINE = re.compile(r"(?P<indent> {0,6})(?P<mark>[-*+]|(?P<number>0|[1-9][0-9]{0,8})[.)]) (?=\S)(?P<rest>.*)")
# White space that a paragraph would lose: at the ends of a line, runs, tabs, several empty lines.
_LAYOUT = re.compile(r"(?m)^[^\S\n]|[^\S\n]$|[^\S\n]{2}|\t|\A\n|\n\Z|\n{3}")
_CODE_SPAN = re.compile(r"(?<!`)`[^`\n]+`(?!`)")
_MARKUP = re.compile(
    r"[\\`*\[\]<|~]"  # emphasis, links, HTML, tables, strikethrough
    r"|(?<![^\W_])_|_(?![^\W_])"  # emphasis; not inside a word
    r"|&(?=#?[0-9A-Za-z]+;)"  # an entity
    r"|!(?=\[)|:(?=[0-9]*[A-Za-z_+-][A-Za-z0-9_+-]*:)|(?<!\w):(?=(?:100|1234):)|(?<=http):|(?<=https):|(?<=ftp):|(?<=www)\.|(?<=\w)@(?=\w)|\$(?=\S)"
)
_LINE_START = re.compile(r"(?m)^(?:([-+=>#])|([0-9]+)([.)]))")
_BETWEEN_LISTS = "<!-- -->"  # else two lists become one


def block(text: str) -> str:
    """Return `text` as blocks of Markdown."""
    parts, position = [], 0
    for found in _FENCED.finditer(text):
        if found.start() > position:
            parts.append(_prose(text[position : found.start()].strip("\n")))
        parts.append(found[0].rstrip("\n"))
        position = found.end()
    if position < len(text) or not parts:
        rest = text[position:]
        parts.append(_prose(rest.strip("\n") if parts else rest))
    return "\n\n".join(part for part in parts if part)


def escape(text: str) -> str:
    """Return `text` with every character of markup escaped, except in code spans."""
    parts, position = [], 0
    for span in _CODE_SPAN.finditer(text):
        inside = span[0][1:-1]
        if inside != inside.strip() or (span.start() and text[span.start() - 1] == "\\"):
            continue
        parts += [_MARKUP.sub(r"\\\g<0>", text[position : span.start()]), span[0]]
        position = span.end()
    parts.append(_MARKUP.sub(r"\\\g<0>", text[position:]))
    return _LINE_START.sub(_escape_start, "".join(parts))


def _prose(text: str) -> str:
    lines = text.split("\n")
    kinds = _kinds(lines)
    plain = "\n".join("-" if is_list else line for line, is_list in zip(lines, kinds, strict=True))
    if _LAYOUT.search(plain):
        fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
        return f"{fence}\n{text}\n{fence}"
    blocks: list[tuple[bool, str]] = []
    for is_list, group in groupby(zip(kinds, lines, strict=True), key=lambda pair: pair[0]):
        block_lines = [line for _, line in group]
        if is_list:
            blocks.append((True, "\n".join(map(_item, block_lines))))
        else:
            paragraphs = "\n".join(block_lines).strip("\n").split("\n\n")
            blocks += [(False, escape(each).replace("\n", "\\\n")) for each in paragraphs if each]
    written = [blocks[0][1]] if blocks else []
    for (was_list, _), (is_list, following) in pairwise(blocks):
        written += [_BETWEEN_LISTS, following] if was_list and is_list else [following]
    return "\n\n".join(written)


def _kinds(lines: list[str]) -> list[bool]:
    """Return True for each line that is a list item. Numbers must count upward, as a renderer counts them."""
    kinds = []
    numbers: dict[str, int] = {}
    for line in lines:
        found = _LIST_LINE.fullmatch(line)
        if found is None:
            numbers = {}
            kinds.append(False)
            continue
        indent, number = found["indent"], found["number"]
        counts = number is None or numbers.get(indent, int(number) - 1) == int(number) - 1
        is_first = not (kinds and kinds[-1])
        kinds.append(counts and not (is_first and indent))
        if number is not None:
            numbers[indent] = int(number)
    return kinds


def _item(line: str) -> str:
    found = _LIST_LINE.fullmatch(line)
    assert found is not None, "a list line"
    return f"{found['indent']}{found['mark']} {escape(found['rest'])}"


def _escape_start(match: re.Match[str]) -> str:
    sign, number, dot = match.groups()
    return f"\\{sign}" if sign else f"{number}\\{dot}"
