"""Making data sets: whoever acts is a `Source` of episodes; what it plays becomes a store and a D4RL file."""
