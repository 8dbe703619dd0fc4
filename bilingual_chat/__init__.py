"""bchat: chat in Japanese and English with rinna's GPT-NeoX models, in the terminal."""

__version__ = "0.1.0"
