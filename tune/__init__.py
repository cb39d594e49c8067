"""Sweeps of settings on Ray Tune, and what they conclude. The package is empty until sweeps exist."""
