"""Engines: token ids in, token ids out. `protocol` is the seam; `local` is the engine of GPT-NeoX models."""
