"""Decisions of a run, computed again from what was recorded of them."""
