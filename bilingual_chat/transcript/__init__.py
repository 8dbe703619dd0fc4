"""Conversations as files: journal, document, export, history. The only room that writes the user's data."""
