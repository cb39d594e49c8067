"""How a run goes: its live status, what limits it, and what becomes of it when roles are killed on purpose."""
