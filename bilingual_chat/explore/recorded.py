"""Reads the replies that a file records, with everything that a replay needs: transcripts, `ask --json`, sweeps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from bilingual_chat.engines.protocol import Chunk
from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.settings import decoding
from bilingual_chat.settings.decoding import DecodingParameters
from bilingual_chat.storage import safe_read
from bilingual_chat.text.conversation import Conversation, FinishReason, Turn
from bilingual_chat.transcript import document, files, probabilities
from bilingual_chat.transcript.details import is_count
from bilingual_chat.transcript.safe_json import JsonError, parse

MANIFEST, REPLIES = "manifest.json", "replies.jsonl"
_FACTS = ("model", "precision", "device")
_RUN = ("digest", "tokenizer", "kernel", "processor", "threads", "versions")
_MOST_IDS = 1 << 20
_MOST_REPLIES = 512 << 20  # bytes of replies.jsonl


@dataclass(frozen=True)
class Segment:
    """The tokens that one call of the engine added to a reply. `ids` None: a record of an older bchat."""

    parameters: DecodingParameters
    ids: tuple[int, ...] | None
    finish: FinishReason
    prompt_digest: str = ""  # "" if it is not recorded


@dataclass(frozen=True)
class Recorded:
    """A reply as a file records it.

    where: its place in the file. prompt_ids: None if `before` and `message` rebuild the prompt; prompt: their text, ""
    if it is not recorded. begin: the first words
    of the reply, which the user set; kept: the ids after them that were taken from another reply. segments: several if
    the reply was continued; none if that happened without its ids. facts: what else it depends on, by name. seed: as
    recorded beside the settings. width: replies that were computed at a time.
    probabilities: of the tokens after `begin`, if they are recorded.
    """

    where: Phrase
    text: str
    segments: tuple[Segment, ...]
    facts: Mapping[str, str]
    prompt_ids: tuple[int, ...] | None = None
    prompt: str = ""
    before: Conversation = field(default_factory=Conversation)
    message: str = ""
    dropped: int = 0
    begin: str = ""
    kept: tuple[int, ...] = ()
    seed: int | None = None
    width: int = 1
    filters: str = ""  # in their order, "" if not recorded
    probabilities: Sequence[Chunk] = ()

    @property
    def model(self) -> str:
        return self.facts.get("model", "")


def read_recorded(path: Path, on_damaged: Callable[[int], None] = lambda number: None) -> list[Recorded]:
    """Return the replies that `path` records. `on_damaged` gets the number of each damaged line, which is left out.

    Raises BchatError (DATA): unreadable, without a reply, or nothing but damage.
    """
    if path.is_dir():
        found = _of_sweep(path, on_damaged)
    elif asked := _ask_objects(files.read_file(path)):
        found = _of_lines(asked, lambda row, where: _of_ask(row, where, path), path, on_damaged)
    else:
        found = list(_of_transcript(path))
    if not found:
        raise BchatError("replay.nothing", status=ExitStatus.DATA, path=path)
    return found


def _of_lines(
    rows: Iterable[tuple[int, Any]],
    read: Callable[[dict[str, Any], Phrase], Recorded],
    path: Path,
    on_damaged: Callable[[int], None],
) -> list[Recorded]:
    """Return what `read` returns of each line. Raises its first BchatError if every line is damaged."""
    found, errors = [], []
    for number, row in rows:
        where = Phrase("replay.line", number=number)
        try:
            if not isinstance(row, dict):
                raise _damaged(path, where)
            found.append(read(row, where))
        except BchatError as error:
            errors.append(error)
            on_damaged(number)
    if errors and not found:
        raise errors[0]
    return found


def _ask_objects(data: bytes) -> list[tuple[int, Any]]:
    """Return the objects that `ask --json` printed, with their lines: the whole file, or one a line.

    A damaged line is None. Nothing is returned if it is another file.
    """
    with suppress(JsonError):
        value = parse(data)
        return [(1, value)] if _is_of_ask(value) else []
    rows = [(number, _parsed(line)) for number, line in enumerate(data.splitlines(), start=1) if line.strip()]
    rows = [(number, row if _is_of_ask(row) else None) for number, row in rows]
    return rows if any(row is not None for _, row in rows) else []


def _parsed(line: bytes) -> Any:
    """Return the value of a line of JSON; None if it is damaged."""
    with suppress(JsonError):
        return parse(line)
    return None


def _is_of_ask(value: object) -> bool:
    return isinstance(value, dict) and "prompt_ids" in value and "reply_ids" in value


# -- one reply ----------------------------------------------------------------------------------------


def _of_ask(fields: Mapping[str, Any], where: Phrase, path: Path) -> Recorded:
    return Recorded(
        where,
        _text(fields, "reply", where, path),
        (_segment(fields, _ids(fields, "reply_ids", where, path), where, path),),
        facts_of(fields),
        _ids(fields, "prompt_ids", where, path),
        _text(fields, "prompt", where, path) if "prompt" in fields else "",
        begin=_begin(fields),
        filters=_filters(fields.get("filters")),
        probabilities=_probabilities(fields.get("tokens")),
    )


def _of_sweep(directory: Path, on_damaged: Callable[[int], None]) -> list[Recorded]:
    try:
        manifest = safe_read.read_json(directory / MANIFEST, files.MAX_BYTES, 10_000_000)
        data = safe_read.read_bytes(directory / REPLIES, _MOST_REPLIES)
    except (OSError, ValueError):
        raise BchatError("replay.no-sweep", status=ExitStatus.DATA, path=directory) from None
    facts, begin = _facts_of_sweep(manifest), _begin(manifest)
    whole = data[: data.rfind(b"\n") + 1]  # the last line may be written in part
    rows = ((number, _parsed(line)) for number, line in enumerate(whole.split(b"\n"), start=1) if line.strip())
    # The most probable of some choices was never generated.
    rows = (each for each in rows if not (isinstance(each[1], dict) and "choices" in each[1]))
    path = directory / REPLIES
    return _of_lines(rows, lambda row, where: _of_row(row, facts, begin, where, path), path, on_damaged)


def _facts_of_sweep(manifest: Mapping[str, Any]) -> dict[str, str]:
    model = manifest.get("model")
    if not isinstance(model, Mapping):
        return {}
    run = {**model, **{name: manifest[name] for name in ("tokenizer", "versions") if name in manifest}}
    return facts_of({**model, "model": model.get("name"), "run": {name: run[name] for name in _RUN if name in run}})


def _of_row(row: Mapping[str, Any], facts: Mapping[str, str], begin: str, where: Phrase, path: Path) -> Recorded:
    settings = {each.name: row[each.name] for each in fields(DecodingParameters) if each.name in row}
    recorded = {"settings": settings, "finish_reason": row.get("finish")}
    width = row.get("width", 1)
    return Recorded(
        where,
        _text(row, "reply", where, path),
        (_segment(recorded, _ids(row, "ids", where, path), where, path),),
        facts,
        _ids(row, "prompt_ids", where, path),
        begin=begin,
        width=width if is_count(width) else 1,
        filters=_filters(row.get("order")),
    )


def _of_transcript(path: Path) -> Iterator[Recorded]:
    """Yield every reply that says how it was generated, those that were not chosen too."""
    loaded = document.read_document(path)
    conversation = loaded.conversation
    for index, turn in enumerate(conversation.turns):
        before = Conversation(conversation.opening, conversation.turns[:index])
        for number, reply in enumerate(turn.replies, start=1):
            key = "replay.turn" if len(turn.replies) == 1 else "replay.reply"
            where = Phrase(key, turn=index + 1, number=number)
            if "settings" in reply.details:
                yield _of_turn(reply, before, where, path)
    before = conversation
    for number, reply in enumerate(loaded.pending_replies, start=1):
        if "settings" in reply.details:
            where = Phrase("replay.reply", turn=len(conversation.turns) + 1, number=number)
            yield _of_turn(reply, before, where, path)


def _of_turn(turn: Turn, before: Conversation, where: Phrase, path: Path) -> Recorded:
    details = {**turn.details, "finish_reason": turn.finish.value}
    ids = _ids(details, "reply_ids", where, path) if "reply_ids" in details else None
    kept, segments = _segments(details, ids, where, path)
    dropped = details.get("dropped_turns") or details.get("dropped_characters") or 0
    return Recorded(
        where,
        turn.reply,
        segments,
        facts_of(details),
        before=before,
        message=turn.user,
        dropped=dropped if is_count(dropped) else 0,
        begin=_begin(details),
        kept=kept,
        seed=details.get("seed"),
        filters=_filters(details.get("filters")),
        probabilities=probabilities.unpack(details),
    )


def _segments(
    details: Mapping[str, Any], ids: tuple[int, ...] | None, where: Phrase, path: Path
) -> tuple[tuple[int, ...], tuple[Segment, ...]]:
    """Return the ids that were taken from another reply (/branch), and the parts of a reply that was continued.

    The counts of tokens say where each part ended.
    """
    parts = details.get("parts", ())
    if parts and ids is None:  # of a reply that was continued although its ids were not known
        return (), ()
    counts = [part["usage"].get("completion_tokens") if isinstance(part.get("usage"), Mapping) else 0 for part in parts]
    kept = details.get("kept_tokens", sum(counts) if all(map(is_count, counts)) else -1)
    if not (is_count(kept) and all(map(is_count, counts)) and sum(counts) <= kept <= len(ids or ())):
        raise _damaged(path, where)
    start = kept - sum(counts)
    segments = []
    for part, size in zip(parts, counts, strict=True):
        segments.append(_segment(part, ids and ids[start : start + size], where, path))
        start += size
    return (ids or ())[: kept - sum(counts)], (*segments, _segment(details, ids and ids[start:], where, path))


def _segment(details: Mapping[str, Any], ids: tuple[int, ...] | None, where: Phrase, path: Path) -> Segment:
    settings = details.get("settings")
    try:
        finish = FinishReason(str(details.get("finish_reason")))
        values = {
            each.name: decoding.checked(each.name, settings[each.name])
            for each in fields(DecodingParameters)
            if isinstance(settings, Mapping) and each.name in settings
        }
    except BchatError as error:
        values = {"path": path, "where": where, "problem": error.phrase}
        raise BchatError("replay.setting", status=ExitStatus.DATA, **values) from None
    except ValueError:
        raise _damaged(path, where) from None
    digest = details.get("prompt_digest")
    return Segment(DecodingParameters(**values), ids, finish, digest if isinstance(digest, str) else "")


def _begin(details: Mapping[str, Any]) -> str:
    begin = details.get("begin")
    return begin if isinstance(begin, str) else ""


def _probabilities(tokens: object) -> tuple[Chunk, ...]:
    """Return what `ask --json --logprobs` recorded of the tokens; nothing if it is not what bchat writes."""
    try:
        return tuple(
            Chunk(
                each["id"],
                each["logprob_sampled"],
                0,
                raw_logprob=each["logprob_model"],
                top=tuple((other["id"], other["logprob"]) for other in each["top"]),
            )
            for each in (tokens if isinstance(tokens, list) else ())
        )
    except (KeyError, TypeError):
        return ()


def _filters(value: object) -> str:
    """Return the names of filters as a sweep writes them."""
    return " > ".join(map(str, value)) if isinstance(value, list) else value if isinstance(value, str) else ""


def facts_of(details: Mapping[str, Any]) -> dict[str, str]:
    """Return what a reply depends on beside prompt and settings, by name, as text."""
    facts = {name: str(details[name]) for name in _FACTS if details.get(name) is not None}
    run = details.get("run")
    for name, value in run.items() if isinstance(run, Mapping) else ():
        if isinstance(value, Mapping):
            facts |= {f"{name}.{each}": str(version) for each, version in value.items()}
        else:
            facts[name] = str(value)
    return facts


def _ids(fields: Mapping[str, Any], name: str, where: Phrase, path: Path) -> tuple[int, ...]:
    value = fields.get(name)
    if not isinstance(value, Sequence) or isinstance(value, str) or not all(map(is_count, value)):
        raise _damaged(path, where)
    return tuple(value[:_MOST_IDS])


def _text(fields: Mapping[str, Any], name: str, where: Phrase, path: Path) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise _damaged(path, where)
    return value


def _damaged(path: Path, where: Phrase) -> BchatError:
    return BchatError("replay.damaged", status=ExitStatus.DATA, path=path, where=where)
