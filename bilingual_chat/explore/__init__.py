"""Explore decoding settings: run a sweep over prompts, report statistics, replay replies, judge them in pairs."""
