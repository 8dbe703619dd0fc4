"""Slash commands. `table` lists them."""
