"""One conversation and its turns. Read `session.session` first."""
