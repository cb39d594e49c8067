"""The roles of `m3pc_ray.online` on Ray, one file a role, and `online_run`, which drives them.

Roles are plain classes here too; `online_run` wraps them with `ray.remote`. Nothing imports RLlib.
"""
