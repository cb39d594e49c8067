"""Goals for backward planning: waypoints, the tasks that are made of them, and which goal is asked for when."""
