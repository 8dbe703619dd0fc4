"""Commands that look inside: /probs and /tokens."""

from __future__ import annotations

import math
from codecs import getincrementaldecoder
from collections.abc import Sequence
from dataclasses import dataclass

from bilingual_chat.commands.app import Action, App, Page, Rows
from bilingual_chat.commands.arguments import parse_number, shortened, unquoted
from bilingual_chat.engines.protocol import Chunk
from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.session.model import Model
from bilingual_chat.settings.decoding import quoted
from bilingual_chat.text.conversation import FinishReason
from bilingual_chat.text.sanitize import outward_line
from bilingual_chat.transcript.probabilities import unpack

SHADES = (0.9, 0.5, 0.2, 0.05)  # the least probability of each shade but the last
AROUND = 60  # tokens of the text on each side of the one that is looked at


@dataclass(frozen=True)
class Character:
    """The tokens from `start` to `end` (excluded), which spell `text`: one token, or the bytes of a character."""

    start: int
    end: int
    text: str


@dataclass(frozen=True)
class ReplyTokens:
    """The tokens of the last reply with their probabilities, and the characters that they spell."""

    chunks: tuple[Chunk, ...]
    characters: tuple[Character, ...]
    model: Model

    def character_of(self, index: int) -> Character:
        """Return the character that token `index` belongs to."""
        return next(each for each in self.characters if index < each.end)


def show_probabilities(app: App, argument: str) -> Action:
    """/probs: show how likely each token of the last reply was, and its alternatives."""
    tokens = _tokens_of_last_reply(app)
    number = parse_number(argument, len(tokens.chunks)) if argument else 1
    if number is None:
        raise BchatError("probs.number", status=ExitStatus.USAGE, value=shortened(argument), most=len(tokens.chunks))
    if app.reader.has_editor:
        hint = app.text(Phrase("probs.keys"))
        chosen = app.reader.flip(len(tokens.chunks), lambda index: _page(app, tokens, index), number - 1, hint)
        if chosen is not None:
            app.say(_facts(app, tokens, chosen))
            app.show_rows(_alternatives(app, tokens, chosen))
    elif argument:
        app.show_rows(_alternatives(app, tokens, number - 1))
        app.say(_facts(app, tokens, number - 1))
    else:
        app.show_rows(_overview(app, tokens))
    return None


def show_tokens(app: App, argument: str) -> Action:
    """/tokens: show how a text is cut into tokens."""
    model = app.session.model()
    ids = model.tokenizer.encode(unquoted(argument).replace("\n", model.format.newline))
    pieces = [model.tokenizer.piece(each) for each in ids]
    head = tuple(app.text(Phrase(f"tokens.{name}")) for name in ("number", "token", "id", "bytes"))
    characters = group_bytes(pieces)
    rows = [
        (str(index + 1), _text_in(app, ids[index], character, model), str(ids[index]), _hex_of(pieces[index]))
        for character in characters
        for index in range(character.start, character.end)
    ]
    app.show_rows([head, *rows])
    app.say(Phrase("tokens.count", tokens=len(ids)))
    return None


def token_text(app: App, token_id: int, model: Model) -> str:
    """Return a token for a person: its text in quotes, its bytes as <0xE7>, or that it ends the reply."""
    if token_id in model.tokenizer.reserved_ids:
        return app.text(Phrase("branch.ends"))
    piece = model.tokenizer.piece(token_id)
    return quoted(piece) if isinstance(piece, str) else _decoded(piece)


def group_bytes(pieces: Sequence[str | bytes]) -> tuple[Character, ...]:
    """Return the pieces as characters; bytes that form none become <0xE7>."""
    found: list[Character] = []
    held, start = b"", 0
    for index, piece in enumerate(pieces):
        if isinstance(piece, str):
            found += [Character(start, index, _decoded(held))] if held else []
            found.append(Character(index, index + 1, piece))
            held, start = b"", index + 1
        else:
            held += piece
            if _is_whole(held):
                found.append(Character(start, index + 1, _decoded(held)))
                held, start = b"", index + 1
    return (*found, *([Character(start, len(pieces), _decoded(held))] if held else []))


def _is_whole(data: bytes) -> bool:
    """Return True unless more bytes may complete the last character."""
    decoder = getincrementaldecoder("utf-8")("replace")
    decoder.decode(data)
    return not decoder.getstate()[0]


def _decoded(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "".join(f"<0x{byte:02X}>" for byte in data)


def _hex_of(piece: str | bytes) -> str:
    return (piece.encode() if isinstance(piece, str) else piece).hex(" ").upper()


# -- /probs -------------------------------------------------------------------------------------------


def _tokens_of_last_reply(app: App) -> ReplyTokens:
    """Raise BchatError (USAGE) if there is no reply, or its probabilities are not known."""
    turns = app.session.conversation.turns
    if not turns:
        raise BchatError("session.nothing-to-undo", status=ExitStatus.USAGE)
    chunks, model = unpack(turns[-1].details), app.session.model()
    if not chunks:
        raise BchatError("probs.unknown", status=ExitStatus.USAGE)
    if (name := turns[-1].details.get("model")) != model.entry.name:
        raise BchatError("probs.other-model", status=ExitStatus.USAGE, name=name)
    try:
        pieces = [model.tokenizer.piece(each.token_id) for each in chunks if each.finish is not FinishReason.STOP]
    except (IndexError, OverflowError):
        raise BchatError("probs.unknown", status=ExitStatus.USAGE) from None
    end = (Character(len(pieces), len(chunks), ""),) if len(pieces) < len(chunks) else ()
    return ReplyTokens(chunks, (*group_bytes(pieces), *end), model)


def _page(app: App, tokens: ReplyTokens, index: int) -> Page:
    """Return the text around a token, shaded by probability, and the alternatives to the token."""
    here = tokens.character_of(index)
    near = [each for each in tokens.characters if index - AROUND <= each.start <= index + AROUND]
    before, after = ("…" if near[at] is not tokens.characters[at] else "" for at in (0, -1))
    shaded = [_shaded(app, tokens, each, is_here=each is here) for each in near]
    legend = app.text(Phrase("probs.legend" if app.screen.has_color else "probs.legend-marks"))
    facts = app.text(_facts(app, tokens, index))
    return Page([("", before), *shaded, ("", after)], facts, _alternatives(app, tokens, index), legend)


def _shaded(app: App, tokens: ReplyTokens, character: Character, *, is_here: bool) -> tuple[str, str]:
    """Return the style and the text of a character; without colour, a mark behind it gives the tenths."""
    chance = min(_chance(each) for each in tokens.chunks[character.start : character.end])
    text = outward_line(character.text.replace("\n", "↵")) or "■"
    shade = sum(chance < least for least in SHADES)
    mark = f"[{int(chance * 10)}]" if shade and not app.screen.has_color else ""
    return f"shade-{shade}" + (" here" if is_here else ""), text + mark


def _chance(chunk: Chunk) -> float:
    known = chunk.logprob if chunk.raw_logprob is None else chunk.raw_logprob
    return 1.0 if known is None else math.exp(known)


def _facts(app: App, tokens: ReplyTokens, index: int) -> Phrase:
    chunk = tokens.chunks[index]
    return Phrase(
        "probs.facts",
        number=index + 1,
        of=len(tokens.chunks),
        token=_text_in(app, chunk.token_id, tokens.character_of(index), tokens.model),
        rank=_known(chunk.rank),
        entropy=_known(chunk.entropy),
        logprob=_known(chunk.raw_logprob),
    )


def _text_in(app: App, token_id: int, character: Character, model: Model) -> str:
    """Return a token; of the bytes of a character, with the character."""
    text = token_text(app, token_id, model)
    if character.end - character.start == 1:
        return text
    return app.text(Phrase("tokens.part", token=text, character=quoted(character.text)))


def _known(value: float | None) -> str:
    """Return a measure; "?" if the engine does not know it."""
    return "?" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


def _overview(app: App, tokens: ReplyTokens) -> Rows:
    names = ("number", "token", "id", "unmodified", "filtered", "rank", "entropy")
    rows: Rows = [tuple(app.text(Phrase(f"tokens.{name}")) for name in names)]
    for number, chunk in enumerate(tokens.chunks, start=1):
        text = _text_in(app, chunk.token_id, tokens.character_of(number - 1), tokens.model)
        chances = _percent(chunk.raw_logprob), _after_filters(app, chunk, chunk.token_id)
        rows.append((str(number), text, str(chunk.token_id), *chances, _known(chunk.rank), _known(chunk.entropy)))
    return rows


def _alternatives(app: App, tokens: ReplyTokens, index: int) -> Rows:
    """Return the token and its alternatives: before the filters, and after them or with the filter that removed it."""
    chunk = tokens.chunks[index]
    unmodified = {**dict(chunk.top), **({} if chunk.raw_logprob is None else {chunk.token_id: chunk.raw_logprob})}
    names = ("candidate", "token", "id", "unmodified", "filtered")
    rows: Rows = [tuple(app.text(Phrase(f"tokens.{name}")) for name in names)]
    ranks = {each: str(rank) for rank, (each, _) in enumerate(chunk.top, start=1)}
    for each in dict.fromkeys([*ranks, chunk.token_id, *(kept for kept, _ in chunk.kept)]):
        mark = "*" if each == chunk.token_id else " "
        text = token_text(app, each, tokens.model)
        before = _percent(unmodified.get(each))
        rows.append((f"{mark} {ranks.get(each, '')}", text, str(each), before, _after_filters(app, chunk, each)))
    return rows


def _after_filters(app: App, chunk: Chunk, token_id: int) -> str:
    removed, kept = dict(chunk.removed), dict(chunk.kept)
    if token_id in removed:
        return app.text(Phrase("probs.removed", name=removed[token_id]))
    if token_id in kept:
        return _percent(kept[token_id])
    if token_id == chunk.token_id or not kept:  # a server does not tell what its filters left
        return _percent(chunk.logprob) if token_id == chunk.token_id else ""
    return f"≤ {_percent(min(kept.values(), default=0.0)).removeprefix('< ')}"


def _percent(logprob: float | None) -> str:
    return "" if logprob is None else percent(math.exp(logprob))


def percent(probability: float) -> str:
    """Return a probability for a person: three digits, never an exponent."""
    return f"{100 * probability:.3g} %" if probability >= 0.00001 else "< 0.001 %"
