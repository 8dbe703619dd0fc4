"""Prompts: renders a conversation in the format of the model card, parses it back, and fits it to the context.

`parse` inverts `render` for every text, so no text can forge a turn: a line that looks like a speaker label gets one
space in front. A tokenizer may still normalise text into a label or a separator; `prompt_ids` prevents that.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain
from typing import Literal

from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.text.conversation import Conversation, Speaker, Utterance

NEWLINE_SYMBOL = "<NL>"

# Unicode's Default_Ignorable_Code_Point, and other invisible format characters.
_INVISIBLE = (
    "\u00ad\u034f\u0600-\u0605\u061c\u06dd\u070f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff"
)
_SILENT = "\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f"  # control characters, except line ends and spaces
_CONTROL = "\x00-\x1f\x7f-\x9f"
# sentencepiece encodes a typed U+2581 as a space.
_UNSEEN = re.compile(rf"[{_INVISIBLE}{_CONTROL}\s\u2581]+")
# All that a model may read as a line end.
_LINE_END = re.compile("([\n\r\v\f\x1c-\x1e\x85\u2028\u2029])")


@dataclass(frozen=True)
class PromptFormat:
    """The prompt format of a model. Defaults: rinna's bilingual 4B models (their model cards).

    "speaker-text": utterances "{label}: {text}" joined by `separator`; the prompt ends "{system_label}: ".
    "plain": the texts alone, as one text, for base models.
    "template": the chat template in the model's files, which its tokenizer applies; the labels are only displayed.
    newline: replaces each newline inside a text; "<NL>" for the Japanese 3.6B models.
    """

    kind: Literal["speaker-text", "plain", "template"] = "speaker-text"
    user_label: str = "ユーザー"
    system_label: str = "システム"
    separator: str = "\n"
    newline: str = "\n"

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """The beginnings of a turn that the model may forge, as the model writes them."""
        if self.kind != "speaker-text":
            return ()
        return tuple(f"{self.separator}{label}:" for label in self.labels)

    @property
    def turns(self) -> tuple[str, ...]:
        """The beginnings of a turn, with real newlines; none if the separator is only spaces."""
        if not self.separator.strip(" "):
            return ()
        return tuple(stop.replace(self.newline or "\n", "\n") for stop in self.stop_strings)

    @property
    def labels(self) -> tuple[str, str]:
        return self.user_label, self.system_label

    def label(self, speaker: Speaker) -> str:
        return self.user_label if speaker is Speaker.USER else self.system_label


PLAIN = PromptFormat(kind="plain")
TEMPLATE = PromptFormat(kind="template", user_label="user", system_label="assistant")


@dataclass(frozen=True)
class Beginning:
    """The part of a reply that exists before the model continues it: `text`, then `ids`.

    text: encoded with the prompt, as one text. ids: tokens that were generated after it, kept as they are.
    given: the user's part of `text`; the rest of it was generated earlier, with ids that are no longer known.
    """

    text: str = ""
    ids: tuple[int, ...] = ()
    given: str = ""

    def __bool__(self) -> bool:
        return bool(self.text or self.ids)


NOTHING = Beginning()


@dataclass(frozen=True)
class Prompt:
    """A prompt: its text, its token ids, and the number of oldest turns left out.

    A plain prompt leaves out characters instead. `is_neutralised`: some text was changed because it would have forged
    a turn. `beginning`: the part of the reply with which the prompt ends; `text` ends with `beginning.text`.
    """

    text: str
    ids: tuple[int, ...]
    dropped_turns: int = 0
    dropped_characters: int = 0
    is_neutralised: bool = False
    beginning: Beginning = NOTHING

    @property
    def dropped(self) -> int:
        """The number of turns left out; of characters in a plain prompt."""
        return self.dropped_turns or self.dropped_characters


EncodePrompt = Callable[[Sequence[Utterance]], Prompt]


@dataclass(frozen=True)
class Framed:
    """One utterance in a prompt: `head` is separator and label, `body` the text, made harmless."""

    head: str
    body: str
    is_neutralised: bool = False


def frame(utterances: Iterable[Utterance], format: PromptFormat, *, asks: bool = True, begin: str = "") -> list[Framed]:
    """Return the parts of a prompt; with `asks`, the label of the reply ("システム: ") and `begin` are the last.

    Newlines in a body are still "\n". Raises ValueError for a template, which the tokenizer applies.
    """
    if format.kind == "template":
        raise ValueError("a chat template is applied by its tokenizer")
    if format.kind == "plain":
        return [_framed("", "".join(u.text for u in utterances) + begin, format)]
    asked = [Utterance(Speaker.SYSTEM, begin)] * asks
    framed = [_framed(f"{format.label(u.speaker)}: ", u.text, format) for u in (*utterances, *asked)]
    return [*framed[:1], *(replace(each, head=format.separator + each.head) for each in framed[1:])]


def render(utterances: Iterable[Utterance], format: PromptFormat, begin: str = "") -> str:
    """Return the prompt text that asks for the reply to `utterances`; it ends "システム: ", then `begin`."""
    return join(frame(utterances, format, begin=begin), format)


def join(framed: Iterable[Framed], format: PromptFormat) -> str:
    """Return the text of a prompt."""
    return "".join(each.head + each.body.replace("\n", format.newline) for each in framed)


def parse(text: str, format: PromptFormat) -> tuple[Utterance, ...]:
    """Return the utterances of a text that `render` returned; of a plain prompt, one user utterance.

    The beginning of a reply is one more utterance. Raises ValueError for other text and for templates.
    """
    if format.kind == "template":
        raise ValueError("a chat template cannot be taken apart")
    if format.kind == "plain":
        return (Utterance(Speaker.USER, _from_prompt(text, format)),)
    labels = "|".join(re.escape(label) for label in format.labels)
    parts = re.split(f"(?:^|{re.escape(format.separator)})({labels}): ", text)
    if parts[0] or len(parts) < 3 or parts[-2] != format.system_label:
        raise ValueError("not a prompt of this format")
    end = None if parts[-1] else -2
    speakers = {format.user_label: Speaker.USER, format.system_label: Speaker.SYSTEM}
    return tuple(
        Utterance(speakers[label], _from_prompt(body, format))
        for label, body in zip(parts[1:end:2], parts[2:end:2], strict=True)
    )


def fit(
    conversation: Conversation,
    message: str,
    format: PromptFormat,
    encode_prompt: EncodePrompt,
    budget: int,
    *,
    already_dropped: int = 0,
) -> Prompt:
    """Return the prompt for `message` within `budget` tokens (the context minus room for the reply).

    The opening stays; `already_dropped` turns stay dropped. If the rest is too long, the oldest turns are dropped at
    once, down to 3/4 of the budget, so that the next turns hit the KV cache. A plain prompt drops characters, because
    one turn may be most of it. Raises BchatError (USAGE) if opening and message alone are too long.
    """
    last = Utterance(Speaker.USER, message)
    if format.kind == "plain":
        whole = "".join(u.text for u in (*conversation.utterances(), last))

        def cut(characters: int) -> Prompt:
            return replace(encode_prompt([Utterance(Speaker.USER, whole[characters:])]), dropped_characters=characters)

        return _longest_within(cut, already_dropped, len(whole) - len(message), budget)

    def drop(turns: int) -> Prompt:
        kept = chain.from_iterable(turn.utterances() for turn in conversation.turns[turns:])
        return replace(encode_prompt((*conversation.opening, *kept, last)), dropped_turns=turns)

    return _longest_within(drop, already_dropped, len(conversation.turns), budget)


def _longest_within(without: Callable[[int], Prompt], already: int, most: int, budget: int) -> Prompt:
    """Return the prompt with the fewest dropped, from `already` to `most`, by bisection.

    Each try encodes the whole text: a token may span two utterances, so their counts do not add up.
    """
    too_few = min(already, most)
    whole = without(too_few)
    if len(whole.ids) <= budget:
        return whole
    best = without(most)
    if len(best.ids) > budget:
        raise BchatError("prompt.too-long", status=ExitStatus.USAGE, tokens=len(best.ids), budget=budget)
    room = budget * 3 // 4
    room = room if len(best.ids) <= room else budget
    while best.dropped - too_few > 1:
        middle = without((too_few + best.dropped) // 2)
        if len(middle.ids) <= room:
            best = middle
        else:
            too_few = middle.dropped
    return best


def _framed(head: str, text: str, format: PromptFormat) -> Framed:
    body = _neutralise(text, format)
    return Framed(head, body, body != text)


def _from_prompt(text: str, format: PromptFormat) -> str:
    text = text.replace(format.newline, "\n")
    if format.newline != "\n":
        text = _newline_symbol().sub(lambda m: m[1] + m[2].removeprefix(" ") + m[3], text)
    if turn := _turn_within(format):
        text = turn.sub(lambda m: m[1] + m[2].removeprefix(" ") + m[3], text)
    return _each_later_line(text, format, lambda line: line.removeprefix(" "))


def _neutralise(text: str, format: PromptFormat) -> str:
    text = _each_later_line(text, format, lambda line: f" {line}")
    if turn := _turn_within(format):
        text = turn.sub(lambda m: f"{m[1]} {m[2]}{m[3]}", text)
    if format.newline != "\n":
        text = _newline_symbol().sub(lambda m: f"{m[1]} {m[2]}{m[3]}", text)
    return text


def _turn_within(format: PromptFormat) -> re.Pattern[str] | None:
    """Match separator and label, if the separator is more than a line end; a space before group 3 breaks them."""
    separator = format.separator.replace(format.newline or "\n", "\n")
    if format.kind != "speaker-text" or not separator.strip("\n "):
        return None
    first = len(separator) - len(separator.lstrip(" ")) + 1
    labels = "|".join(re.escape(label) for label in format.labels)
    return re.compile(f"({re.escape(separator[:first])})( *)({re.escape(separator[first:])}(?:{labels}):)")


def _each_later_line(text: str, format: PromptFormat, change: Callable[[str], str]) -> str:
    """Apply `change` to each line that looks like a speaker label, with or without spaces in front.

    Not to the first line: it follows its speaker's label, where no turn can begin.
    """
    if format.kind != "speaker-text":
        return text
    first, *rest = _LINE_END.split(text)
    labels = tuple(_fold(label) + ":" for label in format.labels)
    for i in range(1, len(rest), 2):
        if _fold(rest[i].lstrip(" ")).startswith(labels):
            rest[i] = change(rest[i])
    return first + "".join(rest)


def _fold(line: str) -> str:
    """Return the visible beginning of `line`: NFKC, without spaces and invisible characters."""
    # NFKC is slow on long runs of marks; a label's compatibility spelling is far below 64 characters.
    return _UNSEEN.sub("", unicodedata.normalize("NFKC", _UNSEEN.sub("", line)[:64]))


@cache
def _newline_symbol() -> re.Pattern[str]:
    """Match "<NL>" and look-alikes, also with spaces after "<"; groups: "<", spaces, the rest."""
    blocks = (
        (0x1D00, 0x1D80),
        (0x2100, 0x2500),
        (0xFE50, 0xFE70),
        (0xFF00, 0xFF60),
        (0x1D400, 0x1D800),
        (0x1F100, 0x1F200),
    )
    compatible = [chr(code) for block in blocks for code in range(*block)]
    classes = [
        f"[{like}{''.join(c for c in compatible if unicodedata.normalize('NFKC', c) == like)}]"
        for like in NEWLINE_SYMBOL
    ]
    gap = f"[{_INVISIBLE}{_SILENT}]*"
    return re.compile(f"({classes[0]})( *)({gap}{classes[1]}{gap}{classes[2]}{gap}{classes[3]})")
