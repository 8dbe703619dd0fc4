"""`bchat bench`: measurements of a model, as a table or as one JSON object."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any, TypeVar, get_args

from bilingual_chat import messages
from bilingual_chat.bench import speed, text
from bilingual_chat.bench.quality import Quality, judge
from bilingual_chat.cli.errors import exit_with
from bilingual_chat.cli.options import Options
from bilingual_chat.cli.startup import prepare
from bilingual_chat.engines.protocol import Progress, QuantizeName
from bilingual_chat.messages import Phrase, did_you_mean
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.session.model import Model, open_model, versions
from bilingual_chat.storage import paths
from bilingual_chat.storage.sizes import format_bytes
from bilingual_chat.terminal.display import Display
from bilingual_chat.terminal.tables import Row

ALL = "all"
Result = TypeVar("Result", speed.Speed, Quality)


def measure_speed(options: Options, display: Display, name: str | None, wanted: Sequence[str], as_json: bool) -> None:
    """Measure the speed of a model in each precision."""
    if name is not None and options.model is not None:
        raise BchatError("bench.two-models", status=ExitStatus.USAGE, first=name, second=options.model)
    kinds = _kinds(wanted or ["auto"])
    model, open_ = _choose_model(replace(options, model=name or options.model), display)
    said = text.own_sentences()
    found, status = _measure_each(display, kinds, lambda kind: speed.measure(kind, open_, said, display.doing))
    if as_json:
        display.put_json(_object(model, status, [_speed_json(each) for each in found]))
    elif found:
        display.put_rows(_speed_rows(found, display.lang))
        display.say(Phrase("bench.explained"))
        if found[0].first_token_s:
            display.say(Phrase("bench.turns", tokens=found[0].tokens_per_turn))
    _end(display, status)


def measure_quality(options: Options, display: Display, file: str | None, wanted: Sequence[str], as_json: bool) -> None:
    """Measure how each precision changes the model's predictions of a text, compared with the most exact one."""
    said = text.own_conversation() if file is None else text.read(paths.expand(file), options.encoding)
    kinds = _kinds(["none", *(wanted or [ALL])])
    model, open_ = _choose_model(options, display)
    from bilingual_chat.bench.divergence import Reference  # imports torch, so after the arguments are checked

    with Reference(paths.cache_dir()) as reference:

        def judged(kind: QuantizeName) -> Iterator[Quality]:
            yield judge(kind, open_, said, reference, display.doing)

        found, status = _measure_each(display, kinds, judged)
    if as_json:
        about = _object(model, status, [_rounded(asdict(each)) for each in found])
        display.put_json({**about, "text": file})
    elif found:
        display.put_rows(_quality_rows(found, display.lang))
        display.say(_read_text(file, found[0]))
    _end(display, status)


def _kinds(wanted: Sequence[str]) -> list[QuantizeName]:
    """Return the precisions to measure, the most exact first, auto last."""
    known = sorted(get_args(QuantizeName), key=lambda kind: kind == "auto")
    for name in wanted:
        if name not in (*known, ALL):
            choices = (*known, ALL)
            raise BchatError(
                "bench.quantize",
                status=ExitStatus.USAGE,
                name=name,
                known=", ".join(choices),
                suggestion=did_you_mean(name, choices),
            )
    return [kind for kind in known if kind in wanted or (ALL in wanted and kind != "auto")]


def _choose_model(options: Options, display: Display) -> tuple[str, speed.Open]:
    """Return the model's name, and a function that opens it in a precision."""
    startup = prepare(options, display)

    def open_(kind: QuantizeName, progress: Progress) -> Model:
        return open_model(startup.entry, replace(startup.open_options, quantize=kind), progress)

    return startup.entry.name, open_


def _measure_each(
    display: Display, kinds: Sequence[QuantizeName], measure: Callable[[QuantizeName], Iterator[Result]]
) -> tuple[list[Result], int]:
    """Return the last result of each precision, and the exit status. Ctrl-C and errors keep earlier results."""
    found: dict[str, Result] = {}
    status = ExitStatus.OK
    try:
        for kind in kinds:
            try:
                for result in measure(kind):
                    found[kind] = result
            except BchatError as error:
                display.doing(None)
                display.say(error)
                status = error.status
                if status != ExitStatus.MODEL:  # else only this precision does not fit or is unavailable
                    break
    except KeyboardInterrupt:
        status = ExitStatus.INTERRUPTED
    display.doing(None)
    return list(found.values()), status


def _end(display: Display, status: int) -> None:
    if status == ExitStatus.INTERRUPTED:
        display.say(Phrase("bench.stopped"))
    if status:
        exit_with(status)


# -- JSON ---------------------------------------------------------------------------------------------


def _object(model: str, status: int, precisions: list[dict[str, Any]]) -> dict[str, Any]:
    return {"versions": versions(), "model": model, "complete": status == ExitStatus.OK, "precisions": precisions}


def _speed_json(each: speed.Speed) -> dict[str, Any]:
    prefill = _rounded({"tokens": each.prefill_tokens, "tokens_per_s": each.prefill_per_s})
    decodes = [
        {
            "positions": decode.positions,
            "tokens_per_s": decode.tokens_per_s,
            "bandwidth_bytes_per_s": decode.bandwidth,
            "limit_tokens_per_s": decode.limit,
            "share_of_limit": decode.share,
        }
        for decode in each.decodes
    ]
    return _rounded(
        {
            "quantize": each.quantize,
            "precision": each.precision,
            "device": each.device,
            "threads": each.threads,
            "load_s": each.load_s,
            "bytes_per_token": each.bytes_per_token,
            "bandwidth_bytes_per_s": each.bandwidth,
            "limit_tokens_per_s": each.limit,
            "prefill": None if each.prefill_per_s is None else prefill,
            "decode": [_rounded(decode) for decode in decodes],
            "tokens_per_turn": each.tokens_per_turn or None,
            "first_token_s": _rounded({str(turn): seconds for turn, seconds in each.first_token_s}),
            "private_bytes": each.private_bytes,
            "peak_bytes": each.peak_bytes,
        }
    )


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    """Round floats to six significant digits."""
    return {name: float(f"{value:.6g}") if isinstance(value, float) else value for name, value in values.items()}


# -- tables -------------------------------------------------------------------------------------------


def _speed_rows(found: Sequence[speed.Speed], lang: str) -> list[Row]:
    """Return one row for each measurement, with one column for each precision."""

    def row(key: str, *cells: str, **values: object) -> Row:
        return (messages.render(f"bench.row.{key}", lang, **values), *cells)

    def each(show: Callable[[speed.Speed], str]) -> list[str]:
        return [show(one) for one in found]

    rows = [
        row("precision", *each(lambda one: one.precision)),
        row("load", *each(lambda one: _seconds(one.load_s))),
        row("bytes", *each(lambda one: _bytes(one.bytes_per_token))),
        row("bandwidth", *each(lambda one: _rate(one.bandwidth and one.bandwidth / 1e9, "GB/s"))),
        row("limit", *each(lambda one: _rate(one.limit, "tok/s"))),
        row("prefill", *each(lambda one: _rate(one.prefill_per_s, "tok/s")), tokens=f"{found[0].prefill_tokens:,}"),
    ]
    for at, decode in enumerate(found[0].decodes):
        cells = [_decode(one.decodes[at : at + 1]) for one in found]
        rows.append(row("decode", *cells, positions=f"{decode.positions:,}"))
    for turn, _ in found[0].first_token_s:
        rows.append(row("turn", *each(partial(_first_token, turn)), turn=turn))
    rows.append(row("private", *each(lambda one: _bytes(one.private_bytes))))
    rows.append(row("peak", *each(lambda one: _bytes(one.peak_bytes))))
    return rows


def _quality_rows(found: Sequence[Quality], lang: str) -> list[Row]:
    """Return one row for each precision."""
    heading = tuple(
        messages.render(f"bench.heading.{key}", lang)
        for key in ("precision", "perplexity", "kl", "kl-p99", "agreement")
    )
    rows: list[Row] = []
    for each in found:
        against = ("–", "–", "–")
        if not each.is_reference:
            against = (f"{each.kl_mean:.5f}", f"{each.kl_p99:.5f}", f"{each.agreement:.2%}")
        rows.append((each.precision, f"{each.perplexity:,.3f}", *against))
    return [heading, *rows]


def _read_text(file: str | None, first: Quality) -> Phrase:
    source: object = Phrase("bench.own-conversation") if file is None else file
    return Phrase(
        "bench.text-read",
        source=source,
        tokens=f"{first.tokens:,}",
        all=f"{first.tokens_in_all:,}",
        window=f"{first.window:,}",
        precision=first.precision,
    )


def _first_token(turn: int, one: speed.Speed) -> str:
    return _seconds(dict(one.first_token_s).get(turn))


def _decode(measured: Sequence[speed.Decode]) -> str:
    """Return the decoding rate, and its share of the limit set by memory bandwidth."""
    return f"{_rate(measured[0].tokens_per_s, 'tok/s')} ({measured[0].share:.0%})" if measured else "–"


def _rate(value: float | None, unit: str) -> str:
    return "–" if value is None else f"{value:,.{0 if value >= 100 else 1}f} {unit}"


def _seconds(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value * 1e3:.0f} ms" if value < 1 else f"{value:.1f} s"


def _bytes(value: int | None) -> str:
    return "–" if value is None else format_bytes(value)
