"""What the trajectory model's encoder is worth to another learner: offline TD3 on observations and on its tokens."""
