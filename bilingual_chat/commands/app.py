"""The App: all parts of a chat, built in one function; and the types of the commands that work on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError
from bilingual_chat.session.compare import Variant
from bilingual_chat.session.model_loader import ModelLoader, Open
from bilingual_chat.session.prefetch import PromptPrefetch
from bilingual_chat.session.session import Session
from bilingual_chat.settings.catalogue import ModelEntry
from bilingual_chat.settings.config import Config, Settings, SettingsChange
from bilingual_chat.text.conversation import Utterance

# Importing hub takes 20 ms, for which the first prompt would wait.
if TYPE_CHECKING:
    from bilingual_chat.commands.first_run import Offer
    from bilingual_chat.hub.background import BackgroundDownload
    from bilingual_chat.hub.download import Progress

Rows = list[tuple[str, ...]]


@dataclass(frozen=True)
class Page:
    """A page to flip to. `text`: (style, text) pairs; the style "here" keeps its line on the screen."""

    text: Sequence[tuple[str, str]]
    heading: str = ""
    rows: Rows = field(default_factory=list)
    note: str = ""


class Screen(Protocol):
    """Shows what bchat itself says. `terminal.display.Display` is one."""

    lang: str

    @property
    def has_color(self) -> bool: ...

    def text(self, said: Phrase | BchatError) -> str:
        """Return a sentence in `lang`."""

    def say(self, said: Phrase | BchatError) -> None: ...

    def show(self, text: str) -> None:
        """Show text of any origin."""

    def show_heading(self, said: Phrase) -> None: ...

    def show_rows(self, rows: Iterable[tuple[str, ...]], per_line: int = 1) -> None:
        """Show a table; `per_line` rows side by side where they fit."""

    def progress(self, now: Progress) -> None:
        """Show the progress of a download."""

    def waiting(self, percent: int | None) -> None:
        """Show how much of the model is loaded, None if unknown; 100 removes the line."""

    def reading(self, done: int, size: int) -> None:
        """Show how many tokens of a long prompt are prefilled."""


class Reader(Protocol):
    """Reads the lines of a chat. `terminal.editor.Editor` and the classes in `terminal.reader` are ones."""

    has_editor: bool  # a line can start with a text for the user to change, and a toolbar stands below it
    is_interactive: bool

    def read(self, app: App, prefill: str = "") -> str:
        """Return the next line. EOFError at the end; KeyboardInterrupt when the user gives up an empty line or an edit.

        A reader with an editor also loads the model, and reports what is being typed to the prefetch.
        """

    def ask(self, question: str) -> str:
        """Return the answer to a question of bchat's own, "" for none."""

    def flip(self, count: int, page: Callable[[int], str | Page], first: int, hint: str) -> int | None:
        """Show one of `count` pages at a time; return the index of the one that the user chose, None for none.

        page: the text of a page, of any origin. hint: the keys, shown below it. Only a reader with an editor can.
        """

    def refresh(self) -> None:
        """Draw the toolbar again. Any thread may call this."""

    def put_aside(self, call: Callable[[], None]) -> None:
        """Call `call` with the line put aside, if one is being read. Any thread may call this."""


@dataclass
class Downloads:
    """The background download of a chat, and the offer of one."""

    offer: Offer | None = None  # the next line may answer it
    current: BackgroundDownload | None = None  # running, or finished and not yet reported

    @property
    def running(self) -> BackgroundDownload | None:
        return self.current if self.current and not self.current.is_finished else None


@dataclass
class App:
    """One chat. `build_app` makes it, commands work on it, `terminal.chat` runs it."""

    session: Session
    loader: ModelLoader
    prefetch: PromptPrefetch
    config: Config
    conversations: Path
    screen: Screen
    reader: Reader
    downloads: Downloads = field(default_factory=Downloads)
    compared: tuple[Variant, ...] = ()  # /take chooses from these
    compared_words: str = ""  # the message that they answered

    @property
    def lang(self) -> str:
        return self.screen.lang

    @property
    def is_busy(self) -> bool:
        """True while the toolbar may change although no key is pressed."""
        return self.loader.is_loading or bool(self.downloads.running)

    def text(self, phrase: Phrase) -> str:
        return self.screen.text(phrase)

    def say(self, said: Phrase | BchatError) -> None:
        self.screen.say(said)

    def show(self, text: str) -> None:
        self.screen.show(text)

    def show_heading(self, said: Phrase) -> None:
        self.screen.show_heading(said)

    def show_rows(self, rows: Iterable[tuple[str, ...]], per_line: int = 1) -> None:
        self.screen.show_rows(rows, per_line)

    def ask(self, question: Phrase) -> str:
        return self.reader.ask(self.text(question))


def build_app(
    config: Config,
    entry: ModelEntry,
    settings: Settings,
    *,
    open_model: Open,
    conversations: Path,
    screen: Screen,
    reader: Reader,
    opening: tuple[Utterance, ...] = (),
) -> App:
    """Return a chat with `entry`, whose conversation is kept in the directory `conversations`.

    Screen and reader come first, then each part gets those that it reports to: nothing is connected later.
    """
    loader = ModelLoader(entry, open_model, on_wait=screen.waiting)
    session = Session(
        loader.obtain, settings, entry=entry, directory=conversations, opening=opening, on_prefill=screen.reading
    )
    prefetch = PromptPrefetch(session, loader, on_progress=reader.refresh)
    return App(session, loader, prefetch, config, conversations, screen, reader)


# -- the loop's next step after a command --------------------------------------------------------------


@dataclass(frozen=True)
class Retry:
    """Answer the last message again, with a change of settings for this reply only."""

    change: SettingsChange


@dataclass(frozen=True)
class Continue:
    """Continue the last reply, with a change of settings for this time only."""

    change: SettingsChange


@dataclass(frozen=True)
class Branch:
    """Give another reply, with candidate `rank` in place of token `number` of the last one (both from 1)."""

    number: int
    rank: int


@dataclass(frozen=True)
class Edit:
    """Put this text into the input line. With `replaces_last`, sending it undoes the last turn first."""

    text: str
    replaces_last: bool


@dataclass(frozen=True)
class Leave:
    """Close the conversation and exit."""


@dataclass(frozen=True)
class Compare:
    """Answer the last message once for each variant, without changing the conversation."""

    variants: tuple[Variant, ...]
    marks_differences: bool = False


@dataclass(frozen=True)
class Differences:
    """Show compared replies again, with what differs from the first one marked."""

    texts: tuple[str, ...]
    labels: tuple[str, ...]


Action = Retry | Continue | Branch | Edit | Compare | Differences | Leave | None


@dataclass(frozen=True)
class Command:
    """One row of the command table. /help and the README show `arguments`; optional ones are in brackets.

    Its sentences in `messages/commands.json`: `command.NAME`, `brief.NAME` (for the list of /help), and, if it takes an
    argument, `examples.NAME`. `choices` returns completions with descriptions; "file" completes a path.
    """

    name: str
    run: Callable[[App, str], Action]
    arguments: str = ""
    aliases: tuple[str, ...] = ()
    choices: Callable[[App, str], Iterable[tuple[str, str]]] | str | None = None
    takes_several: bool = False  # several `choices` in a row

    @property
    def usage(self) -> str:
        return f"/{self.name} {self.arguments}".rstrip()

    @property
    def description(self) -> Phrase:
        return Phrase(f"command.{self.name}")
