"""Conversations as files: journal, document, export, history."""
