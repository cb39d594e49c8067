"""Evaluation: episodes to scores, and diagnostics of why planning helps or does not."""
