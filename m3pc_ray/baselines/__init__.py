"""What the trajectory model is compared with: plain feed-forward models trained on the same data."""
