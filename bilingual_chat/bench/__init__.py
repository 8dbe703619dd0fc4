"""Measurements of a model on this machine: speed, memory bandwidth, quality."""
