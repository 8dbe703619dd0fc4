"""Models that a server computes: token ids both ways, over HTTP."""
