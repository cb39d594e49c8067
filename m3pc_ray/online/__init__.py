"""Online finetuning: the roles as plain classes, and the loop that runs them in one process (`--serial`).

`actors/` runs the same classes on Ray. Nothing in here imports Ray.
"""
