"""A scripted engine that replies given texts, and sessions over it."""

from __future__ import annotations

from collections.abc import Callable, Container, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from bilingual_chat import messages
from bilingual_chat.commands.app import App
from bilingual_chat.engines.protocol import Chunk, Progress, one_after_another
from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError
from bilingual_chat.session.model import Model
from bilingual_chat.session.model_loader import ModelLoader
from bilingual_chat.session.prefetch import PromptPrefetch
from bilingual_chat.session.session import Event, Session
from bilingual_chat.settings.catalogue import ModelEntry
from bilingual_chat.settings.config import Settings, load_config, settings_for
from bilingual_chat.settings.decoding import DecodingParameters
from bilingual_chat.storage import paths
from bilingual_chat.text.conversation import FinishReason, Speaker, Utterance
from bilingual_chat.text.prompt import PromptFormat
from bilingual_chat.text.tokenizer import Tokenizer

ENTRY = ModelEntry("scripted", directory="/nowhere", preset="")
PLAIN = ModelEntry("plain", directory="/nowhere", kind="base", preset="", prompt=PromptFormat(kind="plain"))


@cache
def tokenizer() -> Tokenizer:
    """The demo model's tokenizer: byte fallback, whitespace kept."""
    return Tokenizer(paths.demo_model_dir() / "spiece.model")


@dataclass(frozen=True)
class Script:
    """One completion: its tokens (or a text to encode), then its end: a finish reason, or an exception to raise.

    `end` None: it ends without a finish.
    """

    said: str | Sequence[int] = ""
    end: FinishReason | BaseException | None = FinishReason.STOP

    def ids(self) -> list[int]:
        return tokenizer().encode(self.said) if isinstance(self.said, str) else list(self.said)


@dataclass
class ScriptedEngine:
    """Implements `Engine`. Counts tokens that a KV cache would have saved; calls `on_step` before each token."""

    scripts: Iterable[str | Script] = ()
    context_length: int = 2048
    name: str = "scripted"
    precision: str = "float32"
    device_name: str = "cpu"
    on_step: Callable[[], None] = lambda: None
    prompts: list[tuple[int, ...]] = field(default_factory=list)
    parameters: list[DecodingParameters] = field(default_factory=list)
    seeds: list[int | None] = field(default_factory=list)
    closed: int = 0
    passes: int = 0  # over a prompt, before the last one

    def __post_init__(self) -> None:
        self._scripts = iter(self.scripts)
        self._cached: list[int] = []

    def complete(
        self, prompt_ids: Sequence[int], parameters: DecodingParameters, progress: Progress | None = None
    ) -> Generator[Chunk, None, None]:
        assert prompt_ids, "a prompt is at least one id"
        self.prompts.append(tuple(prompt_ids))
        self.parameters.append(parameters)
        self.seeds.append(parameters.seed)
        try:
            for done in range(1, self.passes + 1):
                self.on_step()
                if progress is not None:
                    progress(done, self.passes + 1)
            yield from self._chunks(list(prompt_ids), parameters)
        finally:
            self.closed += 1

    def complete_many(
        self,
        prompts: Sequence[Sequence[int]],
        requests: Sequence[DecodingParameters],
        progress: Progress | None = None,
        *,
        unwanted: Container[int] = frozenset(),
        width: int = 1,
        is_exact: bool = False,
    ) -> Generator[tuple[int, Chunk], None, None]:
        return one_after_another(self, prompts, requests, progress, unwanted)

    can_prefill = False

    def prefill(self, ids: Sequence[int]) -> Iterator[int]:
        return iter(())

    def score(self, ids: Sequence[int]) -> Iterator[Any]:
        return iter(())

    def score_continuations(
        self, prompt_ids: Sequence[int], continuations: Sequence[Sequence[int]]
    ) -> Iterator[list[float]]:
        """The shortest is the most probable."""
        return iter([[-1.0] * (len(each) + 1) for each in continuations])

    def _chunks(self, ids: list[int], parameters: DecodingParameters) -> Generator[Chunk, None, None]:
        script = next(self._scripts, "はい。")
        script = Script(script) if isinstance(script, str) else script
        same = next((at for at, (a, b) in enumerate(zip(self._cached, ids, strict=False)) if a != b), len(self._cached))
        cached = min(same, len(ids) - 1)
        self._cached = list(ids)
        room = min(parameters.max_new_tokens, self.context_length - len(ids))
        for number, token in enumerate(script.ids(), start=1):
            self.on_step()
            self._cached.append(token)
            yield Chunk(token, -1.0, cached, FinishReason.LENGTH if number == room else None)
            if number == room:
                return
        self.on_step()
        if isinstance(script.end, BaseException):
            raise script.end
        if script.end is not None:
            yield Chunk(tokenizer().eos_id, -1.0, cached, script.end)


def make_session(
    directory: Path | None,
    scripts: Iterable[str | Script] = (),
    *,
    entry: ModelEntry = ENTRY,
    engine: Any = None,
    context_length: int = 2048,
    options: dict[str, Any] | None = None,
) -> tuple[Session, Any]:
    """A session over a scripted engine (or `engine`), and that engine."""
    engine = engine or ScriptedEngine(scripts, context_length)
    model = Model(entry, tokenizer(), engine)
    return Session(lambda: model, settings(entry, options), entry=entry, directory=directory), engine


def settings(entry: ModelEntry = ENTRY, options: dict[str, Any] | None = None) -> Settings:
    return settings_for(load_config(environment={}), entry, None, options or {})


@dataclass
class Shown:
    """Records the output for the user. Implements `Screen`."""

    pieces: list[str] = field(default_factory=list)
    said: list[Phrase | BchatError] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    rows: list[tuple[str, ...]] = field(default_factory=list)
    steps: list[Any] = field(default_factory=list)  # of a download
    lang: str = "en"
    has_color: bool = False

    @property
    def reply(self) -> str:
        return "".join(self.pieces)

    @property
    def keys(self) -> list[str]:
        return [each.key for each in self.said]

    def take(self, event: Event) -> None:
        if isinstance(event, str):
            self.pieces.append(event)
        else:
            self.said.append(event)
            for lang in messages.LANGUAGES:  # every remark can be said in both
                messages.render(event.key, lang, **event.values)

    def text(self, said: Phrase | BchatError) -> str:
        return messages.render(said.key, self.lang, "chat", **said.values)

    def say(self, said: Phrase | BchatError) -> None:
        self.said.append(said)

    def show(self, text: str) -> None:
        self.texts.append(text)

    def show_heading(self, said: Phrase) -> None:
        self.said.append(said)

    def show_rows(self, rows: Iterable[tuple[str, ...]], per_line: int = 1) -> None:
        self.rows.extend(rows)

    def progress(self, now: Any) -> None:
        self.steps.append(now)

    def waiting(self, percent: int | None) -> None:
        pass

    def reading(self, done: int, size: int) -> None:
        pass


Line = str | BaseException | Callable[[], str]


class Person:
    """Supplies `lines` and `answers`, and records both sides. Implements `Reader`."""

    def __init__(self, lines: Iterable[Line] = (), answers: Iterable[str] = (), *, is_interactive: bool = True) -> None:
        self.has_editor = self.is_interactive = is_interactive
        self.lines, self.answers = iter(lines), iter(answers)
        self.prefills: list[str] = []
        self.questions: list[str] = []
        self.pages: list[str] = []
        self.choice: int | None = None  # of a page

    def read(self, app: App, prefill: str = "") -> str:
        self.prefills.append(prefill)
        line = next(self.lines, None)
        if line is None:
            raise EOFError
        if isinstance(line, BaseException):
            raise line
        return line if isinstance(line, str) else line()

    def ask(self, question: str) -> str:
        self.questions.append(question)
        return next(self.answers, "")

    def flip(self, count: int, page: Callable[[int], Any], first: int, hint: str) -> int | None:
        self.pages = [page(index) for index in range(count)]
        return self.choice

    def refresh(self) -> None:
        pass

    def put_aside(self, call: Callable[[], None]) -> None:
        """No line is being read."""


def user(text: str) -> Utterance:
    return Utterance(Speaker.USER, text)


def system(text: str) -> Utterance:
    return Utterance(Speaker.SYSTEM, text)


@contextmanager
def refused(key: str) -> Iterator[None]:
    """Expect the BchatError with this key."""
    import pytest  # takes time, which the chat of `scripted_bchat` would spend at its start

    with pytest.raises(BchatError) as error:
        yield
    assert error.value.key == key


def drain(events: Generator[Event, None, None]) -> Shown:
    """All events of a reply."""
    shown = Shown()
    for event in events:
        shown.take(event)
    return shown


def make_app(session: Session, conversations: Path, answers: Sequence[str] = ()) -> tuple[App, Shown]:
    """A chat and its output for tests of commands. `answers`: to the questions, in order."""
    shown = Shown()
    loader = ModelLoader(session.entry, open_scripted)
    app = App(
        session=session,
        loader=loader,
        prefetch=PromptPrefetch(session, loader),
        config=load_config(environment={}),
        conversations=conversations,
        screen=shown,
        reader=Person(answers=answers),
    )
    return app, shown


def open_scripted(entry: ModelEntry, progress: Progress | None = None) -> Model:
    return Model(entry, tokenizer(), ScriptedEngine())
