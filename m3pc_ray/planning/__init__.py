"""Test-time planning: forward M³PC (Algorithm 1), its utility, and the inference it is built on."""
