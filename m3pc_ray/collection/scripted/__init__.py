"""Scripted experts for the manipulation tasks: they play from observations alone, without a look at the simulator."""
