"""Weights: files, reading, quantizing, converting, the cache of converted weights."""
