"""bchat: chat in Japanese and English with rinna's GPT-NeoX models. docs/api.md describes this Python API.

import bilingual_chat as bchat

model = bchat.open("demo")
for piece in model.chat().reply("Hello!", temperature=0.7):
    print(piece, end="")
"""

import typing as _typing

if _typing.TYPE_CHECKING:
    from bilingual_chat.session.api import (
        BchatError,
        Chat,
        Completion,
        DecodingSettings,
        FinishReason,
        Model,
        Prompt,
        Turn,
        open,
    )

__version__ = "0.1.0"
__all__ = [
    "BchatError",
    "Chat",
    "Completion",
    "DecodingSettings",
    "FinishReason",
    "Model",
    "Prompt",
    "Turn",
    "__version__",
    "open",
]


def __getattr__(name: str) -> object:
    """Import the API at its first use, so that `bchat --help` and the set-up start at once."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from bilingual_chat.session import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted(__all__)
