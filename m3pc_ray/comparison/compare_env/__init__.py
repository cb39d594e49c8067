"""What runs in the environment of `make compare-env`: d3rlpy needs another gymnasium than ours.

This folder goes onto that environment's module path, so what is in it imports nothing of `m3pc_ray`: with our packages
on its path, the other environment would find ours before its own. Both sides share file formats instead;
docs/comparison.md has them. `messages.py`, which needs Python alone, serves RLlib's program (`actors`) too.
"""
