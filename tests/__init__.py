"""The tests of bchat: `python3 -m tests`."""
