"""One conversation and its turns. READ FIRST: `session`."""
