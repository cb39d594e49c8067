"""The commands of `m3pc`, one module a command; `m3pc_ray.cli` finds them by their names.

A command module has `SUMMARY` (one line), `add_arguments(parser)` and `run(arguments) -> int` (the exit code). It is
imported for `m3pc --help` too, so anything slow to import belongs inside `run`. Names with an underscore are helpers.
"""
