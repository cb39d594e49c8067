"""Figures of runs, drawn from their files."""
