"""Training: the trajectory model, the critic, run folders and checkpoints."""
