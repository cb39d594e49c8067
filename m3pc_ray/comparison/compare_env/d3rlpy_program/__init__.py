"""d3rlpy's methods trained as `comparison.methods.d3rlpy` asks: `python -m d3rlpy_program FOLDER`."""
