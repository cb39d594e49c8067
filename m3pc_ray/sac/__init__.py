"""Soft actor-critic on Stable-Baselines3: plain, and with an ensemble of critics and offline data (RLPD)."""
