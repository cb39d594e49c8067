"""What runs in the environment of `make compare-env`, and never in ours: d3rlpy needs another gymnasium.

This folder goes onto that environment's module path, so what is in it imports nothing of `m3pc_ray`: with our packages
on its path, the other environment would find ours before its own. Both sides share file formats instead;
docs/comparison.md has them.
"""
