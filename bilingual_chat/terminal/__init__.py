"""The terminal: chat loop, line editor, display."""
