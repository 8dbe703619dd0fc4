"""A sweep: every prompt under every cell with every seed, in batches over different prompts."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from bilingual_chat import __version__
from bilingual_chat.engines.protocol import Chunk
from bilingual_chat.explore.grid import Cell, settings_of, varied_names
from bilingual_chat.explore.measures import measure_reply
from bilingual_chat.explore.prompts import PromptFile, SweepPrompt
from bilingual_chat.explore.scoring import CHOICE, Score
from bilingual_chat.explore.store import KIND, VERSION, SweepStore
from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.session.model import Completion, Model, versions
from bilingual_chat.session.session import Session
from bilingual_chat.session.turn import Request, RunningReply
from bilingual_chat.settings.decoding import FILTERS, DecodingParameters, filter_order
from bilingual_chat.text.conversation import Conversation, FinishReason, Utterance
from bilingual_chat.text.prompt import Prompt

MAX_REPLIES = 1_000_000


@dataclass(frozen=True)
class Job:
    """One reply to be generated."""

    id: str
    source: SweepPrompt
    prompt: Prompt
    cell: int
    parameters: DecodingParameters
    replicate: int
    choices: tuple[tuple[int, ...], ...] = ()  # ids of the prompt with each choice, encoded as one text


@dataclass(frozen=True)
class Plan:
    """What is compared. opening: the persona. begin: the first words of each reply."""

    prompts: PromptFile
    cells: tuple[Cell, ...]
    seeds: int
    base_seed: int
    score: str | None
    opening: tuple[Utterance, ...] = ()
    begin: str = ""
    limit: int | None = None

    @property
    def count(self) -> int:
        """The number of replies."""
        replies = sum(1 if cell.is_greedy or self.score == CHOICE else self.seeds for cell in self.cells)
        return replies * len(self.prompts.prompts)


def seed_of(base_seed: int, prompt_id: str, replicate: int) -> int:
    """Return the seed of a reply, the same in every cell: so cells differ by their settings, not by their luck."""
    return int.from_bytes(_sha256([base_seed, prompt_id, replicate])[:4])


def make_jobs(plan: Plan, model: Model) -> list[Job]:
    """Return all jobs, those of a prompt together. Raises BchatError (DATA) for a prompt that is too long, by line."""
    session = Session(lambda: model, plan.cells[0].settings, entry=model.entry, directory=None)
    jobs: list[Job] = []
    for source in plan.prompts.prompts:
        before = source.before
        session.conversation = before if before.opening else Conversation(plan.opening, before.turns)
        jobs += _jobs_of(plan, source, session)
    return jobs


def _jobs_of(plan: Plan, source: SweepPrompt, session: Session) -> Iterator[Job]:
    prompts: dict[int, Prompt] = {}  # by the room for the reply
    model_digest = session.model().run.get("digest", "")
    for index, cell in enumerate(plan.cells):
        room = cell.settings.parameters.max_new_tokens
        if room not in prompts:
            session.settings = cell.settings
            prompts[room] = _prompt_for(source, session, plan.begin)
            wanted = source.choices if plan.score == CHOICE else ()
            choices = tuple(_prompt_for(source, session, plan.begin + each).ids for each in wanted)
        for replicate in range(1 if cell.is_greedy or plan.score == CHOICE else plan.seeds):
            seed = seed_of(plan.base_seed, source.id, replicate)
            parameters = replace(cell.settings.parameters, seed=seed)
            about = [list(prompts[room].ids), settings_of(parameters), seed, model_digest]
            yield Job(_sha256(about).hex()[:32], source, prompts[room], index, parameters, replicate, choices)


def _prompt_for(source: SweepPrompt, session: Session, begin: str) -> Prompt:
    try:
        session.begin_with(begin)
        prompt = session.prompt_for(source.message)
    except BchatError as error:
        problem = Phrase(error.key, **error.values)
        raise BchatError("sweep.prompt", status=ExitStatus.DATA, line=source.line, problem=problem) from None
    if not prompt.ids:
        raise BchatError(
            "sweep.prompt", status=ExitStatus.DATA, line=source.line, problem=Phrase("session.nothing-said")
        )
    return prompt


def manifest_of(plan: Plan, model: Model, command: Sequence[str]) -> dict[str, Any]:
    """Return what manifest.json says of a sweep."""
    run = {name: value for name, value in model.run.items() if name != "versions"}
    tokenizer = run.pop("tokenizer", "")
    server = {"server": dict(model.server)} if model.server else {}
    varied = varied_names(plan.cells)
    acting = {name for cell in plan.cells for name in filter_order(cell.settings.parameters)}
    first = plan.cells[0].values
    return {
        "kind": KIND,
        "version": VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "bchat": __version__,
        "versions": versions(),
        "command": list(command),
        "model": {
            "name": model.entry.name,
            "precision": model.precision,
            "device": model.engine.device_name,
            **run,
            **server,
        },
        "tokenizer": tokenizer,
        "prompts": {
            "source": str(plan.prompts.path),
            "sha256": plan.prompts.sha256,
            "count": len(plan.prompts.prompts),
            "limit": plan.limit,
        },
        "begin": plan.begin,
        "opening": [{"speaker": each.speaker.value, "text": each.text} for each in plan.opening],
        "seeds": plan.seeds,
        "base_seed": plan.base_seed,
        "fixed": {name: value for name, value in first.items() if name not in varied},
        "varied": varied,
        "order": [name for name in FILTERS if name in acting],
        "score": None if plan.score is None else {"name": plan.score, "higher_is_better": True},
        "cells": [
            {"cell": index, "label": cell.label, "settings": cell.values} for index, cell in enumerate(plan.cells)
        ],
    }


def run(
    jobs: Sequence[Job],
    model: Model,
    store: SweepStore,
    score: Score | None,
    on_reply: Callable[[], None],
    width: int | None = None,
) -> None:
    """Generate the replies of `jobs`, which `store` lacks; each is on disk before `on_reply` is called for it.

    width: replies at a time, at most; None leaves it to the engine. Raises BchatError as the engine, the score and
    the store do; what was stored stays.
    """
    running: dict[int, _Running] = {}
    ended: set[int] = set()
    prompts, parameters = [job.prompt.ids for job in jobs], [job.parameters for job in jobs]
    options: dict[str, Any] = {} if width is None else {"width": width}
    with closing(model.engine.complete_many(prompts, parameters, unwanted=ended, **options)) as chunks:
        for index, chunk in chunks:
            if index not in running:
                running[index] = _Running(jobs[index], model, len(running) + 1)
            if running[index].add(chunk):
                ended.add(index)
                store.append(running.pop(index).record(score))
                on_reply()
    if len(ended) < len(jobs):
        raise BchatError("session.broke-off")


class _Running:
    """A reply that is generated. State: the reply, and the sums of its measures."""

    def __init__(self, job: Job, model: Model, width: int) -> None:
        request = Request(model, job.source.message, job.prompt, job.parameters, "")
        self._job, self._model, self._width = job, model, width
        self._reply = RunningReply(request)
        self._chunks: list[Chunk] = []

    def add(self, chunk: Chunk) -> bool:
        """Add a token; return True if the reply has ended."""
        self._reply.add(chunk)
        if chunk.finish is not FinishReason.STOP:
            self._chunks.append(chunk)
        return self._reply.is_done

    def record(self, score: Score | None) -> dict[str, Any]:
        """Return the line of replies.jsonl."""
        done = self._reply.completed()
        measured = {
            **_probabilities(self._chunks),
            "score": None if score is None else score(self._job.source, done.reply),
        }
        return _record(self._job, self._model, done, measured, self._width)


def _probabilities(chunks: Sequence[Chunk]) -> dict[str, float | None]:
    """Return sums and means over the tokens, in nats; None for what the engine does not know of each of them."""
    return {
        "logprob_sampled": _sum(chunk.logprob for chunk in chunks),
        "logprob_model": _sum(chunk.raw_logprob for chunk in chunks),
        "entropy_mean": _mean([chunk.entropy for chunk in chunks]),
        "rank_mean": _mean([chunk.rank for chunk in chunks]),
    }


def _sum(values: Iterable[float | None]) -> float | None:
    known = list(values)
    return None if None in known else math.fsum(each for each in known if each is not None)


def _mean(values: Sequence[float | None]) -> float | None:
    total = _sum(values)
    return total / len(values) if values and total is not None else None


def _record(
    job: Job, model: Model, done: Completion, measured: Mapping[str, float | None], width: int
) -> dict[str, Any]:
    measures = asdict(measure_reply(done.reply, done.reply_ids, model.format.labels))
    return {
        "id": job.id,
        "prompt_id": job.source.id,
        "prompt": job.source.message,
        "prompt_tokens": len(job.prompt.ids),
        "prompt_ids": list(job.prompt.ids),
        "cell": job.cell,
        **settings_of(job.parameters),
        "order": " > ".join(filter_order(job.parameters)),
        "replicate": job.replicate,
        "seed": job.parameters.seed,
        "reply": done.reply,
        "ids": list(done.reply_ids),
        "finish": done.finish.value,
        **measures,
        **measured,
        "reference": job.source.reference,
        "seconds": round(done.total_s, 4),
        "width": width,
        "model": model.entry.name,
        "precision": model.precision,
        "version": __version__,
    }


def run_choices(jobs: Iterable[Job], model: Model, store: SweepStore, on_reply: Callable[[], None]) -> None:
    """Store for each prompt the most probable of its choices, scored 1 if it is the reference, else 0.

    A choice is as probable as the model says, before any decoding setting, that it is the whole reply, its end
    included. Nothing is sampled; the prompt is computed once.
    """
    for job in jobs:
        began = time.perf_counter()
        together = enumerate(zip(job.prompt.ids, *job.choices, strict=False))
        least = min(map(len, (job.prompt.ids, *job.choices)))
        shared = next((at for at, ids in together if len(set(ids)) > 1), least)
        choices = [ids[shared:] for ids in job.choices]
        logprobs = [math.fsum(each) for each in model.engine.score_continuations(job.prompt.ids[:shared], choices)]
        best = max(range(len(choices)), key=logprobs.__getitem__)
        reply, took = job.source.choices[best], time.perf_counter() - began
        done = Completion(
            model.record, job.prompt, reply, choices[best], FinishReason.STOP, job.parameters, 0, took, took
        )
        reference = job.source.reference
        measured = {
            "logprob_sampled": None,
            "logprob_model": logprobs[best],
            "entropy_mean": None,
            "rank_mean": None,
            "score": None if reference is None else float(reply == reference),
        }
        by_choice = dict(zip(job.source.choices, logprobs, strict=True))
        store.append({**_record(job, model, done, measured, 1), "choices": by_choice})
        on_reply()


def _sha256(value: object) -> bytes:
    return hashlib.sha256(json.dumps(value, ensure_ascii=True).encode()).digest()
