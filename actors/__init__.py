"""The roles of `m3pc_ray.online` as Ray actors, one file a role."""
