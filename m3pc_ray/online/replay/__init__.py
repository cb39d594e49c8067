"""What was collected: fragments, their log on disk, the role that keeps it, and the learner's copy of it."""
