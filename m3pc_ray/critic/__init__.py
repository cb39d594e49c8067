"""The IQL critic that guides M³PC-Q."""
