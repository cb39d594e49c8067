"""Sweeps of settings on Ray Tune, and what they conclude."""
