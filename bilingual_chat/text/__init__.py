"""Text as values: conversations, prompts, token ids and pieces. Nothing here opens a window or a model."""
